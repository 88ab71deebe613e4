"""Local text embeddings on ONNX Runtime: the vectors of sentence-transformers, without PyTorch.

Names are loaded when first used, so that importing the package takes milliseconds.

Example:
    >>> from neuralcore.embedding import EmbeddingEngine  # doctest: +SKIP
    >>> engine = EmbeddingEngine.from_pretrained("all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> engine.embed("one text").shape  # doctest: +SKIP
    (384,)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import AsyncEmbeddingEngine
    from .backends.onnx.quantize import detect_quantization, quantize_model
    from .config import Dense, ModelConfig, PoolingStrategy
    from .engine import EmbeddingEngine
    from .errors import (
        DependencyMissing,
        EmbeddingError,
        FingerprintMismatch,
        InferenceError,
        InputError,
        ModelCorrupt,
        ModelUnavailable,
        OutOfMemory,
        Overloaded,
        ProviderUnavailable,
        UnsupportedModel,
        VerificationFailed,
    )
    from .fingerprint import Fingerprint, check_fingerprint
    from .precision.agreement import Agreement
    from .providers import GpuOptions
    from .types import EmbeddingType, Precision, TokenBatch
    from .verify import verify_model

__version__ = "0.1.0"

_MODULE_OF = {
    "EmbeddingEngine": "engine",
    "AsyncEmbeddingEngine": "aio",
    "EmbeddingType": "types",
    "TokenBatch": "types",
    "Precision": "types",
    "GpuOptions": "providers",
    "Agreement": "precision.agreement",
    "Fingerprint": "fingerprint",
    "check_fingerprint": "fingerprint",
    "detect_quantization": "backends.onnx.quantize",
    "quantize_model": "backends.onnx.quantize",
    "verify_model": "verify",
    "ModelConfig": "config",
    "PoolingStrategy": "config",
    "Dense": "config",
    "DependencyMissing": "errors",
    "EmbeddingError": "errors",
    "FingerprintMismatch": "errors",
    "InferenceError": "errors",
    "InputError": "errors",
    "ModelCorrupt": "errors",
    "ModelUnavailable": "errors",
    "OutOfMemory": "errors",
    "Overloaded": "errors",
    "ProviderUnavailable": "errors",
    "UnsupportedModel": "errors",
    "VerificationFailed": "errors",
}

__all__ = [  # noqa: RUF022 - the one noun first, then what it takes, then errors
    "EmbeddingEngine",
    "AsyncEmbeddingEngine",
    "EmbeddingType",
    "ModelConfig",
    "PoolingStrategy",
    "Dense",
    "Precision",
    "GpuOptions",
    "TokenBatch",
    "quantize_model",
    "detect_quantization",
    "verify_model",
    "Agreement",
    "Fingerprint",
    "check_fingerprint",
    "EmbeddingError",
    "UnsupportedModel",
    "ModelUnavailable",
    "ModelCorrupt",
    "InputError",
    "ProviderUnavailable",
    "DependencyMissing",
    "VerificationFailed",
    "FingerprintMismatch",
    "OutOfMemory",
    "Overloaded",
    "InferenceError",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULE_OF[name] != "errors":
        import_module(".memory", __name__).prepare()
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
