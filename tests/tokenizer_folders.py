"""Random folders of a tokenizer: files of every class and kind, agreeing and contradicting each other.

Needs nothing but tokenizers, so that transformers can be asked about the same folders (scripts/golden_tokenizers.py).
"""

import json
import random
from itertools import chain
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

N_FOLDERS = 200
MAX_TOKENS = 12
TEXTS = (
    "",
    "the cat sat on the mat",
    "The CAT, the Dog!",
    "R\u00e9sum\u00e9 na\u00efve caf\u00e9 \u00c5ngstr\u00f6m e\u0301 \u00df \u0130",
    "cat\u732b\u5750\u4e0bdog",
    " not\n\n a\t\u00a0\u200b red  mat  ",
    "[CLS] the [MASK] cat [SEP] [PAD]<s> the </s><pad><unk> <mask> a  <mask>b",
    "<ent> the<ENT>cat <ent>s \u00e9t\u00e9 the_end <extra_id_1> <s>NOTUSED <|endoftext|> <bos> <|padding|>",
    "\ufb01x \uff21\u2026 ``quoted'' don't 3.14 x-ray's",
    "cat dog sat mat tree big red a not on " * 3,
    "supercalifragilisticexpialidocious" * 4,
)
"""What one setting or another decides about: case, accents, Chinese, blanks, added tokens, quotes, long words."""

CHARSMAP = (
    "AAQAAAAgAAAJCQAACgUAAAAAAIDMAAIAgQ0AAA4AAICgEQAAgCgCAIspAAACAACAqxkAAISwAgALAACArAACAIF9AAAIAACAoQ0AAAYAAIASAA"
    "AAFQAAABQAAAAXAAAAFgAAABkAAAAYAAAAGwAAABoAAAAdAAAAHAAAALy4AgAeAAAAIQAAACAAAAAjAAAAIgAAAKa5AAAkAAAAJwAAACYAAAAp"
    "AAAAKAAAACsAAAAqAAAALQAAACwAAAAvAAAALgAAADEAAAAwAAAAMwAAADIAAAA1AAAANAAAADcAAAA2AAAAOQAAADgAAAA7AAAAOgAAAD0AAA"
    "A8AAAAPwAAAD4AAABBAAAAQAAAAEMAAABCAAAARQAAAEQAAABHAAAARgAAAEkAAABIAAAASwAAAEoAAABNAAAATAAAAE8AAABOAAAAUQAAAFAA"
    "AABTAAAAUgAAAFUAAABUAAAAVwAAAFYAAABZAAAAWAAAAFsAAABaAAAAXQAAAFwAAABfAAAAXgAAAGEAAABgAAAAYwAAAGIAAABlAAAAZAAAAG"
    "cAAABmAAAAaQAAAGgAAABrAAAAagAAAG0AAABllAIAbwAAAG4AAABxAAAAcAAAAHMAAAByAAAAdQAAAHQAAAB3AAAAdgAAAHkAAAB4AAAAewAA"
    "AHoAAAB9AAAAfAAAAH8AAAB+AAAAgQAAAIAAAACDAAAAggAAAIUAAACEAAAAhwAAAIYAAACJAAAAiAAAAIsAAACKAAAAjQAAAIwAAACPAAAAjg"
    "AAAJEAAACQAAAAkwAAAJIAAACVAAAAlAAAAJcAAACWAAAAmQAAAJgAAACbAAAAmgAAAJ0AAACcAAAAnwAAAJ4AAAChAAAAoAAAAKMAAACiAAAA"
    "pQAAAKQAAACnAAAApgAAAKkAAACoAAAAqwAAAKoAAACtAAAArAAAAK8AAACuAAAAsQAAALAAAACzAAAAsgAAALUAAAC0AAAAtwAAALYAAAC5AA"
    "AAuAAAALsAAAC6AAAAvQAAALwAAAC/AAAAvgAAAMEAAADAAAAAwwAAAMIAAADFAAAAxAAAAMcAAADGAAAAyQAAAMgAAADCtAEAygAAAM0AAADM"
    "AAAAzwAAAM4AAADRAAAA0AAAANMAAADSAAAA1QAAANQAAADXAAAA1gAAANkAAADYAAAA2wAAANoAAADdAAAA3AAAAN8AAADeAAAA4QAAAOAAAA"
    "DjAAAA4gAAAOUAAADkAAAA5wAAAO8UAQDpAAAA6AAAAOKIAQDqAAAA7QAAAOwAAADvAAAA7gAAAPEAAADwAAAA8wAAAPIAAAD1AAAA9AAAAPcA"
    "AAD2AAAA+QAAAPgAAAD7AAAA+gAAAP0AAAD8AAAA/wAAAP4AAAAgAC4uLgBBAGZpAMOFAMOpAA=="
)
"""What SentencePiece compiles of nine rules, such as the ligature fi to two letters and a tab to a blank."""

