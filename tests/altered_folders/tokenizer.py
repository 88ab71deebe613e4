"""What the files of a tokenizer say: case, accents, Chinese, sides, added tokens, classes, and files that disagree."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests import checkpoints, tiny_model
from tests.altered_folders import SPECIAL_TOKENS, AlteredFolder, change, write

SETTINGS, FILE = "tokenizer_config.json", "tokenizer.json"
BERT = {"tokenizer_class": "BertTokenizer", **SPECIAL_TOKENS}
KEPT = "PreTrainedTokenizerFast"
ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = "the cat dog a big ran sat on mat tree CAT The resume cafe naive ##s ##e"
_PIECES = [*_WORDS.split(), "caf\u00e9", "\u00c5"]
_SINGLES = [
    *"abcdemnorstuxy ".strip(),
    "C",
    "D",
    "R",
    "T",
    "\u00e9",
    "\u00e4",
    "\u732b",
    "\u5750",
    "\u4e0b",
    "-",
    ".",
    ",",
]
ENTITY, _ENT = "dog ran", checkpoints.VOCABULARY - 1  # a piece that no word is made of


def rich(folder: Path) -> Path:
    """A BERT whose vocabulary tells case, accents and Chinese apart, and whose tokenizer.json keeps all three."""
    tiny_model.write(folder)
    tokenizer().save(str(folder / FILE))
    write(folder, SETTINGS, BERT)
    return folder


def tokenizer() -> Tokenizer:
    """Cased WordPiece in all of the checkpoint's ids; the last one can only be an added token."""
    pieces = list(dict.fromkeys([*_SPECIAL, *_PIECES, *_SINGLES, *(f"##{single}" for single in _SINGLES)]))
    pieces += [f"[unused{number}]" for number in range(checkpoints.VOCABULARY - len(pieces) - 1)] + [ENTITY]
    ids = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False, handle_chinese_chars=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    made.add_special_tokens(_SPECIAL)
    return made


def settings(**values: Any) -> Callable[[Path], None]:
    """A folder whose tokenizer_config.json says this besides its class and special tokens."""
    return lambda folder: change(folder, SETTINGS, **values)


def directed(folder: Path, *, direction: str, **values: Any) -> None:
    """A tokenizer.json whose truncation has a direction."""
    truncation = {"direction": direction, "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    change(folder, FILE, truncation=truncation)
    change(folder, SETTINGS, **values)


def with_entity(folder: Path, *, by: str) -> None:
    """An added token by one file or another."""
    match by:
        case "tokenizer.json":
            own = json.loads((folder / FILE).read_text(encoding="utf-8"))["added_tokens"]
            change(folder, FILE, added_tokens=[*own, {"id": _ENT, "content": ENTITY, **ADDED}])
        case "tokenizer_config.json":
            change(folder, SETTINGS, added_tokens_decoder={str(_ENT): {"content": ENTITY, **ADDED}})
        case "added_tokens.json":
            write(folder, by, {ENTITY: _ENT})
        case "special_tokens_map.json":
            write(folder, by, {"additional_special_tokens": [ENTITY], "mask_token": "cat"})


def mpnet(folder: Path, **values: Any) -> None:
    """An MPNet that names its special tokens as BERT does."""
    checkpoints.mpnet(12).save(folder)
    change(folder, SETTINGS, tokenizer_class="MPNetTokenizer", bos_token="[CLS]", eos_token="[SEP]", **values)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})


def bytes_of_roberta(folder: Path, **values: Any) -> None:
    """Byte-level BPE, in the class of RoBERTa."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    kept = [letter for letter in letters if letter.isascii() and (letter.isalnum() or letter in ".,!'-")] + ["\u0120"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *kept, "th", "the", "\u0120c", "\u0120ca", "\u0120cat"]
    merges = [("t", "h"), ("th", "e"), ("\u0120", "c"), ("\u0120c", "a"), ("\u0120ca", "t")]
    made = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    made.save(str(folder / FILE))
    write(folder, SETTINGS, {"tokenizer_class": "RobertaTokenizer", **values})


def arguments(**values: Any) -> Callable[[Path], None]:
    """What sentence-transformers' own file passes on to the tokenizer."""
    return lambda folder: change(folder, "sentence_bert_config.json", tokenizer_args=values)


