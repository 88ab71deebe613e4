"""The special and added tokens of a tokenizer, from the four files that may state them, in transformers' order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..documents import Document
from .added import AddedToken
from .rebuilds import Rebuild

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("extra_special_tokens", "additional_special_tokens")


@dataclass(frozen=True, slots=True)
class StatedTokens:
    """What the files say.

    Args:
        of_file: those of tokenizer.json.
        listed: those that are listed by id.
        named: those with a role.
        extra: special ones without a role.
    """

    of_file: list[AddedToken]
    listed: list[AddedToken]
    named: dict[str, AddedToken]
    extra: list[AddedToken]

    def to_add(self, own: Iterable[AddedToken], *, readds: bool) -> list[AddedToken]:
        """Those that a tokenizer which has its `own` still lacks, in the order in which they are added."""
        there = {token.content: token.settled for token in own}
        missing = [token for token in self.listed if token.settled not in there.values()]
        known = {*there, *(token.content for token in missing)}
        missing += [token for token in (*self.named.values(), *self.extra) if token.content not in known]
        special = {token.content for token in self.named.values()}
        added = [replace(token, special=token.special or token.content in special) for token in missing]
        if readds:
            added += [AddedToken(token.content, special=True) for token in (*self.named.values(), *self.extra)]
        return added


def read_tokens(
    tokenizer: Document, settings: Document, special_tokens: Document, added_tokens: Document, rebuild: Rebuild
) -> StatedTokens:
    """Read all that the files say; the arguments are those of `TokenizerFiles`, and the class's part in it.

    Raises:
        ModelCorrupt: a value is of another type than it has to be.
    """
    of_file = [(values.integer("id", -1), AddedToken.read(values)) for values in tokenizer.sections("added_tokens")]
    is_listed = "added_tokens_decoder" in settings
    said = _read_named(settings)
    extra = _read_extra(settings)
    if is_listed:
        by_id = _read_listed(settings.section("added_tokens_decoder"))
    else:  # the way of older files
        said |= _read_named(special_tokens, special=True)
        is_by_older_name = not special_tokens.get(_EXTRA[0])
        others = _read_extra(special_tokens, special=True)
        counted = extra if is_by_older_name else [*(extra or ()), *(others or ())]
        extra = others if extra is None else counted
        with_role = (token for role, token in said.items() if role in _ROLES)
        special = {token.content for token in (*with_role, *(counted or ())) if token}
        by_id = {**_read_added(added_tokens, special), **dict(of_file)}
    listed = [by_id[token_id] for token_id in sorted(by_id)]
    by_content = {token.content: token for token in by_id.values()}
    said = {role: by_content.get(token.content, token) if token and role in _ROLES else token
            for role, token in said.items()}  # fmt: skip
    named = _with_defaults(said, tokenizer, settings, rebuild)
    if extra is None:
        extra = [AddedToken(content, special=True) for content in rebuild.extra(settings)]
    return StatedTokens([token for _, token in of_file], listed, named, extra)


def _read_named(values: Document, *, special: bool | None = None) -> dict[str, AddedToken | None]:
    """Those with a role: of the usual ones, or of another whose name ends like theirs."""
    named: dict[str, AddedToken | None] = {}
    for key, value in values.items():
        if key in _ROLES and value is None:
            named[key] = None
        elif key in _ROLES or (key.endswith("_token") and isinstance(value, (str, dict))):
            named[key] = _read_one(values, key, special=special)
    named_apart = values.get(_EXTRA[0])
    if isinstance(named_apart, dict):
        inner = values.section(_EXTRA[0])
        named |= {key: _read_one(inner, key, special=special) for key in inner}
    return named


def _read_one(values: Document, key: str, *, special: bool | None = None) -> AddedToken:
    if isinstance(values[key], dict):
        return AddedToken.read(values.section(key), special=special)
    content = values.text(key, None)
    if content is None:
        raise values.refused(key, "a text")
    return AddedToken(content, special=True)


def _read_extra(values: Document, *, special: bool | None = None) -> list[AddedToken] | None:
    """Special tokens without a role; None if nothing is said of them."""
    key = next((key for key in _EXTRA if values.get(key)), next((key for key in _EXTRA if key in values), None))
    value = values.get(key) if key else None
    if value is None or isinstance(value, dict):
        return None
    if not isinstance(value, list):
        raise values.refused(str(key), "a list of tokens")
    inner = Document(values.path, {str(number): token for number, token in enumerate(value)}, f"{key}.")
    return [_read_one(inner, number, special=special) for number in inner]


def _read_listed(listed: Document) -> dict[int, AddedToken]:
    by_id = {}
    for key in listed:
        if not key.isdecimal():
            raise listed.refused(key, "a number for the name of an object")
        by_id[int(key)] = AddedToken.read(listed.section(key))
    return by_id


def _read_added(values: Document, special: set[str]) -> dict[int, AddedToken]:
    added: dict[int, AddedToken] = {}
    for content in values:
        is_special = content in special
        added[values.integer(content, -1)] = AddedToken(content, normalized=not is_special, special=is_special)
    return added


def _with_defaults(
    said: dict[str, AddedToken | None], tokenizer: Document, settings: Document, rebuild: Rebuild
) -> dict[str, AddedToken]:
    defaults: dict[str, Any] = dict(rebuild.tokens)
    padding = tokenizer.section("padding")
    if "pad_token" in padding:
        defaults.setdefault("pad_token", padding.text("pad_token", None))
    named: dict[str, AddedToken] = {}
    for role in (*_ROLES, *(role for role in said if role not in _ROLES)):
        content = defaults.get(role)
        token = said[role] if role in said else content and AddedToken(content, special=True)
        if token is None and content is not None and role in rebuild.tokens and role not in rebuild.may_lack:
            raise settings.refused(role, "a text")
        if token:
            strips = role in rebuild.strips_before and token == AddedToken(token.content, special=True)
            named[role] = replace(token, lstrip=True) if strips else token
    return named
