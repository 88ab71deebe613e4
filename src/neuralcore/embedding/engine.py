"""The engine: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import loader, memory, pooling
from .arguments import Truncation, check_options, check_text, check_texts, device_for, usable_threads
from .config import ModelConfig
from .fingerprint import Fingerprint
from .healing import HealingEncoder, open_whole
from .progress import progress_bar
from .providers import Device, GpuOptions
from .stream import Reader, collect, encode_windows
from .types import Advance, Backend, EmbeddingType, Lengths, Precision, PrecisionName, TokenBatch, Vectors


class EmbeddingEngine:
    """Computes embeddings with one model. Thread-safe; pickles as how to load it, not as its weights.

    Most people want `from_pretrained`; this constructor takes files.

    Args:
        model_path: an ONNX encoder: inputs `input_ids` and `attention_mask` (and `token_type_ids` or `position_ids`),
            output `last_hidden_state`, `token_embeddings` or `sentence_embedding`; or a table of words (.safetensors).
        tokenizer_path: its tokenizer.json.
        config: what the files do not say. None reads the files of sentence-transformers beside the tokenizer.json.
        device: "cpu", "cuda", "tensorrt", or "auto" (CUDA where it can be had, else CPU). A device asked for by name
            and not obtained is an error.
        threads: CPU threads; None takes all this process may use (affinity and container quota). Of more than that only
            so many are used, and the log says so (level WARNING).
        truncation: what to do with texts longer than `max_tokens`: cut them silently; cut them, and when the call ends
            (or its stream is closed) say in one warning how many; or raise `InputError` at the first.
        dimensions: keep only so many components and scale to unit length again (Matryoshka models).
        max_memory_bytes: bound on the working memory of all runs in flight, of all callers together, without weights;
            whatever fits alone is computed.
        gpu: options of the GPU providers.

    Raises:
        ModelCorrupt: a file cannot be read.
        UnsupportedModel: the graph's inputs or outputs are not those of an encoder.
        ProviderUnavailable: the device cannot be had.
        InputError: an argument is out of range.

    Example:
        >>> with EmbeddingEngine("model.onnx", "tokenizer.json") as engine:  # doctest: +SKIP
        ...     engine.embed("one text").shape
        (384,)
    """

    def __init__(
        self,
        model_path: str | PathLike[str],
        tokenizer_path: str | PathLike[str],
        config: ModelConfig | None = None,
        *,
        device: Device = "cpu",
        threads: int | None = None,
        truncation: Truncation = "truncate",
        dimensions: int | None = None,
        max_memory_bytes: int | None = None,
        gpu: GpuOptions | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "device": device, "threads": threads, "truncation": truncation,
            "dimensions": dimensions, "max_memory_bytes": max_memory_bytes, "gpu": gpu,
        }  # fmt: skip
        paths = loader.lasting_name(model_path), loader.lasting_name(tokenizer_path)
        self._recipe: partial[Any] = partial(type(self), paths[0], paths[1], config, **options)
        self._config = config or loader.read_config(Path(tokenizer_path).parent)
        check_options(threads, truncation, dimensions, self._config.dimension, max_memory_bytes)
        self._truncation, self._dimensions = truncation, dimensions
        self._threads = usable_threads(threads)
        self._model_path = Path(model_path)
        self._file = loader.ModelFile(self._model_path)
        self._tokenizer, self._encoder = loader.open_files(
            Path(model_path), Path(tokenizer_path), self._config, device=device, threads=self._threads,
            max_memory_bytes=max_memory_bytes, gpu=gpu or GpuOptions(),
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike[str],
        *,
        precision: PrecisionName | Precision = "fp32",
        backend: Backend = "auto",
        device: Device = "cpu",
        threads: int | None = None,
        truncation: Truncation = "truncate",
        max_tokens: int | None = None,
        dimensions: int | None = None,
        max_memory_bytes: int | None = None,
        gpu: GpuOptions | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        endpoint: str | None = None,
        offline: bool | None = None,
        sources: Sequence[str] | None = None,
        token: str | None = None,
        verify_files: bool = False,
    ) -> Self:
        """Load a model by name, Hub id or folder, fetching and converting it when that was not done before.

        Args:
            model: a name of the registry, a Hub id ("org/name"), or a folder laid out as by sentence-transformers. A
                folder that exists wins over a name.
            precision: "fp32" is the model as it is (an ONNX file may hold less). "int8" is a quarter of the size and
                faster, "fp16" half the size, "bf16" that, and faster on a CPU that multiplies it; each is made when it
                is first asked for, compared with fp32 or refused, and cached. "dynamic-int8" is plain quantization.
            backend: "native", the kernels of this package, or "onnxruntime": it is an error if the one named cannot run
                the model. "auto" takes the kernels on a CPU for what they know, and ONNX Runtime otherwise.
            device: see the class.
            threads: see the class.
            truncation: see the class.
            max_tokens: another limit than the model's own; at most its positions.
            dimensions: see the class.
            max_memory_bytes: see the class.
            gpu: see the class.
            revision: branch, tag or commit on the Hub; None takes the pinned one, or "main".
            cache_dir: where models are kept; None takes NEURALCORE_CACHE or the user's cache folder.
            endpoint: address of a mirror of the Hub, asked first; None takes HF_ENDPOINT.
            offline: no network call at all; None takes HF_HUB_OFFLINE.
            sources: which of "mirror", "hub" and "index" to ask, in this order; None asks all three.
            token: access token for the Hub; None takes the one of `hf auth login`.
            verify_files: compare every cached file with its SHA-256 first, not only its size and time of change.

        Returns:
            The engine, ready to run.

        Raises:
            UnsupportedModel: no such name, or a layout that cannot be run, or not by the back end that was named.
            ModelUnavailable: no source had it; the message lists what was tried.
            ModelCorrupt: what was had is not what was asked for.
            VerificationFailed: in the other precision, the model is too far from fp32.
            ProviderUnavailable: the device or back end cannot be had, or cannot compute in this precision.
            InputError: an argument is out of range.

        Example:
            >>> engine = EmbeddingEngine.from_pretrained("all-MiniLM-L6-v2")  # doctest: +SKIP
            >>> engine.dimension  # doctest: +SKIP
            384
        """
        recipe = {key: value for key, value in locals().items() if key not in {"cls", "model"}}
        device = device_for(precision, device, backend)
        store = loader.make_store(cache_dir, endpoint=endpoint, offline=offline, sources=sources, token=token)

        def opened(found: loader.Located) -> EmbeddingEngine:
            config = replace(found.config, max_tokens=found.limit(max_tokens))
            engine = cls(
                found.model_path, found.tokenizer_path, config, device=device, threads=threads, truncation=truncation,
                dimensions=dimensions, max_memory_bytes=max_memory_bytes, gpu=gpu,
            )  # fmt: skip
            engine._file = loader.ModelFile(found.model_path, found.precision, found.weights_sha256)
            return engine

        locate = partial(loader.locate, loader.lasting_name(model), precision, backend, device, revision, store)
        engine, again = open_whole(lambda thorough: locate(thorough=thorough), opened, verify=verify_files)
        engine._encoder = HealingEncoder(engine._encoder, lambda: other._encoder if (other := again()) else None)
        assert isinstance(engine, cls)
        engine._recipe = partial(cls.from_pretrained, loader.lasting_name(model), **recipe)
        return engine

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self._config

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self._dimensions or self._config.kept_dimensions or self._config.dimension

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens; longer texts are cut (see `truncation`)."""
        return self._config.max_tokens

    @property
    def device(self) -> str:
        """The device in use: "cpu", "cuda" or "tensorrt"."""
        return self._encoder.device

    @property
    def backend(self) -> str:
        """What computes: "onnxruntime cpu"; the native kernels, "native avx512vnni"; or "static", a table of words."""
        return self._encoder.backend

    @property
    def threads(self) -> int:
        """CPU threads in use."""
        return self._threads

    @property
    def precision(self) -> Precision:
        """How the model's numbers are kept; of an ONNX file that is used as it was found, what its graph says."""
        return self._file.precision

    @property
    def fingerprint(self) -> Fingerprint:
        """What these vectors depend on: keep it beside an index, and `check_fingerprint` before adding or searching.

        Example:
            >>> open("index.json", "w").write(engine.fingerprint.to_json())  # doctest: +SKIP
        """
        told = self._config, self._file.weights_sha256, str(self.precision), self._dimensions, self._tokenizer.digest
        own = replace(Fingerprint.of(*told), backend=self.backend)
        return replace(own, pooling="graph") if self._encoder.takes_sentence else own

    def embed(self, text: str, *, embedding_type: str | None = None, prompt: str | None = None) -> Vectors:
        """Embed one text.

        Args:
            text: any str; the empty one has a vector, too.
            embedding_type: "document", "query", or the name of another prompt of the model. None takes the model's
                default prompt, if it has one, else "document".
            prompt: put before the text as it is, instead of a prompt of the model: an instruction of your own, with
                the blank or line end that it needs. Its tokens count.

        Returns:
            float32 (dimension,).

        Raises:
            InputError: not a str, lone surrogates, too long with truncation="error", no such prompt, or both of them.
            InferenceError: the model failed.

        Example:
            >>> engine.embed("one text").shape  # doctest: +SKIP
            (384,)
        """
        check_text(text)
        vector: Vectors = self.encode(self.tokenize([text], embedding_type=embedding_type, prompt=prompt))[0]
        return vector

    def embed_query(self, text: str) -> Vectors:
        """Embed one query: as `embed`, with the prefix that asymmetric models put before queries.

        Example:
            >>> engine.embed_query("what is ONNX?").shape  # doctest: +SKIP
            (384,)
        """
        return self.embed(text, embedding_type=EmbeddingType.QUERY)

    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        embedding_type: str | None = None,
        prompt: str | None = None,
        progress: bool = False,
    ) -> Vectors:
        """Embed several texts. A text's vector does not depend on its neighbours.

        Args:
            texts: the texts; may be empty.
            embedding_type: as in `embed`.
            prompt: as in `embed`.
            progress: show a progress bar on standard error.

        Returns:
            float32 (n, dimension), in input order.

        Raises:
            InputError: as in `embed`, with the text's index; or not texts in an order: one str, a dict, a set, a table.
            OutOfMemory: one text alone does not fit.
            InferenceError: the model failed.

        Example:
            >>> engine.embed_batch(["one text", "another"]).shape  # doctest: +SKIP
            (2, 384)
        """
        check_texts(texts)
        texts = texts if isinstance(texts, (list, tuple)) else list(texts)
        reader = self._reader(embedding_type, prompt)
        with progress_bar("Embedding", len(texts)) if progress else nullcontext() as advance:
            return collect(self._blocks(texts, reader, advance), len(texts), self.dimension)

    def embed_stream(
        self, texts: Iterable[str], *, embedding_type: str | None = None, prompt: str | None = None
    ) -> Iterator[Vectors]:
        """Embed any number of texts in bounded memory.

        Args:
            texts: any iterable, read as needed in the caller's thread, never whole.
            embedding_type: as in `embed`.
            prompt: as in `embed`.

        Yields:
            Blocks of float32 (m, dimension), in input order; m differs from block to block.

        Raises:
            InputError: as in `embed_batch`; blocks already yielded are valid.

        Example:
            >>> sum(len(block) for block in engine.embed_stream(open("lines.txt")))  # doctest: +SKIP
            1000000
        """
        check_texts(texts)
        return self._blocks(texts, self._reader(embedding_type, prompt), None)

    def count_tokens(
        self, texts: Iterable[str], *, embedding_type: str | None = None, prompt: str | None = None
    ) -> Lengths:
        """Tokens of each text, with special tokens and prefix, before any cut.

        Args:
            texts: the texts.
            embedding_type: as in `embed`.
            prompt: as in `embed`.

        Returns:
            int64 (n,). Texts with more than `max_tokens` will be cut.

        Example:
            >>> engine.count_tokens(["one text"]).tolist()  # doctest: +SKIP
            [4]
        """
        check_texts(texts)
        return self._reader(embedding_type, prompt).count(list(texts))

    def tokenize(
        self,
        texts: Sequence[str],
        *,
        embedding_type: str | None = None,
        prompt: str | None = None,
        first_index: int = 0,
    ) -> TokenBatch:
        """The first half of `embed_batch`: texts to tokens; messages count from `first_index`."""
        check_texts(texts)
        return TokenBatch.join(list(self._reader(embedding_type, prompt).read_parts(texts, first_index)))

    @property
    def keeps_end(self) -> bool:
        """Whether a text that is too long keeps its end, not its beginning: as its tokenizer's files say."""
        return self._tokenizer.keeps_end

    def accept_ids(self, ids: Sequence[Sequence[int]], *, first_index: int = 0) -> TokenBatch:
        """Tokens that this model's tokenizer made elsewhere, special tokens included; see `Tokenizer.accept`."""
        return self._tokenizer.accept(ids, first_index=first_index)

    def tokenize_parts(
        self,
        texts: Iterable[str],
        *,
        embedding_type: str | None = None,
        prompt: str | None = None,
        first_index: int = 0,
    ) -> Iterator[TokenBatch]:
        """As `tokenize`, a few texts at a time, each part when asked for."""
        return self._reader(embedding_type, prompt).read_parts(texts, first_index)

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:
        """The second half of `embed_batch`: tokens to float32 (n, dimension); see `Encoder.encode`."""
        full = self._encoder.encode(tokens, advance, threads)
        return pooling.shorten(full, self._dimensions, self._config.kept_dimensions)

    def give_back(self) -> None:
        """Give memory that is kept for later runs back to the system; some 50 ms."""
        self._encoder.give_back()
        memory.trim()

    def warmup(self) -> None:
        """Make the first real call as fast as those after it."""
        self.embed("warm up")
        self.embed_batch(["warm up"] * (2 * self._threads))

    def close(self) -> None:
        """Free the model. The engine cannot be used afterwards; closing twice is fine."""
        self._encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._recipe, ()

    def __repr__(self) -> str:
        name, device = self._config.name, self.device
        return f"EmbeddingEngine({name!r}, dimension={self.dimension}, device={device!r}, threads={self._threads})"

    def _reader(self, embedding_type: str | None, prompt: str | None) -> Reader:
        prefix = self._config.prefix(embedding_type, prompt)
        return Reader(self._tokenizer, prefix, self._truncation, self.max_tokens)

    def _blocks(self, texts: Iterable[str], reader: Reader, advance: Advance | None) -> Iterator[Vectors]:
        try:
            yield from encode_windows(texts, reader.read, lambda tokens: self.encode(tokens, advance))
        finally:
            reader.warn()
