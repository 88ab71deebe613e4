"""Every environment variable this package reads, and nothing else.

| variable | meaning |
|---|---|
| NEURALCORE_CACHE | folder for models; default: the user's cache folder |
| HF_ENDPOINT | address of a self-hosted mirror of the Hub |
| HF_HUB_OFFLINE | 1, true, yes or on: no network call at all |

The Hub's client also reads its own variables (HF_TOKEN, HF_HOME, HF_HUB_CACHE, proxies), and pip its own.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_override() -> Path | None:
    """The folder named by NEURALCORE_CACHE, if any."""
    value = os.environ.get("NEURALCORE_CACHE")
    return Path(value).expanduser() if value else None


def default_cache() -> Path:
    """The user's cache folder for models, e.g. ~/.cache/neuralcore on Linux. Never the temp folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("neuralcore", appauthor=False))


def endpoint() -> str | None:
    """Address of the mirror named by HF_ENDPOINT, if any."""
    return os.environ.get("HF_ENDPOINT") or None


def offline() -> bool:
    """Whether HF_HUB_OFFLINE asks for no network."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
