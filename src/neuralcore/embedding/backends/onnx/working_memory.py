"""How much memory a run takes, from above: said by a graph of ours, guessed of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ...families.stack import Stack

_FLOAT_BYTES = 4
_PER_TOKEN, _PER_PAIR = "floats_per_token", "floats_per_pair"  # keys of the graph's metadata


@dataclass(frozen=True, slots=True)
class WorkingMemory:
    """What one text needs besides the weights.

    Args:
        per_token: floats of one padded token.
        per_pair: floats of each pair of padded tokens: scores of attention, and what is added to them.
    """

    per_token: int
    per_pair: int

    def bytes_per_token(self, longest: int) -> int:
        """Of one padded token in a run of texts of this padded length."""
        return _FLOAT_BYTES * (self.per_token + self.per_pair * longest)

    @classmethod
    def of_stack(cls, stack: Stack, *, has_distance_bias: bool) -> Self:
        """More than eight random encoders took of 128 to 2,048 tokens, less than four times as much: it is measured in
        tests/test_working_memory_full.py.
        """
        attentions = stack.attentions
        across = max(attention.n_heads * attention.head_size for attention in attentions)
        # Heads that are scaled, turned or shared are copied; a gate and what it lets through stand beside each other.
        is_copied = any(some.rotary is not None or some.n_key_heads < some.n_heads for some in attentions)
        per_token = max((16 if is_copied else 12) * across, (5 if stack.gated else 3) * stack.wide)
        n_heads = max(attention.n_heads for attention in attentions)
        n_windows = len({attention.window for attention in attentions} - {None})
        added = n_heads * (1 + n_windows) if has_distance_bias else n_windows
        return cls(4 * stack.hidden + per_token, 2 * n_heads + 1 + added + (4 if added else 0))

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str], dimension: int) -> Self:
        """What a graph says of itself; where it says nothing, what one of this dimension with small heads takes."""
        try:
            return cls(int(metadata[_PER_TOKEN]), int(metadata[_PER_PAIR]))
        except (KeyError, ValueError):
            return cls(16 * dimension, 2 * max(1, dimension // 32))

    def to_metadata(self) -> dict[str, str]:
        """The reverse of `of_metadata`."""
        return {_PER_TOKEN: str(self.per_token), _PER_PAIR: str(self.per_pair)}
