"""Is a model near enough to a reference? The question asked of anyone who converts or quantizes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from .agreement import BOUNDS, Agreement, Bounds, Embed, failures, measure
from .config import ModelConfig, PoolingStrategy
from .engine import EmbeddingEngine, PrecisionName
from .errors import DependencyMissing
from .models.store import make_store
from .samples import verification_texts
from .types import Precision, Vectors

__all__ = ["SENTENCE_TRANSFORMERS", "Agreement", "Bounds", "bounds_of", "failures", "verify_model"]

SENTENCE_TRANSFORMERS = "sentence-transformers"


def verify_model(
    model: str | PathLike[str],
    *,
    precision: PrecisionName | Precision = "fp32",
    reference: str | PathLike[str] | None = None,
    texts: Sequence[str] | None = None,
    threads: int | None = None,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    endpoint: str | None = None,
    offline: bool | None = None,
) -> Agreement:
    """Compare a model with a reference on the same texts. Nothing is raised for a large distance: see `failures`.

    Args:
        model: a name, Hub id or folder, as in `EmbeddingEngine.from_pretrained`.
        precision: in which precision.
        reference: "fp32" for the same model in fp32; "sentence-transformers" for that library, which must be installed;
            or another model's name or folder. None takes fp32, or sentence-transformers when the model is fp32 itself.
        texts: None takes those of this package.
        threads: as in `EmbeddingEngine.from_pretrained`, like those that follow.
        revision: of the model.
        cache_dir: where models are kept.
        endpoint: a mirror of the Hub.
        offline: no network call.

    Returns:
        The distances.

    Raises:
        VerificationFailed: the model could not even be made: it came out too far from fp32.
        DependencyMissing: sentence-transformers is not installed.
        UnsupportedModel, ModelUnavailable, ModelCorrupt: as in `EmbeddingEngine.from_pretrained`.

    Example:
        >>> agreement = verify_model("all-MiniLM-L6-v2", precision="int8")  # doctest: +SKIP
        >>> agreement.min_cosine > 0.99  # doctest: +SKIP
        True
    """

    def load(name: str | PathLike[str], precision: PrecisionName | Precision) -> EmbeddingEngine:
        return EmbeddingEngine.from_pretrained(
            name,
            precision=precision,
            threads=threads,
            revision=revision if name == model else None,
            cache_dir=cache_dir,
            endpoint=endpoint,
            offline=offline,
        )

    own = Precision(precision)
    reference = reference or (SENTENCE_TRANSFORMERS if own is Precision.FP32 else "fp32")
    texts = texts or verification_texts()
    with load(model, own) as engine:
        if reference == SENTENCE_TRANSFORMERS:
            folder = Path(model).expanduser()
            store = make_store(cache_dir, endpoint=endpoint, offline=offline)
            folder = folder if folder.is_dir() else store.fetch(str(model), revision=revision)
            return measure(
                _sentence_transformers(folder, engine.config), engine.embed_batch, texts or verification_texts()
            )
        with load(model if reference == "fp32" else reference, "fp32") as other:
            return measure(other.embed_batch, engine.embed_batch, texts)


def bounds_of(precision: str) -> Bounds:
    """How near to fp32 a model of a precision must be to be used.

    Raises:
        InputError: no such precision.
    """
    return BOUNDS[Precision(precision)]


def _sentence_transformers(folder: Path, config: ModelConfig) -> Embed:
    """The model as that library runs it, one text at a time: there is then no padding."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, Pooling, Transformer
        from transformers.utils import logging
    except ImportError as error:
        raise DependencyMissing("sentence-transformers", "verify") from error
    logging.disable_progress_bar()  # it would draw one for a load of half a second
    if (folder / "modules.json").is_file():
        model = SentenceTransformer(str(folder), device="cpu")
    else:  # a package index has the encoder only
        encoder = Transformer(str(folder), max_seq_length=config.max_tokens)
        modes = {PoolingStrategy.LAST_TOKEN: "lasttoken", PoolingStrategy.MEAN_WITH_ATTENTION: "mean"}
        pooling = Pooling(config.dimension, modes.get(config.pooling, str(config.pooling)))
        steps = [encoder, pooling, *([Normalize()] if config.normalize else [])]
        model = SentenceTransformer(modules=steps, device="cpu")

    def embed(texts: Sequence[str]) -> Vectors:
        prefixed = [config.document_prefix + text for text in texts]
        vectors: Vectors = model.encode(prefixed, prompt="", batch_size=1, show_progress_bar=False)
        return vectors

    return embed
