"""The data that flows: texts' types, tokens, and what an encoder is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Vectors = NDArray[np.float32]
Lengths = NDArray[np.int64]
Advance = Callable[[int], object]
Backend = Literal["auto", "onnxruntime", "native"]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "dynamic-int8"]


class EmbeddingType(StrEnum):
    """What a text is: asymmetric models put a different prefix before queries and documents."""

    QUERY = "query"
    DOCUMENT = "document"


class Precision(StrEnum):
    """How a model's numbers are kept and computed."""

    FP32 = "fp32"
    """As the model was trained."""
    FP16 = "fp16"
    """Half the size. Fast on a GPU; a CPU computes in fp32 all the same."""
    BF16 = "bf16"
    """Half the size; products of bfloat16, on a CPU that multiplies it."""
    INT8 = "int8"
    """A quarter of the size, on CPU: outliers moved into the weights, fixed ranges, checked against fp32."""
    DYNAMIC_INT8 = "dynamic-int8"
    """Plain dynamic quantization: no calibration, less exact, and a vector depends on the texts beside it."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise InputError(f"precision must be one of {', '.join(cls)}, not {value!r}")


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Token ids of n texts, one after the other, without padding.

    Args:
        ids: int32 (total,), all texts' token ids.
        offsets: int64 (n + 1,); text i is `ids[offsets[i]:offsets[i + 1]]`.
        full_lengths: int64 (n,), tokens of each text before it was cut to the model's limit. A text that is much longer
            was read no further than its limit needs: then it is a number beyond `lengths`, and at least so many.
    """

    ids: NDArray[np.int32]
    offsets: Lengths
    full_lengths: Lengths

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """The texts of several batches, one after the other."""
        if len(batches) == 1:
            return batches[0]
        lengths = np.concatenate([np.zeros(0, np.int64), *(batch.lengths for batch in batches)])
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(batch.ids for batch in batches)]),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([np.zeros(0, np.int64), *(batch.full_lengths for batch in batches)]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Lengths:
        """int64 (n,), tokens of each text."""
        return self.offsets[1:] - self.offsets[:-1]  # np.diff takes five times as long, which one short text notices

    def take(self, rows: Lengths) -> TokenBatch:
        """Some of the texts, in this order.

        Args:
            rows: int64 (m,), which texts.
        """
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        cells = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return TokenBatch(self.ids[cells], offsets, self.full_lengths[rows])

    @property
    def n_cut(self) -> int:
        """Texts that were longer than the limit."""
        return int((self.full_lengths > self.lengths).sum())

    def part(self, start: int, stop: int) -> TokenBatch:
        """Some neighbouring texts."""
        offsets = self.offsets[start : stop + 1]
        return TokenBatch(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0], self.full_lengths[start:stop])

    def padded(self, rows: Lengths, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of some texts as a rectangle, and its attention mask.

        Args:
            rows: int64 (m,), which texts.
            pad_id: fills the cells past a text's end.

        Returns:
            ids and mask, both int64 (m, longest); the mask is 1 on real tokens. At least one column wide.
        """
        starts, lengths = self.offsets[rows], self.lengths[rows]
        columns = np.arange(max(1, int(lengths.max())))
        mask = columns < lengths[:, None]
        ids = np.full(mask.shape, pad_id, np.int64)
        ids[mask] = self.ids[(starts[:, None] + columns)[mask]]
        return ids, mask.astype(np.int64)


class Encoder(Protocol):
    """Turns tokens into vectors. The one seam between the engine and what computes."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda" or "tensorrt"."""

    @property
    def backend(self) -> str:
        """What computes: "onnxruntime cpu", "onnxruntime cuda", "native avx2", "static", and so on."""

    @property
    def takes_sentence(self) -> bool:
        """Whether it takes a text's vector from a graph of others, where nothing says how that was pooled."""

    def encode(self, tokens: TokenBatch, advance: Advance | None = None, threads: int | None = None) -> Vectors:
        """Vectors of all texts, float32 (n, dimension), in input order.

        Args:
            tokens: the texts.
            advance: called with the number of texts just finished, from any thread.
            threads: use no more threads than so many; None uses all it was given.
        """

    def give_back(self) -> None:
        """Give working memory that is kept for later runs back to the system."""

    def close(self) -> None:
        """Free the model. Safe to call twice."""
