"""The least time that a model's products can take: their operations over what the cores' instructions reach.

The peak is measured by `bench_products --peaks` (native/bench/), a loop of each instruction, on all threads at once.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

TOOL = Path(__file__).parent.parent / "build/native/bench_products"
_PRECISIONS = ("int8", "bf16", "fp32")
_COUNTED_AS = {"fp16": "fp32"}  # halves are widened, and multiplied as fp32


@dataclass(frozen=True, slots=True)
class Work:
    """Of one workload: tokens, and operations (a multiplication and an addition are two)."""

    tokens: int
    products: float
    attention: float


def measure_peaks(threads: int) -> dict[str, float]:
    """Operations a second by precision, of so many cores at once; empty if the tool was not built."""
    if not TOOL.exists():
        return {}
    running = [subprocess.Popen([TOOL, "--peaks"], stdout=subprocess.PIPE, text=True) for _ in range(threads)]
    found = [_read_peaks(process.communicate()[0]) for process in running]
    return {precision: sum(each[precision] for each in found) for precision in found[0]}


def _read_peaks(printed: str) -> dict[str, float]:
    """The best instruction of each precision: `name ... precision number GOP/s`."""
    rows = [line.split() for line in printed.splitlines()]
    return {
        precision: max(float(row[-2]) * 1e9 for row in rows if row[-3] == precision)
        for precision in _PRECISIONS
        if any(row[-3] == precision for row in rows)
    }


def count_work(folder: Path, workloads: Mapping[str, Sequence[str]]) -> dict[str, Work]:
    """What each workload takes at least, without padding, of a model with the sizes that config.json names."""
    sizes = json.loads((folder / "config.json").read_bytes())
    hidden, wide, layers = (sizes[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "tokenizer_config.json").read_bytes())["model_max_length"])
    work = {}
    for name, texts in workloads.items():
        lengths = [len(encoding) for encoding in tokenizer.encode_batch(texts)]
        products = sum(lengths) * layers * 2.0 * (4 * hidden * hidden + 2 * hidden * wide)
        work[name] = Work(sum(lengths), products, layers * 4.0 * hidden * sum(n * n for n in lengths))
    return work


def floor_s(work: Work, peaks: Mapping[str, float], precision: str, *, attention: bool) -> float | None:
    """Seconds; None without a peak for the precision."""
    peak = peaks.get(_COUNTED_AS.get(precision, precision))
    return (work.products + attention * work.attention) / peak if peak else None


def counts_attention(precision: str) -> bool:
    """Whether a share of the peak counts attention: in fp32 it is computed as products are, in fewer bits it is not."""
    return precision in {"fp32", "fp16"}


def precision_of(target: str) -> str:
    """By the name of its file; what names none computes in fp32."""
    return next((part for part in target.split("_") if part in {"int8", "bf16", "fp16"}), "fp32")


def share_of_peak(work: Work, peaks: Mapping[str, float], target: str, time_s: float) -> float | None:
    """Of a target's time, end to end."""
    precision = precision_of(target)
    least = floor_s(work, peaks, precision, attention=counts_attention(precision))
    return least / time_s if least else None
