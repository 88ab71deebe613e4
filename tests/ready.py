"""Models that are ready to run, without an engine."""

from os import PathLike

from neuralcore.embedding.precision.graphs import ensure_graph
from neuralcore.embedding.precision.variants import ensure_variant
from neuralcore.embedding.store import Manifest, Store
from neuralcore.embedding.types import Precision


def ready_graph(store: Store, model: str | PathLike[str], *, thorough: bool = False, **options) -> Manifest:
    """A model's fp32 graph, for ONNX Runtime."""
    source = store.ensure(model, thorough=thorough, **options)
    return ensure_graph(store, source, thorough=thorough)


def ready_variant(store: Store, model: str | PathLike[str]) -> Manifest:
    """What an engine would open by default."""
    return ensure_variant(store, store.ensure(model), Precision.FP32)
