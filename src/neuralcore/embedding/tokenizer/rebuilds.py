"""What transformers' classes make of the pieces of a tokenizer.json, told as parts of another tokenizer.json.

Of the file itself they keep its pieces, their merges, and the map of characters that SentencePiece compiled; and what
stands around a text, unless they know that themselves. Read in the classes' own source (transformers 5.23).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..documents import Document
from .added import AddedToken, TokenIds

Part = dict[str, Any]
Named = Mapping[str, AddedToken]
"""Special tokens by their role: "cls_token", "pad_token", ..."""

_BLANK = "\u2581"
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a class takes from a tokenizer.json.

    Args:
        model: its model.
        charsmap: what SentencePiece compiled, in base64; None where its normalizer has none.
        settings: what tokenizer_config.json says.
        tokens: special tokens by their role.
    """

    model: Document
    charsmap: str | None
    settings: Document
    tokens: Named

    def ids(self) -> dict[str, int]:
        """Its pieces and their ids."""
        pieces = self.model.get("vocab")
        if isinstance(pieces, dict) and all(type(token_id) is int for token_id in pieces.values()):
            return pieces
        if isinstance(pieces, list):
            return {piece: number for number, (piece, _) in enumerate(self.scored())}
        raise self.model.refused("vocab", "pieces and their ids")

    def scored(self) -> list[tuple[str, float]]:
        """Its pieces and their scores, in the order of their ids."""
        pieces = self.model.get("vocab")
        if not isinstance(pieces, list) or not all(_is_scored(piece) for piece in pieces):
            raise self.model.refused("vocab", "a list of pieces and their scores")
        return [(piece, score) for piece, score in pieces]

    def unk(self) -> str:
        """The text of the token for what is unknown."""
        return self.tokens["unk_token"].content


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """What one class does.

    Args:
        tokens: the special tokens that it has unless the files name others. None: it has none of this role.
        make: "model", "normalizer" and "pre_tokenizer" from pieces; None where it keeps the file's.
        frame: what it puts around a text; None where it keeps the file's.
        frames_only_bare: the file's frame is kept, if it has one.
        extra: further special tokens that it has unless the files name others.
        strips_before: roles whose token takes the blanks before it along.
        may_lack: roles whose token the files may say that it has not, though it would have one else.
        readds: at the end, every special token is added once more as one that strips nothing.
        has_types: it gives the encoder a type for each token, as the frame says.
    """

    tokens: Mapping[str, str | None]
    make: Callable[[Taken], Part] | None = None
    frame: Callable[[Named, TokenIds], Part | None] | None = None
    frames_only_bare: bool = False
    extra: Callable[[Document], Sequence[str]] = lambda _settings: ()
    strips_before: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ("mask_token",)
    readds: bool = False
    has_types: bool = False


def _is_scored(piece: object) -> bool:
    match piece:
        case [str(), float() | int() as score]:
            return not isinstance(score, bool)
    return False


def _template(*roles: str) -> Callable[[Named, TokenIds], Part]:
    """A frame of tokens by role, where "" is the text."""

    def frame(tokens: Named, ids: TokenIds) -> Part:
        contents = [tokens[role].content if role else "" for role in roles]
        single = [_special(content) if content else {"Sequence": {"id": "A", "type_id": 0}} for content in contents]
        pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
        known = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in contents if name}
        return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}

    return frame


def _special(content: str) -> Part:
    return {"SpecialToken": {"id": content, "type_id": 0}}


def _no_frame(_tokens: Named, _ids: TokenIds) -> None:
    return None


def _wordpiece(pieces: Taken) -> Part:
    model = {
        "type": "WordPiece",
        "unk_token": pieces.unk(),
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": pieces.ids(),
    }
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": pieces.settings.flag("tokenize_chinese_chars", True),
        "strip_accents": pieces.settings.flag("strip_accents", None),
        "lowercase": pieces.settings.flag("do_lower_case", True),
    }
    return {"model": model, "normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}}


def _unigram(pieces: Taken, unk_id: int) -> Part:
    return {"type": "Unigram", "unk_id": unk_id, "vocab": pieces.scored(), "byte_fallback": False}


def _bpe(pieces: Taken, **options: Any) -> Part:
    merges = pieces.model.get("merges") or []
    usual = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}  # fmt: skip
    return {"type": "BPE", **usual, **options, "vocab": pieces.ids(), "merges": merges}


