"""Which targets there are, and the interpreter of each. Nothing here needs this package: a target may lack it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

REFERENCE = "sentence_transformers_fp32"

_ROOT = Path(__file__).parent.parent
_OPENVINO = _ROOT / ".venv-openvino/bin/python"  # make .venv-openvino/.installed
_FILES = (path.stem for path in (_ROOT / "benchmarks/targets").glob("[a-z]*.py"))
TARGETS = sorted(_FILES, key=lambda name: (name != REFERENCE, name))


def pythons_of(options: Sequence[str]) -> dict[str, str]:
    """Interpreter by target; "" is the one for all others."""
    pairs = [option.rpartition("=") for option in options]
    of_openvino = {target: str(_OPENVINO) for target in TARGETS if "openvino" in target and _OPENVINO.exists()}
    unknown = {target for target, _, _ in pairs} - {"", *TARGETS}
    if unknown:
        sys.exit(f"--python: no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    return {"": sys.executable} | of_openvino | {target: path for target, _, path in pairs}
