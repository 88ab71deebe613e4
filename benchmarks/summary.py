"""From the measurements of several rounds to the rows of one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .agreement import Agreement
from .floor import Work, floor_s, share_of_peak
from .report import mebibytes, seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """One target over all rounds. `start_s` and each list of `best_s` hold one number a round."""

    name: str
    start_s: list[float] = field(default_factory=list)
    best_s: dict[str, list[float]] = field(default_factory=dict)
    loaded_bytes: int = 0
    peak_bytes: int = 0
    could_not_run: str = ""


def summarize(results: Sequence[Mapping[str, Any]]) -> Summary:
    """Bring a target's rounds together."""
    failures = [result["could_not_run"] for result in results if "could_not_run" in result]
    if failures:
        return Summary(results[0]["target"], could_not_run=failures[0])
    names = results[0]["workloads"]
    return Summary(
        name=results[0]["name"],
        start_s=[result["start_s"] for result in results],
        best_s={name: [result["workloads"][name]["best_s"] for result in results] for name in names},
        loaded_bytes=int(median(result["loaded_bytes"] for result in results)),
        peak_bytes=max(result["peak_bytes"] for result in results),
    )


def as_rows(
    summaries: Mapping[str, Summary],
    agreements: Mapping[str, Agreement],
    reference: str,
    work: Mapping[str, Work],
    peaks: Mapping[str, float],
) -> list[list[str]]:
    """One row a measure, one column a target."""
    base, columns = summaries[reference], summaries.values()

    def cells(name: str) -> Iterator[str]:
        for target, each in summaries.items():
            share = share_of_peak(work[name], peaks, target, min(each.best_s[name]))
            yield _cell(each.best_s[name], base.best_s[name]) + (f" {share:4.0%}" if share else "")

    agreed = [agreements[target] for target in summaries]
    return [
        *([name, *cells(name)] for name in base.best_s),
        ["start to first vector", *(_cell(each.start_s, base.start_s) for each in columns)],
        ["memory when loaded", *(mebibytes(each.loaded_bytes) for each in columns)],
        ["peak memory", *(mebibytes(each.peak_bytes) for each in columns)],
        ["lowest cosine", *(f"{agreement.min_cosine:.6f}" for agreement in agreed)],
        ["largest difference", *(f"{agreement.max_difference:.1e}" for agreement in agreed)],
    ]


def floor_rows(work: Mapping[str, Work], peaks: Mapping[str, float]) -> list[list[str]]:
    """One row a workload: its tokens, then the least time of each precision, without and with attention."""
    return [
        [name, f"{each.tokens:,}", *(_floors(each, peaks, precision) for precision in peaks)]
        for name, each in work.items()
    ]


def _floors(work: Work, peaks: Mapping[str, float], precision: str) -> str:
    return ", ".join(seconds(floor_s(work, peaks, precision, attention=attention) or 0) for attention in (False, True))


def _cell(times: Sequence[float], base: Sequence[float]) -> str:
    # The ratio is taken within each round, so that a machine that slows down from round to round does not matter.
    ratio = median(theirs / own for own, theirs in zip(times, base, strict=True))
    middle = f" ({seconds(median(times))})" if len(times) > 1 else ""
    return f"{seconds(min(times))}{middle} {ratio:5.2f}x"
