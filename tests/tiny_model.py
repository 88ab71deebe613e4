"""A complete model folder in sentence-transformers' layout, small and random."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests import checkpoints

N_POSITIONS = 64
DIMENSION = checkpoints.HIDDEN
_MODULES = ("Transformer", "Pooling", "Normalize")
_WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "big", "small", "red", "blue", "not")


def write(folder: Path, *, seed: int = 7, pooling: dict | None = None, modules=_MODULES, prompts=None) -> Path:
    """Write the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.bert(seed, n_positions=N_POSITIONS).save(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", {"model_max_length": 48})
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    steps = [{"idx": i, "name": str(i), "path": paths.get(name, f"{i}_{name}"),
              "type": f"sentence_transformers.models.{name}"} for i, name in enumerate(modules)]  # fmt: skip
    _write_json(folder / "modules.json", steps)
    _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "default_prompt_name": None})
    default = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    _write_json(folder / "1_Pooling/config.json", pooling or default)
    return folder


def tokenizer() -> Tokenizer:
    """WordPiece over a few words and all ASCII letters, with the template of BERT."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    assert len(vocabulary) <= checkpoints.VOCABULARY
    result = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    result.normalizer = normalizers.BertNormalizer()
    result.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    result.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    result.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    result.enable_truncation(16)
    result.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    return result


def _write_json(path: Path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
