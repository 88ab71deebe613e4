"""A model for the native kernels: packed from the checkpoint when first asked for, compared, kept beside its source."""

from __future__ import annotations

from ..backends.native.format import PACK_VERSION
from ..store import Fill, Manifest, Store
from ..types import Precision
from .choice import native_name


def ensure_packed(store: Store, source: Manifest, precision: Precision, *, thorough: bool = False) -> Manifest:
    """A model packed for the kernels, ready to load.

    Args:
        store: where it is kept.
        source: a checkpoint that they run.
        precision: how its numbers are kept.
        thorough: compare every cached file with its SHA-256.

    Raises:
        VerificationFailed: it came out too far from fp32; nothing is kept.
        ModelUnavailable: the checkpoint it is made from is gone, and cannot be had again.
    """

    def begin() -> Fill:
        from .packing import begin_packing

        return begin_packing(store, source, precision)

    about = {"pack_version": PACK_VERSION}
    return store.ensure_variant(source, native_name(precision), about, begin, thorough=thorough)
