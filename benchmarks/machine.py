"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_MODULES = {
    "neuralcore.embedding": "neuralcore-embedding",
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "tokie": "tokie",
    "numpy": "numpy",
    "torch": "torch",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "fastembed": "fastembed",
    "openvino": "openvino",
}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, system, and how busy it is."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def loaded_versions() -> dict[str, str]:
    """Versions of the libraries this process has loaded."""
    return {package: version(package) for module, package in _MODULES.items() if module in sys.modules}


def cpu_model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def keep_to_cores(n_cores: int) -> None:
    """Keep this process and its threads on so many cores, so that no helper thread is a core more."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[:n_cores])
