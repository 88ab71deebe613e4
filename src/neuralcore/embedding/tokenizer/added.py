"""Added tokens: what is looked for in a text before it is normalized or split, as the files of a tokenizer state it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..documents import Document

_FLAGS = ("single_word", "lstrip", "rstrip")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One added token.

    Args:
        content: the text to look for.
        single_word: only where no letter is beside it.
        lstrip, rstrip: blanks before it, or behind it, are part of it.
        normalized: look for it in the normalized text; None is whether it is not special.
        special: whether it stands for something other than text.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    @classmethod
    def read(cls, values: Document, *, special: bool | None = None) -> AddedToken:
        """One that a file states as an object.

        Args:
            values: the object.
            special: overrules what it says.

        Raises:
            ModelCorrupt: it has no content, or a value is of another type.
        """
        content = values.text("content", None)
        if content is None:
            raise values.refused("content", "a text")
        flags = {name: values.flag(name, False) for name in _FLAGS}
        is_special = values.flag("special", False) if special is None else special
        return cls(content, **flags, normalized=values.flag("normalized", None), special=is_special)

    @property
    def settled(self) -> AddedToken:
        """The same with `normalized` said, as two are compared."""
        return self if self.normalized is not None else replace(self, normalized=not self.special)

    def to_dict(self, token_id: int) -> dict[str, Any]:
        """As tokenizer.json has it."""
        settled = self.settled
        return {
            "id": token_id,
            "content": settled.content,
            "single_word": settled.single_word,
            "lstrip": settled.lstrip,
            "rstrip": settled.rstrip,
            "normalized": settled.normalized,
            "special": settled.special,
        }


class TokenIds:
    """Ids as Hugging Face tokenizers gives them: a piece of the vocabulary keeps its own, others count on from its end.

    Args:
        vocabulary: pieces and their ids.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary, self._added = vocabulary, dict[str, int]()

    def __getitem__(self, content: str) -> int:
        return self._added[content] if content in self._added else self._vocabulary[content]

    def __contains__(self, content: str) -> bool:
        return content in self._added or content in self._vocabulary

    def add(self, tokens: Iterable[AddedToken]) -> list[dict[str, Any]]:
        """Give ids to tokens, and return them as tokenizer.json has them."""
        return [token.to_dict(self._give(token.content)) for token in tokens if token.content]

    def _give(self, content: str) -> int:
        if content not in self:
            self._added[content] = max(len(self._vocabulary), 1 + max(self._added.values(), default=-1))
        return self._added.setdefault(content, self[content])
