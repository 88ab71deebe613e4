"""Every environment variable this package reads, and nothing else.

| variable | meaning |
|---|---|
| NEURALCORE_CACHE | folder for models; default: the user's cache folder |
| HF_ENDPOINT | address of a self-hosted mirror of the Hub, with its http:// or https:// |
| HF_HUB_OFFLINE | 1, true, yes or on: no network call at all |
| NEURALCORE_ISA | instruction set of the native kernels, e.g. avx2; none: ONNX Runtime; default: the fastest |
| NEURALCORE_PROFILE | 1, true, yes or on: at exit, what each stage of the native kernels took, on standard error |
| NEURALCORE_API_KEY | key that clients of `neuralcore serve` must send; set and empty is an error |
| _NEURALCORE_COMPLETE | set by a shell that asks the command line how a word goes on |
| ORT_DISABLE_TELEMETRY | ONNX Runtime's own; taken as 1 here unless it is set |

The Hub's client also reads its own variables (HF_TOKEN, HF_HOME, HF_HUB_CACHE, proxies), and pip its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from .errors import InputError

_ADVICE = "name one with NEURALCORE_CACHE or cache_dir= (--cache-dir)"
COMPLETION = "_NEURALCORE_COMPLETE"

API_KEY = "NEURALCORE_API_KEY"


def cache_override() -> Path | None:
    """The folder named by NEURALCORE_CACHE, if any."""
    value = os.environ.get("NEURALCORE_CACHE")
    return expanded(value) if value else None


def default_cache() -> Path:
    """The user's cache folder for models, e.g. ~/.cache/neuralcore on Linux. Never the temp folder.

    Raises:
        InputError: the user has no home, as in a container whose user id has no name.
    """
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("neuralcore", appauthor=False)).expanduser()
    except RuntimeError as error:
        raise InputError(f"this user has no home, so there is no folder to keep models in: {_ADVICE}") from error


def expanded(path: str | PathLike[str]) -> Path:
    """A path of the user's, with the home that ~ stands for.

    Raises:
        InputError: there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"no home is known for the ~ of {str(path)!r}: name the folder in full") from error


def of_child(**more: str) -> dict[str, str]:
    """The environment for a program that is started from here: this one's, with some variables set."""
    return {**os.environ, **more}


def endpoint() -> str | None:
    """Address of the mirror named by HF_ENDPOINT, if any."""
    return os.environ.get("HF_ENDPOINT") or None


def offline() -> bool:
    """Whether HF_HUB_OFFLINE asks for no network."""
    return _is_on("HF_HUB_OFFLINE")


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def isa() -> str | None:
    """The instruction set named by NEURALCORE_ISA, if any."""
    return os.environ.get("NEURALCORE_ISA", "").lower() or None


def profile() -> bool:
    """Whether NEURALCORE_PROFILE asks where the kernels' time goes."""
    return _is_on("NEURALCORE_PROFILE")


def api_key() -> str | None:
    """The key that clients of the server must send, by NEURALCORE_API_KEY; empty if the variable is."""
    return os.environ.get(API_KEY)


def completion() -> str | None:
    """What a shell asks for, as click names it, if it is a shell that runs this process."""
    return os.environ.get(COMPLETION)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Import onnxruntime in this block: since 1.29 it sends usage data from Linux, too, unless told not to.

    Its uploading thread also makes a forked child hang when it leaves through `sys.exit()`. The variable is read once,
    at the import, and set for that moment only; a value of the user's is left alone.
    """
    name = "ORT_DISABLE_TELEMETRY"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