def _byte_level(*, add_prefix_space: bool, use_regex: bool = True) -> Part:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _metaspace(scheme: str, *, split: bool = True) -> Part:
    return {"type": "Metaspace", "replacement": _BLANK, "prepend_scheme": scheme, "split": split}


def _words_with_blanks(pieces: Taken, unk_id: int) -> Part:
    """SentencePiece's Unigram, over words."""
    return {
        "model": _unigram(pieces, unk_id),
        "normalizer": _precompiled(pieces),
        "pre_tokenizer": _sequence("pretokenizers", {"type": "WhitespaceSplit"}, _metaspace(_scheme(pieces))),
    }


def _scheme(pieces: Taken) -> str:
    return "always" if pieces.settings.flag("add_prefix_space", True) else "never"


def _precompiled(pieces: Taken) -> Part | None:
    return {"type": "Precompiled", "precompiled_charsmap": pieces.charsmap} if pieces.charsmap else None


def _sequence(kind: str, *parts: Part | None) -> Part:
    return {"type": "Sequence", kind: [part for part in parts if part]}


def _replace(content: str, **pattern: str) -> Part:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _camembert(pieces: Taken) -> Part:
    contents = [piece for piece, _ in pieces.scored()]
    unk = pieces.unk()
    return _words_with_blanks(pieces, contents.index(unk) if unk in contents else 0)


def _t5(pieces: Taken) -> Part:
    parts = _words_with_blanks(pieces, 2)
    return {**parts, "pre_tokenizer": _sequence("pretokenizers", {"type": "WhitespaceSplit"}, _metaspace("always"))}


def _extra_ids(settings: Document) -> list[str]:
    return [f"<extra_id_{number}>" for number in range(settings.integer("extra_ids", 100, most=10_000))]


def _albert(pieces: Taken) -> Part:
    is_lower = pieces.settings.flag("do_lower_case", True)
    accents = [] if pieces.settings.flag("keep_accents", False) else [{"type": "NFKD"}, {"type": "StripAccents"}]
    lower = {"type": "Lowercase"} if is_lower else None
    quotes = [_replace('"', String="``"), _replace('"', String="''")]
    parts = _words_with_blanks(pieces, 1)
    return {**parts, "normalizer": _sequence("normalizers", *quotes, *accents, lower, parts["normalizer"])}


def _deberta_v2(pieces: Taken) -> Part:
    settings = pieces.settings
    unk = (pieces.unk(), 0.0)
    scored = pieces.scored()
    unk_id = scored.index(unk) if unk in scored else settings.integer("unk_id", 1)
    lower = {"type": "Lowercase"} if settings.flag("do_lower_case", False) else None
    blanks = _replace(" ", Regex=r"\s{2,}|[\n\r\t]")
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    marks = {"type": "Punctuation", "behavior": "Isolated"} if settings.flag("split_by_punct", False) else None
    scheme = "always" if settings.flag("add_prefix_space", True) else "first"
    return {
        "model": _unigram(pieces, unk_id),
        "normalizer": _sequence("normalizers", lower, blanks, {"type": "NFC"}, strip),
        "pre_tokenizer": _sequence("pretokenizers", marks, _metaspace(scheme)),
    }


def _bytes(pieces: Taken, normalizer: Part | None = None) -> Part:
    """GPT-2's words of bytes."""
    return {
        "model": _bpe(pieces, continuing_subword_prefix="", end_of_word_suffix=""),
        "normalizer": normalizer,
        "pre_tokenizer": _byte_level(add_prefix_space=pieces.settings.flag("add_prefix_space", False)),
    }


def _neox(pieces: Taken) -> Part:
    return _bytes(pieces, {"type": "NFC"})


def _qwen2(pieces: Taken) -> Part:
    words = {"type": "Split", "pattern": {"Regex": _QWEN2_WORDS}, "behavior": "Isolated", "invert": False}
    parts = _neox(pieces)
    as_bytes = {**parts["pre_tokenizer"], "use_regex": False}
    return {**parts, "pre_tokenizer": _sequence("pretokenizers", words, as_bytes)}


