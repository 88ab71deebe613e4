"""Texts that show a model's activations: what ships with the package, unless the user gives some of their own."""

from __future__ import annotations

from importlib.resources import files

_RUN_LINES = 8


def calibration_texts() -> list[str]:
    """The lines of calibration.txt, and runs of neighbouring lines as longer texts."""
    lines = files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8").splitlines()
    runs = [" ".join(lines[start : start + _RUN_LINES]) for start in range(0, len(lines), _RUN_LINES)]
    return [*lines, *runs]
