"""Write what sentence-transformers makes of the golden texts: vectors and token ids.

Run where sentence-transformers is installed (not needed by the tests):

    python scripts/golden_vectors.py all-MiniLM-L6-v2/ tests/golden/all-MiniLM-L6-v2.npz
"""

from __future__ import annotations

import argparse
import json
import runpy
from pathlib import Path

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers import __version__ as sentence_transformers_version


def main() -> None:
    """Encode each text alone, so that no vector depends on its neighbours' padding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a sentence-transformers model folder")
    parser.add_argument("output", type=Path, help="the .npz to write")
    args = parser.parse_args()

    golden_texts = runpy.run_path(str(Path(__file__).with_name("golden_texts.py")))
    texts: list[str] = golden_texts["TEXTS"]
    model = SentenceTransformer(str(args.model), device="cpu")
    vectors = model.encode(texts, batch_size=1, convert_to_numpy=True, show_progress_bar=True)
    ids = [model.preprocess([text])["input_ids"][0].numpy() for text in texts]
    about = {
        "sentence_transformers": sentence_transformers_version,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts_sha256": golden_texts["digest"](),
        "max_tokens": model.max_seq_length,
    }
    np.savez_compressed(
        args.output,
        vectors=vectors.astype(np.float32),
        ids=np.concatenate(ids).astype(np.int32),
        offsets=np.cumsum([0, *map(len, ids)]).astype(np.int64),
        about=np.array(json.dumps(about)),
    )
    print(f"{args.output}: {len(texts)} texts, {args.output.stat().st_size:,} bytes, {about}")


if __name__ == "__main__":
    main()