def _llama(pieces: Taken) -> Part:
    settings = pieces.settings
    prepended = "always" if settings.flag("legacy", False) else "first"
    scheme = prepended if settings.flag("add_prefix_space", True) else "never"
    model = _bpe(pieces, fuse_unk=True, byte_fallback=True)
    return {"model": model, "normalizer": None, "pre_tokenizer": _metaspace(scheme, split=False)}


def _gemma(pieces: Taken) -> Part:
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    model = _bpe(pieces, fuse_unk=True, byte_fallback=True, unk_token=pieces.unk())
    return {"model": model, "normalizer": _replace(_BLANK, String=" "), "pre_tokenizer": split}


_OF_BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
            "mask_token": "[MASK]"}  # fmt: skip
_OF_ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
               "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}  # fmt: skip
_OF_DEBERTA = {**_OF_BERT, "bos_token": "[CLS]", "eos_token": "[SEP]"}
_END = "<|endoftext|>"
_OF_GPT2 = {"bos_token": _END, "eos_token": _END, "unk_token": _END, "pad_token": None}

_BERT = Rebuild(tokens=_OF_BERT, make=_wordpiece, frame=_template("cls_token", "", "sep_token"), has_types=True)

REBUILDS: Mapping[str, Rebuild] = {
    "TokenizersBackend": Rebuild(tokens={}),
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": Rebuild(tokens=_OF_BERT, make=_wordpiece, frame=_BERT.frame),
    "ConvBertTokenizer": Rebuild(tokens=_OF_BERT, frame=_BERT.frame, has_types=True),
    "MPNetTokenizer": Rebuild(
        tokens={**_OF_ROBERTA, "unk_token": "[UNK]"},
        make=_wordpiece,
        frame=_template("cls_token", "", "sep_token"),
        strips_before=("mask_token",),
    ),
    "RobertaTokenizer": Rebuild(tokens=_OF_ROBERTA, make=_bytes, frame=_template("cls_token", "", "sep_token")),
    "XLMRobertaTokenizer": Rebuild(
        tokens=_OF_ROBERTA,
        make=lambda pieces: _words_with_blanks(pieces, 3),
        frame=_template("bos_token", "", "eos_token"),
    ),
    "CamembertTokenizer": Rebuild(
        tokens=_OF_ROBERTA,
        make=_camembert,
        frame=_template("bos_token", "", "eos_token"),
        extra=lambda _settings: ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        strips_before=("mask_token",),
    ),
    "DebertaTokenizer": Rebuild(
        tokens=_OF_DEBERTA, make=_bytes, frame=_template("cls_token", "", "sep_token"), has_types=True
    ),
    "DebertaV2Tokenizer": Rebuild(
        tokens=_OF_DEBERTA, make=_deberta_v2, frame=_template("cls_token", "", "sep_token"), has_types=True
    ),
    "AlbertTokenizer": Rebuild(
        tokens={**_OF_DEBERTA, "unk_token": "<unk>", "pad_token": "<pad>"},
        make=_albert,
        frame=_template("cls_token", "", "sep_token"),
        frames_only_bare=True,
    ),
    "T5Tokenizer": Rebuild(
        tokens={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        make=_t5,
        frame=_template("", "eos_token"),
        extra=_extra_ids,
    ),
    "GPT2Tokenizer": Rebuild(tokens=_OF_GPT2, make=_bytes),
    "GPTNeoXTokenizer": Rebuild(tokens={**_OF_GPT2, "pad_token": "<|padding|>"}, make=_neox, frame=_no_frame),
    "Qwen2Tokenizer": Rebuild(
        tokens={**_OF_GPT2, "bos_token": None, "pad_token": _END},
        make=_qwen2,
        may_lack=("unk_token", "eos_token", "pad_token"),
        readds=True,
    ),
    "LlamaTokenizer": Rebuild(tokens={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, make=_llama),
    "GemmaTokenizer": Rebuild(
        tokens={"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
                "mask_token": "<mask>"},
        make=_gemma,
    ),
}  # fmt: skip
"""The classes that are known. What another one makes of a tokenizer.json cannot be said here."""