_WORDS = [
    "the",
    "cat",
    "dog",
    "sat",
    "mat",
    "tree",
    "big",
    "red",
    "not",
    "on",
    "The",
    "CAT",
    "Dog",
    "ete",
    "\u00e9t\u00e9",
]
_MORE = list("\u00e9\u00e0\u00ef\u00f6\u00e5\u00c5\u00c9\u00df\u0130\u0301\u732b\u5750\u4e0b.,!'`-_<>[]|\"\u2026")
_LETTERS = [chr(code) for code in (*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1), *range(48, 58))]
_OF_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_OF_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

KINDS = {
    "wordpiece": ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizerFast", "MPNetTokenizer",
                  "MPNetTokenizerFast", "ConvBertTokenizer", "MobileBertTokenizer"],
    "bytes": ["RobertaTokenizer", "RobertaTokenizerFast", "BartTokenizer", "LongformerTokenizerFast", "GPT2Tokenizer",
              "GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "DebertaTokenizer", "Qwen2Tokenizer", "LlamaTokenizer"],
    "blanks": ["LlamaTokenizer", "GemmaTokenizer", "GemmaTokenizerFast"],
    "unigram": ["XLMRobertaTokenizer", "XLMRobertaTokenizerFast", "CamembertTokenizer", "DebertaV2Tokenizer",
                "AlbertTokenizer", "AlbertTokenizerFast", "T5Tokenizer", "T5TokenizerFast"],
}  # fmt: skip
_KEEP = ["PreTrainedTokenizerFast", "TokenizersBackend", "SomethingElseTokenizer", "PreTrainedTokenizer"]
_TYPES = {
    "wordpiece": ["bert", "mpnet", "nomic_bert", "distilbert", "modernbert"],
    "bytes": ["roberta", "longformer", "gpt2", "qwen2", "qwen3", "modernbert", "gpt_neox", "deberta"],
    "blanks": ["llama", "gemma", "gemma3_text", "mistral"],
    "unigram": ["xlm-roberta", "camembert", "deberta-v2", "albert", "t5", "xlm-roberta-xl"],
}


def write(folder: Path, seed: int) -> Path:
    """Write the files of one folder, always the same for one seed, and return it."""
    draw = random.Random(seed)
    kind = draw.choice(list(KINDS))
    folder.mkdir(parents=True, exist_ok=True)
    specials = draw.choice([_OF_BERT, _OF_ROBERTA]) if draw.random() < 0.2 else _usual_specials(kind)
    tokenizer = _make(kind, specials, draw)
    tokenizer.save(str(folder / "tokenizer.json"))
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if draw.random() < 0.95:
        _write(folder, "config.json", _architecture(kind, draw))
    if draw.random() < 0.9:
        _write(folder, "tokenizer_config.json", _settings(kind, specials, document, draw))
    if draw.random() < 0.25:
        _write(folder, "special_tokens_map.json", _special_tokens_map(specials, draw))
    if draw.random() < 0.1:
        _write(folder, "added_tokens.json", {"<ent>": len(document["model"]["vocab"])})
    return folder


