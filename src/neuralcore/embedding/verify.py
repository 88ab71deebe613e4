"""Is a model near enough to a reference? The question asked of anyone who converts or quantizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from .arguments import check_texts
from .config import ModelConfig
from .engine import EmbeddingEngine
from .errors import DependencyMissing, EmbeddingError, InputError, UnsupportedModel
from .families.checkpoint import checkpoint_files
from .precision.agreement import BOUNDS, Agreement, Bounds, Embed, failures, measure
from .samples import verification_texts
from .settings import expanded
from .store import Manifest, Store, make_store
from .store.folder import ModelFolder, pooling_modes
from .types import Backend, Precision, PrecisionName, Vectors

__all__ = ["BOUNDS", "SENTENCE_TRANSFORMERS", "Agreement", "Bounds", "failures", "verify_model"]

SENTENCE_TRANSFORMERS = "sentence-transformers"


def verify_model(
    model: str | PathLike[str],
    *,
    precision: PrecisionName | Precision = "fp32",
    backend: Backend = "auto",
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
        backend: what is to run it; the reference runs on what it would by itself.
        reference: "fp32" for the same model in fp32; "sentence-transformers" for that library, which must be installed;
            or another model's name or folder. None takes fp32, or sentence-transformers when the model is fp32 itself.
            The fp32 model of a folder that holds another precision is what `neuralcore convert` made it from.
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
        UnsupportedModel: there is no fp32 model to compare with, or as in `EmbeddingEngine.from_pretrained`.
        ModelUnavailable, ModelCorrupt: as in `EmbeddingEngine.from_pretrained`.
        InputError: no texts.

    Example:
        >>> agreement = verify_model("all-MiniLM-L6-v2", precision="int8")  # doctest: +SKIP
        >>> agreement.min_cosine > 0.99  # doctest: +SKIP
        True
    """

    def load(
        name: str | PathLike[str],
        precision: PrecisionName | Precision = "fp32",
        revision: str | None = None,
        backend: Backend = "auto",
    ) -> EmbeddingEngine:
        return EmbeddingEngine.from_pretrained(
            name,
            precision=precision,
            backend=backend,
            threads=threads,
            revision=revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
            offline=offline,
        )

    if texts is not None:
        check_texts(texts)
    texts = verification_texts() if texts is None else list(texts)
    if not texts:
        raise InputError("no texts to compare with")
    with load(model, precision, revision, backend) as engine:
        wanted = reference or (SENTENCE_TRANSFORMERS if engine.precision is Precision.FP32 else "fp32")
        if wanted == SENTENCE_TRANSFORMERS:
            folder = _checkpoint(model, revision, make_store(cache_dir, endpoint=endpoint, offline=offline))
            agreement = measure(_sentence_transformers(folder, engine.config), engine.embed_batch, texts)
        else:
            with _load_fp32(model, revision, engine, load) if wanted == "fp32" else load(wanted) as other:
                agreement = measure(other.embed_batch, engine.embed_batch, texts)
        return replace(agreement, precision=engine.precision)


def _load_fp32(
    model: str | PathLike[str], revision: str | None, engine: EmbeddingEngine, load: Callable[..., EmbeddingEngine]
) -> EmbeddingEngine:
    """The model in fp32, or what it was made from where its folder holds another precision.

    Raises:
        UnsupportedModel: that is not recorded, not there any more, or has changed.
    """
    own = load(model, "fp32", revision)
    if own.precision is Precision.FP32:
        return own
    own.close()
    origin, origin_revision = _origin(model)
    itself = f"it is {own.precision} itself"
    advice = "name the fp32 model as the reference"
    if origin is None:
        raise UnsupportedModel(str(model), f"{itself}, and does not say what it was made from: {advice}")
    try:
        source = load(origin, "fp32", origin_revision)
    except EmbeddingError as error:
        reason = f"{itself}, and {origin}, from which it was made, cannot be loaded ({error}): {advice}"
        raise UnsupportedModel(str(model), reason) from error
    if source.precision is Precision.FP32 and source.fingerprint.weights == engine.fingerprint.weights:
        return source
    source.close()
    raise UnsupportedModel(str(model), f"{itself}, and {origin} is not any more what it was made from: {advice}")


def _origin(model: str | PathLike[str]) -> tuple[str | None, str | None]:
    """Name or folder, and revision, of what `neuralcore convert` made a folder from."""
    manifest = Manifest.read(expanded(model))
    source = manifest.source if manifest else {}
    return source.get("from"), source.get("revision")


def _checkpoint(model: str | PathLike[str], revision: str | None, store: Store) -> Path:
    """The folder of a model's checkpoint, which sentence-transformers needs; of a converted folder, its source's.

    Raises:
        UnsupportedModel: there is none.
        ModelCorrupt: its index names files elsewhere.
    """
    folder = expanded(model)
    if not folder.is_dir():
        return store.fetch(str(model), revision=revision)
    if weights := ModelFolder(folder).safetensors_path:
        checkpoint_files(weights)  # sentence-transformers opens whatever an index names
        return folder
    origin, origin_revision = _origin(model)
    if origin and (Path(origin).is_dir() or not Path(origin).is_absolute()):
        return _checkpoint(origin, origin_revision, store)
    reason = "sentence-transformers needs the model's checkpoint, which is not here"
    raise UnsupportedModel(str(model), f"{reason}; name another model as the reference")


def _sentence_transformers(folder: Path, config: ModelConfig) -> Embed:
    """The model as that library runs it, one text at a time: there is then no padding."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, Pooling, StaticEmbedding, Transformer
        from transformers.utils import logging
    except ImportError as error:
        raise DependencyMissing("sentence-transformers", "verify") from error
    logging.disable_progress_bar()  # it would draw one for a load of half a second
    if (folder / "modules.json").is_file():
        model = SentenceTransformer(str(folder), device="cpu")
    else:  # a package index has the encoder only, and model2vec's first folders have a table only
        if ModelFolder(folder).is_static:
            steps = [StaticEmbedding.load(str(folder))]
        else:
            encoder = Transformer(str(folder), max_seq_length=config.max_tokens)
            steps = [encoder, Pooling(config.token_dimension, pooling_modes(config))]
        steps += [Normalize()] if config.normalize else []
        model = SentenceTransformer(modules=steps, device="cpu", truncate_dim=config.kept_dimensions)

    def embed(texts: Sequence[str]) -> Vectors:
        prefixed = [config.prefix(None) + text for text in texts]
        vectors: Vectors = model.encode(prefixed, prompt="", batch_size=1, show_progress_bar=False)
        return vectors

    return embed
