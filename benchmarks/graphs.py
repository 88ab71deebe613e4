"""Which way of writing the graph is fastest: the same model with other attention and activation operators.

python -m benchmarks.graphs --model all-mpnet-base-v2

Each session has one thread. `alone`, one runs; `side by side`, as many as there are threads, and a cell is the time of
one run of each. The forms take turns, so what slows the machine down hits all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.store.folder import ModelFolder

from .graph_forms import ATTENTION, attention_as
from .machine import cpu_model, keep_to_cores
from .models import find_config, find_folder
from .report import print_table, seconds, show_progress

_SHAPES = ((1, 16), (16, 28), (8, 128))
_OUTPUT = "sentence_embedding"


@dataclass(frozen=True)
class Form:
    """One way: an attention of `graph_forms`, and fusions that ONNX Runtime shall leave out."""

    name: str
    attention: str = "as written"
    disabled: tuple[str, ...] = ("SkipLayerNormFusion",)


FORMS = (
    Form("as written"),
    Form("attention in one operator", "one operator"),
    Form("attention of plain operators", "plain operators"),
    Form("SkipLayerNormalization", disabled=()),
    Form("no BiasGelu", disabled=("SkipLayerNormFusion", "BiasGeluFusion")),
)


def main() -> None:
    args = _parse_args()
    keep_to_cores(args.threads)
    forms = [form for form in FORMS if not args.forms or form.name in args.forms]
    with tempfile.TemporaryDirectory() as folder:
        sessions = {form.name: _open(form, args.model, Path(folder) / str(i), args) for i, form in enumerate(forms)}
        _check(sessions)
        for n_sessions in sorted({1, args.threads}):
            title = "alone" if n_sessions == 1 else f"{n_sessions} side by side"
            times = _measure({name: own[:n_sessions] for name, own in sessions.items()}, args)
            header = ["", *(f"{n_texts} x {n_tokens}" for n_texts, n_tokens in _SHAPES)]
            rows = [[name, *(_cell(times[name, shape]) for shape in _SHAPES)] for name in sessions]
            print_table(f"{title}, 1 thread each, {cpu_model()}, ONNX Runtime {ort.__version__}", header, rows)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description="Compare forms of the graph.")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="folder or name; a BERT or MPNet model")
    parser.add_argument("--threads", type=int, default=2, help="sessions side by side")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--forms", nargs="+", choices=[form.name for form in FORMS])
    return parser.parse_args()


def _open(form: Form, model: str, folder: Path, args: argparse.Namespace) -> list[ort.InferenceSession]:
    show_progress(f"building {form.name}")
    source = ModelFolder(find_folder(model))
    folder.mkdir()
    path = folder / "model.onnx"
    with attention_as(ATTENTION[form.attention]):
        write_onnx(source.stack(), find_config(model), path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    disabled = list(form.disabled)
    return [
        ort.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=disabled)
        for _ in range(args.threads)
    ]


def _check(sessions: dict[str, list[ort.InferenceSession]]) -> None:
    feeds = _feeds((4, 20))
    expected = None
    for name, own in sessions.items():
        vectors = own[0].run([_OUTPUT], feeds)[0]
        expected = vectors if expected is None else expected
        if np.abs(vectors - expected).max() > 1e-5:
            raise SystemExit(f"{name} gives other vectors")


def _measure(
    sessions: dict[str, list[ort.InferenceSession]], args: argparse.Namespace
) -> dict[tuple[str, tuple[int, int]], list[float]]:
    times: dict[tuple[str, tuple[int, int]], list[float]] = {(n, s): [] for n in sessions for s in _SHAPES}
    with ThreadPoolExecutor(args.threads) as pool:
        for number in range(args.rounds):
            show_progress(f"round {number + 1} of {args.rounds}")
            for name, own in sessions.items():
                for shape in _SHAPES:
                    times[name, shape].append(_time(pool, own, shape))
    return times


def _time(pool: ThreadPoolExecutor, sessions: list[ort.InferenceSession], shape: tuple[int, int]) -> float:
    feeds = _feeds(shape)
    repeats = max(1, 1000 // (shape[0] * shape[1]))

    def run(session: ort.InferenceSession) -> None:
        for _ in range(repeats):
            session.run([_OUTPUT], feeds)

    list(pool.map(run, sessions))  # warm
    begin = time.perf_counter()
    list(pool.map(run, sessions))
    return (time.perf_counter() - begin) / repeats


def _feeds(shape: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    ids = np.random.default_rng(0).integers(1000, 20_000, shape)
    mask = np.ones_like(ids)
    mask[1:, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _cell(times: list[float]) -> str:
    return f"{seconds(min(times))} ({seconds(median(times))})"


if __name__ == "__main__":
    main()
