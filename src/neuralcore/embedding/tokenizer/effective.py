"""What a tokenizer is, where several files speak of it: one tokenizer.json that says what transformers 5 reads in all.

transformers takes the class that tokenizer_config.json names. Most classes take the pieces of tokenizer.json and build
the rest from tokenizer_config.json, so that what tokenizer.json says of case, accents and splitting is overruled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..documents import Document
from ..errors import UnsupportedModel
from .added import TokenIds
from .classes import find_class
from .rebuilds import REBUILDS, Rebuild, Taken
from .tokens import StatedTokens, read_tokens

# What would make another tokenizer, and is not run here; all that these files usually hold besides is of no effect.
_REFUSED = (
    "split_special_tokens", "fix_mistral_regex", "init_inputs", "gguf_file", "tokenizer_object", "post_processor",
    "tokenizer_truncation", "tokenizer_padding", "_json_truncation", "_json_padding", "_spm_precompiled_charsmap",
    "vocab", "merges", "model_specific_special_tokens",
)  # fmt: skip
_SIDES = ("right", "left")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What is said of one tokenizer.

    Args:
        tokenizer: tokenizer.json.
        settings: tokenizer_config.json, overruled by what sentence-transformers passes on.
        architecture: config.json.
        special_tokens: special_tokens_map.json.
        added_tokens: added_tokens.json.
    """

    tokenizer: Document
    settings: Document
    architecture: Document
    special_tokens: Document
    added_tokens: Document


def make_effective(files: TokenizerFiles) -> dict[str, Any]:
    """The tokenizer.json that gives the ids which transformers gives.

    Raises:
        UnsupportedModel: of a class or with a setting that is not known here.
        ModelCorrupt: a value is of another type than it has to be.
    """
    rebuild = _find_rebuild(files)
    _refuse_settings(files.settings)
    stated = read_tokens(files.tokenizer, files.settings, files.special_tokens, files.added_tokens, rebuild)
    effective = {**files.tokenizer, **_parts(files.tokenizer, files.settings, rebuild, stated)}
    own = [] if rebuild.make else stated.of_file
    ids = TokenIds(_pieces(effective["model"]))
    effective["added_tokens"] = ids.add([*own, *stated.to_add(own, readds=rebuild.readds)])
    if rebuild.frame and not (rebuild.frames_only_bare and files.tokenizer.get("post_processor")):
        framed, made = files.tokenizer.get("post_processor"), rebuild.frame(stated.named, ids)
        effective["post_processor"] = framed if _around(framed) == _around(made) else made
    if rebuild.frames_only_bare:
        _refuse_new_frame(stated, effective["model"], files.settings)
    effective["truncation"] = _truncation(files.tokenizer, files.settings)
    _refuse_types(effective, files, has_types=rebuild.has_types)
    return effective


def _find_rebuild(files: TokenizerFiles) -> Rebuild:
    is_byte_level = "ByteLevel" in repr({**files.tokenizer, "model": None, "added_tokens": None})
    name = find_class(files.settings, files.architecture, is_byte_level=is_byte_level)
    if name not in REBUILDS:
        reason = (
            f"transformers builds another tokenizer of {files.tokenizer.path.name} by its class {name}, which is not "
            "known here; where the file says all, write PreTrainedTokenizerFast for tokenizer_class"
        )
        raise UnsupportedModel(str(files.settings.path.parent), reason)
    return REBUILDS[name]


def _refuse_settings(settings: Document) -> None:
    for key in _REFUSED:
        if settings.get(key):
            raise UnsupportedModel(str(settings.path.parent), f"{key} in {settings.path} is not run here")
    others = settings.get("fast_tokenizer_files") or ["tokenizer.json"]
    if others != ["tokenizer.json"]:
        reason = f"{settings.path} names other files than tokenizer.json: fast_tokenizer_files"
        raise UnsupportedModel(str(settings.path.parent), reason)


def _parts(tokenizer: Document, settings: Document, rebuild: Rebuild, stated: StatedTokens) -> Mapping[str, Any]:
    if rebuild.make is None:
        return {}
    charsmap = _find_charsmap(tokenizer)
    return rebuild.make(Taken(tokenizer.section("model"), charsmap, settings, stated.named))


def _refuse_new_frame(stated: StatedTokens, model: Mapping[str, Any], settings: Document) -> None:
    """Of this kind, what stands around a text must be of the vocabulary, even if the file's own frame is kept."""
    for role in ("cls_token", "sep_token"):
        if stated.named[role].content not in _pieces(model):
            raise settings.refused(role, "a piece of the vocabulary")


def _find_charsmap(tokenizer: Document) -> str | None:
    normalizer = tokenizer.section("normalizer")
    parts = normalizer.sections("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    for part in parts:
        if part.get("type") == "Precompiled":
            return part.text("precompiled_charsmap", None)
    return None


def _pieces(model: Mapping[str, Any]) -> Mapping[str, int]:
    pieces = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(pieces, dict):
        return pieces
    if isinstance(pieces, list):
        return {piece[0]: number for number, piece in enumerate(pieces) if isinstance(piece, (list, tuple)) and piece}
    return {}


def _truncation(tokenizer: Document, settings: Document) -> dict[str, Any] | None:
    """Only its direction counts: the limit is another matter."""
    own = tokenizer.section("truncation")
    side = settings.text("truncation_side", own.text("direction", "Right").lower())
    if side not in _SIDES:
        raise settings.refused("truncation_side", "right or left")
    if side == own.text("direction", "Right").lower():
        return tokenizer.get("truncation")
    return {"max_length": 512, "strategy": "LongestFirst", "stride": 0, **own, "direction": side.capitalize()}


def _refuse_types(effective: Mapping[str, Any], files: TokenizerFiles, *, has_types: bool) -> None:
    """Each token's type is taken for 0 here; a frame may say otherwise, and transformers passes that on."""
    inputs = files.settings.get("model_input_names")
    passes_on = has_types if inputs is None else isinstance(inputs, list) and "token_type_ids" in inputs
    if passes_on and _has_other_types(effective.get("post_processor")):
        raise UnsupportedModel(str(files.tokenizer.path.parent), "its tokenizer gives tokens another type than 0")


def _around(frame: object) -> object:
    """The ids that a frame puts before a text and behind it, if it gives all of them the type 0; else the frame."""
    match frame:
        case {"type": "BertProcessing" | "RobertaProcessing", "cls": [_, int(start)], "sep": [_, int(end)]}:
            return [start, None, end]
        case {"type": "TemplateProcessing", "single": list(single), "special_tokens": dict(known)}:
            parts = [ids for ids in (_ids_of(piece, known) for piece in single) if ids is not None]
            return [token_id for ids in parts for token_id in ids] if len(parts) == len(single) else frame
    return frame


def _ids_of(piece: object, known: Mapping[str, Any]) -> list[int | None] | None:
    match piece:
        case {"Sequence": {"id": "A", "type_id": 0}}:
            return [None]
        case {"SpecialToken": {"id": str(name), "type_id": 0}}:
            match known.get(name):
                case {"ids": list(ids)}:
                    return ids
    return None


def _has_other_types(frame: object) -> bool:
    match frame:
        case {"type": "Sequence", "processors": list(parts)}:
            return any(map(_has_other_types, parts))
        case {"type": "TemplateProcessing", "single": list(single)}:
            return any(part.get("type_id") for piece in single if isinstance(piece, dict) for part in piece.values()
                       if isinstance(part, dict))  # fmt: skip
    return False