def _usual_specials(kind: str) -> list[str]:
    return _OF_BERT if kind == "wordpiece" else _OF_ROBERTA


def _make(kind: str, specials: list[str], draw: random.Random) -> Tokenizer:
    tokenizer = {"wordpiece": _wordpiece, "bytes": _bytes, "blanks": _blanks, "unigram": _unigram}[kind](specials, draw)
    end, start = (specials[3], specials[2]) if specials is _OF_BERT else ("</s>", "<s>")
    ids = [(token, tokenizer.token_to_id(token)) for token in (start, end)]
    if draw.random() < 0.9:
        single = draw.choice([f"{start} $A {end}", f"$A {end}", f"{start} $A"])
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    marked = [token for token in specials if draw.random() < 0.9]
    strips = {token: "mask" in token.lower() and draw.random() < 0.5 for token in marked}
    tokenizer.add_special_tokens([AddedToken(token, lstrip=strips[token], normalized=False) for token in marked])
    if draw.random() < 0.3:
        tokenizer.add_tokens([_entity(draw)])
    if draw.random() < 0.5:
        tokenizer.enable_truncation(16, direction=draw.choice(["left", "right"]))
    if draw.random() < 0.5:
        tokenizer.enable_padding(pad_token=specials[0], pad_id=0)
    return tokenizer


def _entity(draw: random.Random) -> AddedToken:
    flags = {name: draw.random() < 0.3 for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(draw.choice(["<ent>", "the_end", "\u00e9t\u00e9"]), **flags)


def _wordpiece(specials: list[str], draw: random.Random) -> Tokenizer:
    singles = [*_LETTERS, *_MORE]
    pieces = dict.fromkeys([*specials, "[UNK]", *_WORDS, *singles, *(f"##{single}" for single in singles)])
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    flags = {"strip_accents": draw.choice([None, True, False]), "lowercase": draw.random() < 0.5}
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=draw.random() < 0.5, **flags)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _bytes(specials: list[str], draw: random.Random) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys(
        [*specials, *letters, "th", "the", "\u0120t", "\u0120the", "ca", "cat", "\u0120c", "\u0120cat"]
    )
    merges = [("t", "h"), ("th", "e"), ("\u0120", "t"), ("\u0120t", "he"), ("c", "a"), ("ca", "t"), ("\u0120", "c")]
    merges = [pair for pair in merges if all(piece in pieces for piece in (*pair, "".join(pair)))]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=draw.random() < 0.5)
    tokenizer.normalizer = draw.choice([None, normalizers.NFC(), normalizers.Lowercase()])
    return tokenizer


def _blanks(specials: list[str], draw: random.Random) -> Tokenizer:
    singles = ["\u2581", *_LETTERS, *_MORE]
    codes = [f"<0x{code:02X}>" for code in range(256)]
    pieces = dict.fromkeys([*specials, *codes, *singles, "\u2581t", "\u2581th", "\u2581c", "ca", "at"])
    merges = [("\u2581", "t"), ("\u2581t", "h"), ("\u2581", "c"), ("c", "a"), ("a", "t")]
    unk = next(token for token in specials if "unk" in token.lower())
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return tokenizer


