"""Every error this package raises on purpose.

    EmbeddingError
    ├─ UnsupportedModel     no such model, or a layout this package does not run
    ├─ ModelUnavailable     every source was tried and none had it
    ├─ ModelCorrupt         a file is not what it should be
    ├─ InputError           a text that cannot be embedded (also a ValueError)
    ├─ ProviderUnavailable  the device, back end or precision asked for was not obtained
    ├─ DependencyMissing    an optional package is not installed (also an ImportError)
    ├─ VerificationFailed   a converted model is too far from its source
    ├─ FingerprintMismatch  vectors of two different spaces were about to be mixed
    ├─ OutOfMemory          not even one text fits
    ├─ Overloaded           the queue is full, try again later
    └─ InferenceError       ONNX Runtime failed, or produced values that are not finite

Messages say what happened and what to do next; the data behind a message is kept in attributes. Every class can be
pickled, so errors cross process boundaries whole. `STATUS` maps each class to an HTTP status and an exit code.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

_LET_WRITE = "Free some space, or name another folder with cache_dir= or NEURALCORE_CACHE."
_LET_READ = "See that this account may read the file and enter its folders, and that its disk is well."


def _advise(cause: OSError, otherwise: str) -> str:
    too_many_files = cause.errno in (errno.EMFILE, errno.ENFILE)
    return "Close some files, or allow more (`ulimit -n`)." if too_many_files else otherwise


def _rebuild(cls: type[EmbeddingError], args: tuple[Any, ...], state: dict[str, Any]) -> EmbeddingError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class EmbeddingError(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default rebuilds from self.args and fails for constructors with keyword-only arguments.
        return _rebuild, (type(self), self.args, self.__dict__)


class UnsupportedModel(EmbeddingError):
    """The model is unknown, or laid out in a way that this package does not run.

    Attributes:
        model: the name or path that was asked for.
        closest: known names that resemble it, best first.
    """

    def __init__(self, model: str, reason: str, *, closest: Sequence[str] = ()) -> None:
        self.model = model
        self.closest = list(closest)
        hint = f" Did you mean {' or '.join(map(repr, self.closest))}?" if self.closest else ""
        super().__init__(f"model {model!r}: {reason}{hint}")


class Attempt(NamedTuple):
    """One place a model was looked for, and why it was not had there."""

    source: str
    reason: str


class ModelUnavailable(EmbeddingError):
    """No source could deliver the model.

    Attributes:
        model: the name that was asked for.
        attempts: what was tried, in order, each with its reason.
    """

    def __init__(self, model: str, attempts: Sequence[Attempt], *, advice: str = "") -> None:
        self.model = model
        self.attempts = list(attempts)
        tried = "".join(f"\n  {source}: {reason}" for source, reason in self.attempts)
        super().__init__(f"model {model!r} could not be had. Tried:{tried or ' nothing'}{advice and chr(10) + advice}")

    @classmethod
    def cache_not_writable(cls, model: str, cause: OSError) -> Self:
        """The files cannot be kept: read-only folder or full disk."""
        return cls(model, [Attempt("cache", f"cannot write: {cause}")], advice=_advise(cause, _LET_WRITE))

    @classmethod
    def not_readable(cls, path: str, cause: OSError) -> Self:
        """A file is there, and this process may not read it, or cannot now. That does not make it damaged."""
        attempt = Attempt("file", f"cannot read: {cause.strerror or cause}")
        return cls(path, [attempt], advice=_advise(cause, _LET_READ))


class ModelCorrupt(EmbeddingError):
    """A model file is damaged, incomplete or not the one that was asked for.

    Attributes:
        path: the file.
        expected, actual: SHA-256 (hex) or another description of what should be there and what is.
    """

    def __init__(self, path: str, *, expected: str, actual: str, advice: str = "") -> None:
        self.path, self.expected, self.actual = path, expected, actual
        super().__init__(f"{path} is damaged: expected {expected}, found {actual}.{advice and ' ' + advice}")


class InputError(EmbeddingError, ValueError):
    """A text or an argument cannot be used.

    Attributes:
        index: position of the offending text in the input, or None when it is not about one text.
        limit: the limit that was broken, when there is one.
    """

    def __init__(self, message: str, *, index: int | None = None, limit: int | None = None) -> None:
        self.reason, self.index, self.limit = message, index, limit
        super().__init__(message if index is None else f"text {index}: {message}")

    def moved(self, n_texts: int) -> InputError:
        """The same of a text so many texts further on."""
        return InputError(self.reason, index=None if self.index is None else self.index + n_texts, limit=self.limit)


class ProviderUnavailable(EmbeddingError):
    """The device, back end or precision asked for by name was not obtained. Nothing falls back to another silently.

    Attributes:
        requested: its name.
        available: the names of those that are there; of devices, as ONNX Runtime's execution providers.
        kind: "device", "backend" or "precision".
    """

    def __init__(self, requested: str, available: Sequence[str], reason: str, *, kind: str = "device") -> None:
        self.requested, self.available, self.reason, self.kind = requested, list(available), reason, kind
        super().__init__(f"{kind} {requested!r} is not available: {reason} (available: {', '.join(available)})")


class DependencyMissing(EmbeddingError, ImportError):
    """An optional package is needed for this.

    Attributes:
        package: what is missing.
        extra: the extra of this distribution that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed: pip install 'neuralcore-embedding[{extra}]'")


