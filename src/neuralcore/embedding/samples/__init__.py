"""Texts of many kinds that ship with the package: to show a model's activations, and, others, to judge the result."""

from __future__ import annotations

from importlib.resources import files

_RUN_LINES = 8


def calibration_texts() -> list[str]:
    """Texts to calibrate INT8 with: single lines, and runs of neighbouring lines as long texts."""
    return _with_runs("calibration.txt")


def verification_texts() -> list[str]:
    """Texts to compare two models on; none of them is used for calibration."""
    return _with_runs("verification.txt")


def _with_runs(name: str) -> list[str]:
    lines = files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
    runs = [" ".join(lines[start : start + _RUN_LINES]) for start in range(0, len(lines), _RUN_LINES)]
    return [*lines, *runs]
