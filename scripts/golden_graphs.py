"""Write what transformers computes for the random checkpoints of tests/checkpoints.py.

Run where PyTorch and transformers are installed (not needed by the tests):

    python scripts/golden_graphs.py tests/golden/graphs.npz
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray


def main() -> None:
    """Load each checkpoint as transformers loads a folder, so that its own renaming of tensors is the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()

    sys.path.append(str(Path(__file__).resolve().parents[1]))
    checkpoints = import_module("tests.checkpoints")
    states: dict[str, NDArray[Any]] = {}
    for name, maker in checkpoints.MAKERS.items():
        with TemporaryDirectory() as folder:
            maker(checkpoints.SEEDS[name]).save(Path(folder), reference=True)
            states |= _hidden_states(name, folder, checkpoints.batches(name))
    about = {"torch": torch.__version__, "transformers": transformers.__version__}
    states["about"] = np.array(json.dumps(about))
    np.savez_compressed(args.output, allow_pickle=False, **states)
    print(f"{args.output}: {args.output.stat().st_size:,} bytes, {about}")


def _hidden_states(name: str, folder: str, batches: dict[str, Any]) -> dict[str, NDArray[Any]]:
    model, report = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False, output_loading_info=True
    )
    if any(report.values()):
        raise SystemExit(f"{name} was not loaded whole: {report}")
    model.eval()
    states = {}
    for shape, (ids, mask) in batches.items():
        with torch.no_grad():
            output = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        states[f"{name}/{shape}"] = output.last_hidden_state.numpy()
    return states


if __name__ == "__main__":
    main()