class VerificationFailed(EmbeddingError):
    """A converted model is further from its source than its bound allows.

    Attributes:
        metric: what was measured.
        bound, measured: the limit and the value.
    """

    def __init__(self, metric: str, *, bound: float, measured: float) -> None:
        self.metric, self.bound, self.measured = metric, bound, measured
        super().__init__(f"the model is too far from its reference: {metric} is {measured:.6g}, the bound {bound:.6g}")


class FingerprintMismatch(EmbeddingError):
    """Vectors of two spaces were about to be mixed, or of one space that differ where they may not.

    Attributes:
        differences: by name, what was stored and what the engine has.
        same_space: whether the vectors may be compared all the same.
    """

    def __init__(self, differences: Mapping[str, tuple[Any, Any]], *, same_space: bool = False) -> None:
        self.same_space = same_space
        self.differences = dict(differences)
        told = "; ".join(f"{name} was {before!r}, is {now!r}" for name, (before, now) in self.differences.items())
        reason = "of the same space, but not the same" if same_space else "of another space"
        super().__init__(f"these vectors are {reason}: {told}. Use the same model, or embed all texts anew.")


class OutOfMemory(EmbeddingError):
    """Even one text alone does not fit into memory.

    Attributes:
        n_texts, n_tokens: texts in the smallest run that was tried, and the padded length of each.
    """

    def __init__(self, n_texts: int, n_tokens: int, reason: str) -> None:
        self.n_texts, self.n_tokens, self.reason = n_texts, n_tokens, reason
        super().__init__(
            f"{n_texts} text(s) of {n_tokens} tokens do not fit into memory: {reason}. "
            "Lower max_tokens=, raise max_memory_bytes=, or use a smaller model."
        )

    @classmethod
    def outside_of_runs(cls, n_texts: int, reason: str) -> Self:
        """It is not the model that does not fit, but what is before or behind it: tokens, or all vectors together."""
        error = cls.__new__(cls, reason)
        error.n_texts, error.n_tokens, error.reason = n_texts, 0, reason
        error.args = (f"no memory for {n_texts} text(s): {reason}",)
        return error

    @classmethod
    def before_texts(cls, reason: str) -> Self:
        """A library or a model cannot be loaded."""
        error = cls.outside_of_runs(0, reason)
        error.args = (f"no memory: {reason}. Allow this process more (`ulimit -v`, the container's limit).",)
        return error


class Overloaded(EmbeddingError):
    """The queue is full.

    Attributes:
        queue_length, limit: how many wait, and how many may.
        retry_after_s: when to try again, in seconds.
    """

    def __init__(self, queue_length: int, limit: int, retry_after_s: float) -> None:
        self.queue_length, self.limit, self.retry_after_s = queue_length, limit, retry_after_s
        super().__init__(f"{queue_length} requests wait (limit {limit}); retry in {retry_after_s:.1f} s")


class InferenceError(EmbeddingError):
    """The model ran and failed.

    Attributes:
        provider: the execution provider.
        reason: what ONNX Runtime said.
        finite: False if it ran and gave values that are not finite.
    """

    def __init__(self, provider: str, reason: str, *, finite: bool = True) -> None:
        self.provider, self.reason, self.finite = provider, reason, finite
        super().__init__(f"inference failed on {provider}: {reason}")

    @classmethod
    def not_finite(cls, provider: str) -> Self:
        """It gave infinities or NaN."""
        return cls(provider, "a vector is not finite: the model's weights are damaged", finite=False)


class Status(NamedTuple):
    """How an error leaves the process: as an HTTP status or as an exit code."""

    http: int
    exit_code: int


STATUS: dict[type[EmbeddingError], Status] = {
    EmbeddingError: Status(500, 1),
    UnsupportedModel: Status(404, 3),
    ModelUnavailable: Status(503, 4),
    ModelCorrupt: Status(500, 5),
    InputError: Status(422, 6),
    ProviderUnavailable: Status(503, 7),
    DependencyMissing: Status(501, 8),
    VerificationFailed: Status(500, 9),
    FingerprintMismatch: Status(409, 13),
    OutOfMemory: Status(507, 10),
    Overloaded: Status(429, 11),
    InferenceError: Status(424, 12),
}


def status_of(error: EmbeddingError) -> Status:
    """The status of an error's class, or of the nearest base class that has one."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
