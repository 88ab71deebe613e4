"""What runs a model: made from its source when first asked for, kept beside it."""

from __future__ import annotations

from ..backends.native.file import PACKED_SUFFIX
from ..errors import UnsupportedModel
from ..providers import Device
from ..store import Manifest, Store
from ..types import Backend, Precision
from .choice import decide


def ensure_variant(
    store: Store,
    source: Manifest,
    precision: Precision,
    *,
    backend: Backend = "auto",
    device: Device = "cpu",
    thorough: bool = False,
) -> Manifest:
    """A model in a precision, for the back end that runs it, ready to load.

    Args:
        store: where it is kept.
        source: what it is made from; itself what runs where an ONNX file or a table is used as it was found.
        precision: which one.
        backend: what is to run it.
        device: on what.
        thorough: compare every cached file with its SHA-256.

    Raises:
        VerificationFailed: it came out too far from its source; nothing is kept.
        UnsupportedModel: it cannot be made from this model, or what was named cannot run it.
        ProviderUnavailable: what was named is not here.
        ModelUnavailable: the checkpoint it is made from is gone, and cannot be had again.
    """
    if not source.is_checkpoint and source.model_path.suffix == PACKED_SUFFIX:
        _check_table(source, precision, backend)
        return source
    if decide(store, source, precision, backend, device) == "native":
        from .packed import ensure_packed

        return ensure_packed(store, source, precision, thorough=thorough)
    from .graphs import ensure_graph

    return ensure_graph(store, source, precision, thorough=thorough)


def _check_table(source: Manifest, precision: Precision, backend: Backend) -> None:
    if precision is not Precision.FP32:
        reason = "it is a table of vectors, of which a text needs a few rows: another precision would gain nothing"
        raise UnsupportedModel(source.config.name, f"{reason}; take fp32")
    if backend != "auto":
        reason = f"it is a table of vectors, which backend={backend!r} does not run"
        raise UnsupportedModel(source.config.name, f"{reason}; take backend='auto'")