def without_settings(folder: Path) -> None:
    """A tokenizer.json alone: transformers takes the usual class of the kind of model."""
    (folder / SETTINGS).unlink()


Rich = partial(AlteredFolder, plain=rich)

FOLDERS = [
    Rich("bert_defaults", settings()),
    Rich("bert_cased", settings(do_lower_case=False)),
    Rich("bert_cased_without_accents", settings(do_lower_case=False, strip_accents=True)),
    Rich("bert_uncased_with_accents", settings(strip_accents=False)),
    Rich("bert_chinese_together", settings(tokenize_chinese_chars=False)),
    Rich("bert_all_off", settings(do_lower_case=False, strip_accents=False, tokenize_chinese_chars=False)),
    Rich("kept_as_it_is", settings(tokenizer_class=KEPT, do_lower_case=True)),
    Rich("class_nobody_knows", settings(tokenizer_class="SomethingElseTokenizer", do_lower_case=True)),
    Rich("distilbert_fast", settings(tokenizer_class="DistilBertTokenizerFast", do_lower_case=False)),
    Rich("electra", settings(tokenizer_class="ElectraTokenizer", strip_accents=False)),
    Rich("convbert_keeps_file", settings(tokenizer_class="ConvBertTokenizer")),
    Rich("no_settings", without_settings),
    Rich("class_by_config_json", lambda folder: (
        change(folder, SETTINGS, tokenizer_class=...), change(folder, "config.json", tokenizer_class=KEPT))),
    Rich("side_left", settings(truncation_side="left")),
    Rich("direction_left", partial(directed, direction="Left")),
    Rich("direction_left_side_right", partial(directed, direction="Left", truncation_side="right")),
    Rich("direction_right_side_left", partial(
        directed, direction="Right", truncation_side="left", tokenizer_class=KEPT)),
    Rich("added_by_file_kept", lambda folder: (
        with_entity(folder, by=FILE), change(folder, SETTINGS, tokenizer_class=KEPT))),
    Rich("added_by_file", partial(with_entity, by=FILE)),
    Rich("added_by_settings", partial(with_entity, by=SETTINGS)),
    Rich("added_not_by_settings", lambda folder: (
        with_entity(folder, by=FILE), change(folder, SETTINGS, added_tokens_decoder={}))),
    Rich("added_by_added_tokens", partial(with_entity, by="added_tokens.json")),
    Rich("added_by_special_tokens_map", partial(with_entity, by="special_tokens_map.json")),
    Rich("other_roles", settings(cls_token="[SEP]", sep_token="[CLS]", unk_token="[MASK]")),
    Rich("arguments_overrule", arguments(do_lower_case=False)),
    Rich("lower_case_of_sentence_transformers", lambda folder: (
        settings(do_lower_case=False)(folder), change(folder, "sentence_bert_config.json", do_lower_case=True))),
    Rich("mpnet_defaults", mpnet),
    Rich("mpnet_cased", partial(mpnet, do_lower_case=False)),
    Rich("roberta_without_prefix_space", bytes_of_roberta),
    Rich("roberta_with_prefix_space", partial(bytes_of_roberta, add_prefix_space=True)),
    Rich("class_not_known_here", settings(tokenizer_class="FunnelTokenizer"), refused="by its class FunnelTokenizer"),
    Rich("special_tokens_split", settings(split_special_tokens=True), refused="split_special_tokens"),
    Rich("argument_not_known_here", arguments(add_bos_token=True), refused="add_bos_token"),
]  # fmt: skip
