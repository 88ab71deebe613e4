"""Writes what `benchmarks.run --json` found as the tables of docs/performance.md.

python -m benchmarks.markdown results.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .floor import Work, floor_s, share_of_peak
from .report import mebibytes, seconds
from .summary import Summary, summarize

_WORDS = {
    "one": "one text",
    "seed-100": "one sentence x100",
    "seed-1000": "one sentence x1000",
    "sentences-100": "100 sentences",
    "sentences-1000": "1,000 sentences of prose",
    "raw-1000": "1,000 sentences, tables and code among them",
    "paragraphs-100": "100 paragraphs",
    "paragraphs-1000": "1,000 paragraphs",
    "abstracts-400": "400 abstracts",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.markdown", description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="what `benchmarks.run --json` wrote")
    print(write_tables(json.loads(parser.parse_args().results.read_bytes())))


def write_tables(document: Mapping[str, Any]) -> str:
    """One table of times, with the ratio to the reference and the share of the peak, and one of floors."""
    found = {target: summarize([each[target] for each in document["rounds"]]) for target in document["rounds"][0]}
    ran = {target: summary for target, summary in found.items() if not summary.could_not_run}
    work, peaks = {name: Work(**own) for name, own in document["work"].items()}, document["peaks"]
    base = ran[document["reference"]]
    names = list(base.best_s)
    rows = [_row(_words(name, work[name]), _times(name, ran, base, work[name], peaks)) for name in names]
    rows.append(_row("start to first vector", [_time(each.start_s, base.start_s) for each in ran.values()]))
    rows.append(_row("memory when loaded", [mebibytes(each.loaded_bytes) for each in ran.values()]))
    rows.append(_row("peak memory", [mebibytes(each.peak_bytes) for each in ran.values()]))
    cosines = [f"{document['agreement'][target]['min_cosine']:.6f}" for target in ran]
    rows.append(_row(f"lowest cosine to {base.name}", cosines))
    table = _table([summary.name for summary in ran.values()], rows)
    return f"{table}\n\n{_floors(work, peaks)}" if peaks else table


def _words(name: str, work: Work) -> str:
    return f"{_WORDS[name]}, {work.tokens:,} tokens"


def _times(
    name: str, ran: Mapping[str, Summary], base: Summary, work: Work, peaks: Mapping[str, float]
) -> Sequence[str]:
    cells = []
    for target, each in ran.items():
        share = share_of_peak(work, peaks, target, min(each.best_s[name]))
        cells.append(_time(each.best_s[name], base.best_s[name]) + (f" {share:.0%}" if share else ""))
    return cells


def _time(own: Sequence[float], base: Sequence[float]) -> str:
    ratio = median(theirs / each for each, theirs in zip(own, base, strict=True))
    return seconds(min(own)) + (f" **{ratio:.1f}x**" if own is not base else "")


def _floors(work: Mapping[str, Work], peaks: Mapping[str, float]) -> str:
    header = [f"{precision}, {peak / 1e9:.0f} GOP/s" for precision, peak in peaks.items()]
    both = (False, True)
    rows = [
        _row(
            _words(name, own),
            [" / ".join(seconds(floor_s(own, peaks, each, attention=told) or 0) for told in both) for each in peaks],
        )
        for name, own in work.items()
    ]
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([_row("", header), _row("---", ["---"] * len(header)), *rows])


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |".replace("|  |", "| |")


if __name__ == "__main__":
    main()