def _unigram(specials: list[str], draw: random.Random) -> Tokenizer:
    words = [("\u2581", -2.0), *((f"\u2581{word}", -3.0 - number / 10) for number, word in enumerate(_WORDS))]
    singles = [(single, -6.0 - number / 100) for number, single in enumerate([*_LETTERS, *_MORE])]
    pieces = dict([*((token, 0.0) for token in specials), *words, *singles])
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=draw.choice([1, 3])))
    tokenizer.normalizer = draw.choice([
        None,
        json_normalizer({"type": "Precompiled", "precompiled_charsmap": CHARSMAP}),
        json_normalizer({"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": CHARSMAP},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]}),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
    ])  # fmt: skip
    scheme = draw.choice(["always", "first", "never"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return tokenizer


def json_normalizer(values: dict) -> normalizers.Normalizer:
    """A normalizer by what tokenizer.json says of it."""
    document = json.loads(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())
    return Tokenizer.from_str(json.dumps({**document, "normalizer": values})).normalizer


def _architecture(kind: str, draw: random.Random) -> dict:
    chosen = draw.choice([*_TYPES[kind], *_TYPES[kind], *chain(*_TYPES.values())])
    own = {"tokenizer_class": draw.choice([*KINDS[kind], *_KEEP])} if draw.random() < 0.2 else {}
    return {"model_type": chosen, **own}


def _settings(kind: str, specials: list[str], document: dict, draw: random.Random) -> dict:
    flags = {
        "do_lower_case": [True, False], "strip_accents": [None, True, False], "tokenize_chinese_chars": [True, False],
        "truncation_side": ["left", "right"], "add_prefix_space": [True, False], "trim_offsets": [True, False],
        "keep_accents": [True, False], "split_by_punct": [True, False], "legacy": [True, False],
        "padding_side": ["left", "right"], "clean_up_tokenization_spaces": [True, False], "model_max_length": [9, 1e30],
    }  # fmt: skip
    settings = {key: draw.choice(values) for key, values in flags.items() if draw.random() < 0.4}
    if draw.random() < 0.85:
        own = KINDS[kind] if draw.random() < 0.93 else [*chain(*KINDS.values())]
        settings["tokenizer_class"] = draw.choice([*own, *own, *_KEEP])
    if draw.random() < 0.8:
        settings |= {role: _as_stated(token, draw) for role, token in _roles(specials).items() if draw.random() < 0.9}
    if draw.random() < 0.5:
        settings["added_tokens_decoder"] = _decoder(specials, document, draw)
    if draw.random() < 0.3:
        key = draw.choice(["additional_special_tokens", "extra_special_tokens"])
        settings[key] = draw.choice([[], ["<ent>"], ["the_end", "<ent>"]])
    if draw.random() < 0.1:
        settings["entity_token"] = "<ent>"
    return settings


def _roles(specials: list[str]) -> dict[str, str]:
    if specials is _OF_BERT:
        return dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True))
    return {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>",
            "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip


def _as_stated(token: str, draw: random.Random) -> str | dict:
    if draw.random() < 0.85:
        return token
    flags = {name: draw.random() < 0.3 for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"__type": "AddedToken", "content": token, **flags}


def _decoder(specials: list[str], document: dict, draw: random.Random) -> dict:
    vocabulary = document["model"]["vocab"]
    ids = (
        vocabulary if isinstance(vocabulary, dict) else {piece: number for number, (piece, _) in enumerate(vocabulary)}
    )
    stated = {}
    for token in specials:
        if draw.random() < 0.9:
            flags = {name: draw.random() < 0.1 for name in ("single_word", "lstrip", "rstrip", "normalized")}
            stated[str(ids[token])] = {"content": token, **flags, "special": draw.random() < 0.9}
    if draw.random() < 0.5:
        flags = {name: draw.random() < 0.3 for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        stated[str(len(ids))] = {"content": draw.choice(["<ent>", "the_end", "\u00e9t\u00e9"]), **flags}
    return stated


def _special_tokens_map(specials: list[str], draw: random.Random) -> dict:
    stated = {}
    for role, token in _roles(specials).items():
        flags = {name: draw.random() < 0.3 for name in ("single_word", "lstrip", "rstrip", "normalized")}
        stated[role] = token if draw.random() < 0.7 else {"content": token, **flags}
    if draw.random() < 0.3:
        stated["additional_special_tokens"] = ["<ent>"]
    return stated


def _write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
