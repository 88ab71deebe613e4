"""What an encoder is: from config.json and a checkpoint to a `Stack`, for one architecture in one file each.

A family is a module with

- `defaults(config)`, what its class in transformers 5 assumes for the keys that a config.json leaves out;
- `read_stack(config, checkpoint)`, which refuses what it does not know by name;
- `PREFIXES`, if need be: what a task model puts before its tensor names, `base_model_prefix` of its class and a dot.

It knows neither ONNX nor packing; both back ends take whatever `Stack` it reads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..documents import Document
from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from types import ModuleType

    from .checkpoint import Checkpoint
    from .stack import Stack

_MODULES = {
    "bert": "bert",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "eurobert": "llama",
    "gemma3_text": "gemma3",
    "gte": "gte",
    "jina_embeddings_v3": "jina_v3",
    "llama": "llama",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "new": "gte",
    "nomic_bert": "nomic_bert",
    "qwen2": "llama",
    "qwen3": "llama",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
}

MODEL_TYPES = tuple(_MODULES)
"""Each `model_type` of config.json that can be read."""


def read_stack(config: Document, checkpoint: Checkpoint) -> Stack:
    """What an encoder is. Its weights are read when they are asked for.

    Args:
        config: its config.json.
        checkpoint: its weights.

    Raises:
        UnsupportedModel: a family, activation or variant that is not known here.
        ModelCorrupt: a value of config.json cannot be one; a tensor is missing, has another shape, or holds NaN or
            infinity (when it is read).
    """
    from .architecture import require

    family = _family_of(config)
    if family is None:
        kind = config.get("model_type")
        known = ", ".join(MODEL_TYPES)
        raise UnsupportedModel(str(config.path.parent), f"model_type {kind!r} is not read here ({known} are)")
    require(config, per_layer_config=None)  # by which transformers gives layers values of their own
    stack: Stack = family.read_stack(complete(config), checkpoint.without(getattr(family, "PREFIXES", ())))
    return stack


def complete(config: Document) -> Document:
    """config.json with its class's defaults for the keys that it leaves out; null is no default."""
    family = _family_of(config)
    return config if family is None else Document(config.path, {**family.defaults(config), **config})


def _family_of(config: Document) -> ModuleType | None:
    kind = config.get("model_type")
    module = _MODULES.get(kind) if isinstance(kind, str) else None
    return None if module is None else import_module(f".{module}", __name__)
