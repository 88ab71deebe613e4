"""Small tokenizers of the kinds that models come with: the same pieces on every machine, as nothing is trained."""

from collections.abc import Callable, Sequence
from functools import partial

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.families.texts import TEXTS, WORDS

SIZE = 400
"""Rows of every word table; tokenizers have fewer words."""

_CHARACTERS = sorted(set("".join(TEXTS).lower()) - set(" \n\t"))
_BLANK = "\u2581"

MakeTokenizer = Callable[[], Tokenizer]


def word_piece() -> Tokenizer:
    """Of BERT: lowercase, [CLS] and [SEP] around a text. The pad token's id is 0."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [character for character in _CHARACTERS if character.isalnum() and ord(character) < 0x2000]
    normalizer = normalizers.BertNormalizer()
    words = [normalizer.normalize_str(word) for word in WORDS]
    pieces = [*special, *words, *letters, *(f"##{letter}" for letter in letters if ord(letter) < 0x500)]
    vocabulary = _numbered(pieces)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _finish(tokenizer, special, "[CLS] $A [SEP]")


def unigram(*, special: Sequence[str] = ("<s>", "<pad>", "</s>", "<unk>")) -> Tokenizer:
    """Of XLM-RoBERTa: pieces with scores, blanks written out. The pad token's id is 1."""
    words = [(_BLANK + word, -6.0 - 0.01 * number) for number, word in enumerate(WORDS)]
    characters = [(character, -11.0 - 0.01 * number) for number, character in enumerate([_BLANK, *_CHARACTERS])]
    scored = [*((token, 0.0) for token in special), *dict(words + characters).items(), ("<mask>", 0.0)]
    assert len(scored) <= SIZE, len(scored)
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=list(special).index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_BLANK, prepend_scheme="always")
    return _finish(tokenizer, [*special, "<mask>"], "<s> $A </s>")


def byte_level(
    *,
    special: Sequence[str] = ("<s>", "<pad>", "</s>", "<unk>"),
    template: str = "<s> $A </s>",
    last: Sequence[str] = ("<mask>",),
) -> Tokenizer:
    """Of RoBERTa (by default), ModernBERT and Qwen: merged bytes.

    Args:
        special: the first words.
        template: what stands around a text.
        last: special tokens behind all other words.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, made = [], dict.fromkeys([*special, *alphabet])
    for word in WORDS[:60]:
        parts = [piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=True).pre_tokenize_str(word)]
        start = parts[0][0]
        for character in parts[0][1:4]:
            merged = start + character
            if merged not in made and len(made) + len(last) < SIZE:
                merges.append((start, character))
                made[merged] = None
            start = merged
    tokenizer = Tokenizer(models.BPE(_numbered([*made, *last]), merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _finish(tokenizer, [*special, *last], template)


def byte_fallback() -> Tokenizer:
    """Of Gemma: merged characters, blanks written out, bytes for what is unknown. The pad token's id is 0."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    characters = [_BLANK, *(character for character in _CHARACTERS if ord(character) < 0x500)]
    made = dict.fromkeys([*special, "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters])
    merges = []
    for word in WORDS:
        start = _BLANK
        for character in word[:3]:
            merged = start + character
            if character in made and merged not in made and len(made) < SIZE:
                merges.append((start, character))
                made[merged] = None
            if merged not in made:
                break
            start = merged
    tokenizer = Tokenizer(models.BPE(_numbered(made), merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", _BLANK)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    return _finish(tokenizer, [*special, "<mask>"], "<bos> $A <eos>")


TOKENIZERS: dict[str, MakeTokenizer] = {
    "word_piece": word_piece,
    "unigram": unigram,
    "unigram_camembert": partial(
        unigram, special=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
    ),
    "byte_level": byte_level,
    "byte_level_cls": partial(
        byte_level, special=("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"), template="[CLS] $A [SEP]", last=()
    ),
    "byte_level_end": partial(
        byte_level, special=(), template="$A <|endoftext|>", last=("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ),
    "byte_fallback": byte_fallback,
}
"""By the names that cases use."""

NAMED: dict[str, dict[str, str]] = {
    "word_piece": {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    "unigram": {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"},
    "unigram_camembert": {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"},
    "byte_level": {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"},
    "byte_level_cls": {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    "byte_level_end": {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "byte_fallback": {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"},
}
"""What tokenizer_config.json calls them."""


def _numbered(pieces: Sequence[str]) -> dict[str, int]:
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    assert len(vocabulary) <= SIZE, len(vocabulary)
    return vocabulary


def _finish(tokenizer: Tokenizer, special: Sequence[str], template: str) -> Tokenizer:
    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    around = [pair for pair in ids if pair[0] in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer
