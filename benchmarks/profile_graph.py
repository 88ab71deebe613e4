"""Where ONNX Runtime spends its time in a model: share of each kind of operation, and how fast it computes overall.

python -m benchmarks.profile_graph --model all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from neuralcore.embedding import Precision
from neuralcore.embedding.backends.onnx import session
from neuralcore.embedding.precision.graphs import ensure_graph
from neuralcore.embedding.store import make_store
from neuralcore.embedding.store.folder import ModelFolder

from .machine import cpu_model, keep_to_cores
from .models import find_folder
from .report import print_table, seconds

_SHAPES = ((1, 16), (16, 28), (8, 128))
_WARM_UPS = 3
Feeds = dict[str, NDArray[np.int64]]


def main() -> None:
    args = _parse_args()
    keep_to_cores(args.threads)
    folder = find_folder(args.model)
    path = _path(args.model, Precision(args.precision))
    results = [_measure(path, ModelFolder(folder).architecture, shape, args) for shape in args.shapes]
    shares = _without_trifles([share for share, _, _ in results])
    header = ["", *(f"{n_texts} x {n_tokens}" for n_texts, n_tokens in args.shapes)]
    names = sorted(set().union(*shares), key=lambda name: -sum(share[name] for share in shares))
    rows = [[name, *(f"{share[name]:.1%}" for share in shares)] for name in names]
    rows.append(["time of a run", *(seconds(run_s) for _, run_s, _ in results)])
    rows.append(["GFLOP/s, or GOP/s", *(f"{gflops:.0f}" for _, _, gflops in results)])
    print_table(
        f"{args.precision}, {args.threads} thread(s), {cpu_model()}, ONNX Runtime {ort.__version__}", header, rows
    )


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_graph", description="Profile a model's graph.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name; a BERT or MPNet model")
    parser.add_argument("--precision", default="fp32", choices=list(Precision))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--shapes", type=_shape, nargs="+", default=_SHAPES, metavar="TEXTSxTOKENS")
    return parser.parse_args()


def _path(model: str, precision: Precision) -> Path:
    store = make_store()
    return ensure_graph(store, store.ensure(model), precision).model_path


def _shape(text: str) -> tuple[int, int]:
    n_texts, n_tokens = map(int, text.split("x"))
    return n_texts, n_tokens


def _measure(
    path: Path, architecture: Mapping[str, int], shape: tuple[int, int], args: argparse.Namespace
) -> tuple[Counter[str], float, float]:
    """Share of time by kind of operation, seconds of a run without profiling, and GFLOP/s from it."""
    options = session._options(args.threads)
    plain = session._open(path, options, ["CPUExecutionProvider"])
    run_s = min(_run(plain, shape, args.runs))
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        profiled = session._open(path, options, ["CPUExecutionProvider"])
        _run(profiled, shape, args.runs)
        events = json.loads(Path(profiled.end_profiling()).read_bytes())
    return _shares(events), run_s, _n_operations(architecture, *shape) / run_s / 1e9


def _run(model: ort.InferenceSession, shape: tuple[int, int], runs: int) -> list[float]:
    feeds = _feeds(model, shape)
    times = []
    for _ in range(_WARM_UPS + runs):
        begin = time.perf_counter()
        model.run(["sentence_embedding"], feeds)
        times.append(time.perf_counter() - begin)
    return times[_WARM_UPS:]


def _feeds(model: ort.InferenceSession, shape: tuple[int, int]) -> Feeds:
    ids = np.random.default_rng(0).integers(1000, 20_000, shape)
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {node.name: values[node.name] for node in model.get_inputs()}


def _shares(events: list[dict[str, Any]]) -> Counter[str]:
    durations: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["args"]["op_name"], event["name"]].append(event["dur"])
    totals: Counter[str] = Counter()
    for (kind, _), times in durations.items():
        totals[kind] += sum(times[_WARM_UPS:])
    return Counter({kind: total / totals.total() for kind, total in totals.items()})


def _without_trifles(shares: Sequence[Counter[str]]) -> list[Counter[str]]:
    """Kinds that nowhere take as much as 1%, as one kind."""
    kept = {name for share in shares for name, part in share.items() if part >= 0.01}
    return [Counter({n: share[n] for n in kept} | {"others": 1 - sum(share[n] for n in kept)}) for share in shares]


def _n_operations(architecture: Mapping[str, int], n_texts: int, n_tokens: int) -> int:
    """Multiplications and additions of the matrix products: four projections, two of the FFN, scores and their sums."""
    hidden, inner = architecture["hidden_size"], architecture["intermediate_size"]
    products = 4 * hidden * hidden + 2 * hidden * inner + 2 * n_tokens * hidden
    n_layers = architecture["num_hidden_layers"]
    return 2 * n_texts * n_tokens * n_layers * products


if __name__ == "__main__":
    main()
