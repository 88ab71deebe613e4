"""A tokenizer is what its files say together: the ids are those of transformers 5, or it is refused with the reason."""

import json
import random
import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.convert import convert_model
from neuralcore.embedding.errors import EmbeddingError, ModelCorrupt, UnsupportedModel
from neuralcore.embedding.store import make_store
from neuralcore.embedding.store.folder import ModelFolder
from neuralcore.embedding.tokenizer import Tokenizer, fast, files_beside, write_effective
from neuralcore.embedding.tokenizer.files import read_effective
from tests import golden, tiny_model, tokenizer_folders
from tests.altered_folders import change, write
from tests.altered_folders.tokenizer import BERT, rich
from tests.ready import ready_graph

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"


@pytest.fixture
def folder(tmp_path):
    """A cased BERT whose tokenizer_config.json names BertTokenizer and says nothing of case."""
    return rich(tmp_path)


def rows(batch) -> list[list[int]]:
    return [part.tolist() for part in np.split(batch.ids, batch.offsets[1:-1])]


def ids(folder, text: str) -> list[int]:
    return rows(Tokenizer(folder / FILE, max_tokens=32).encode([text]))[0]


@pytest.mark.parametrize("hundred", range(tokenizer_folders.N_FOLDERS // 100))
def test_ids_of_random_folders_are_those_of_transformers(tmp_path, hundred):
    expected, wrong = golden.tokenizers(len(tokenizer_folders.TEXTS)), []
    for seed in range(hundred * 100, hundred * 100 + 100):
        folder = tokenizer_folders.write(tmp_path / str(seed), seed)
        try:
            tokenizer = Tokenizer(folder / FILE, max_tokens=tokenizer_folders.MAX_TOKENS)
            found = rows(tokenizer.encode(tokenizer_folders.TEXTS))
        except EmbeddingError:
            found = None
        if found != expected[seed]:
            wrong.append(seed)
    assert not wrong


def test_case_is_what_the_settings_say_not_the_file(folder):
    assert ids(folder, "CAT") == ids(folder, "cat")
    change(folder, SETTINGS, do_lower_case=False)
    assert ids(folder, "CAT") != ids(folder, "cat")


def test_class_that_keeps_the_file_keeps_it(folder):
    change(folder, SETTINGS, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True)
    assert read_effective(folder / FILE) is None
    assert ids(folder, "CAT") != ids(folder, "cat")


def test_file_alone_is_kept_without_being_parsed(folder):
    for path in files_beside(folder / FILE):
        path.unlink()
    assert read_effective(folder / FILE) is None
    assert ids(folder, "CAT") != ids(folder, "cat")


def test_files_of_a_real_model_say_what_its_tokenizer_json_says(minilm_folder, tmp_path):
    assert read_effective(minilm_folder / FILE) is None
    write_effective(minilm_folder / FILE, tmp_path / FILE)
    expected = golden.load("all-MiniLM-L6-v2")
    assert rows(Tokenizer(tmp_path / FILE, max_tokens=expected.max_tokens).encode(expected.texts)) == expected.ids


@pytest.mark.full
def test_files_of_mpnet_say_what_its_tokenizer_json_says_with_settings_and_without(mpnet_folder, tmp_path):
    expected = golden.load("all-mpnet-base-v2")
    for name in ("config.json", FILE):
        (tmp_path / name).write_bytes((mpnet_folder / name).read_bytes())
    for path in (mpnet_folder / FILE, tmp_path / FILE):
        assert rows(Tokenizer(path, max_tokens=expected.max_tokens).encode(expected.texts)) == expected.ids


def test_what_was_written_says_the_same_alone(folder, tmp_path):
    target = tmp_path / "alone" / FILE
    target.parent.mkdir()
    write_effective(folder / FILE, target)
    assert ids(target.parent, "The CAT, r\u00e9sum\u00e9") == ids(folder, "The CAT, r\u00e9sum\u00e9")
    assert ids(target.parent, "CAT") == ids(target.parent, "cat")


def test_faster_backend_reads_what_the_files_say(tmp_path, monkeypatch):
    pytest.importorskip("tokie")
    monkeypatch.setattr(fast, "WORTH_TEXTS", 0)
    own = tiny_model.tokenizer()
    own.normalizer = rich_normalizer(lowercase=False)
    own.save(str(tmp_path / FILE))
    write(tmp_path, SETTINGS, {**BERT, "mask_token": None})
    tokenizer = Tokenizer(tmp_path / FILE, max_tokens=32)
    assert rows(tokenizer.encode(["The CAT"])) == rows(tokenizer.encode(["the cat"]))
    assert tokenizer._fast.get(0)


def rich_normalizer(*, lowercase):
    return HfTokenizer.from_str(
        json.dumps({**json.loads(tiny_model.tokenizer().to_str()), "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": lowercase,
        }})
    ).normalizer  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "FunnelTokenizer"},
        {"tokenizer_class": "BertJapaneseTokenizer"},
        {"split_special_tokens": True},
        {"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.9.json"]},
        {"gguf_file": "model.gguf"},
        {"init_inputs": [{"a": 1}]},
        {"tokenizer_truncation": {"direction": "left"}},
    ],
)
def test_what_is_not_known_is_refused_by_name(folder, settings):
    change(folder, SETTINGS, **settings)
    with pytest.raises(UnsupportedModel, match=str(next(reversed([*settings.values(), *settings])))):
        Tokenizer(folder / FILE, max_tokens=32)


def test_code_that_comes_with_a_model_is_refused(folder):
    (folder / "config.json").unlink()
    change(folder, SETTINGS, tokenizer_class="TheirTokenizer", auto_map={"AutoTokenizer": ["a.A", "a.B"]})
    with pytest.raises(UnsupportedModel, match="auto_map"):
        Tokenizer(folder / FILE, max_tokens=32)


def test_types_of_tokens_other_than_0_are_refused_where_they_would_reach_the_encoder(folder):
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    document["post_processor"]["single"][1]["Sequence"]["type_id"] = 1
    write(folder, FILE, document)
    change(folder, SETTINGS, tokenizer_class="PreTrainedTokenizerFast")
    Tokenizer(folder / FILE, max_tokens=32)
    change(folder, SETTINGS, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    with pytest.raises(UnsupportedModel, match="type"):
        Tokenizer(folder / FILE, max_tokens=32)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (SETTINGS, "do_lower_case", "yes"),
        (SETTINGS, "strip_accents", 1),
        (SETTINGS, "truncation_side", "top"),
        (SETTINGS, "tokenizer_class", ["BertTokenizer"]),
        (SETTINGS, "cls_token", 101),
        (SETTINGS, "cls_token", None),
        (SETTINGS, "added_tokens_decoder", []),
        (SETTINGS, "added_tokens_decoder", {"x": {"content": "a"}}),
        (SETTINGS, "added_tokens_decoder", {"1": {"lstrip": True}}),
        (SETTINGS, "additional_special_tokens", "a"),
        (SETTINGS, "extra_special_tokens", [1]),
        (FILE, "model", None),
        (FILE, "model", {"type": "WordPiece", "vocab": [1]}),
        (FILE, "model", {"type": "WordPiece", "vocab": {"a": "b"}}),
        (FILE, "added_tokens", {"a": 1}),
        (FILE, "added_tokens", [{"id": 1}]),
        (FILE, "normalizer", [1]),
        (FILE, "truncation", {"direction": 1}),
    ],
)
def test_value_of_another_type_is_refused_by_the_path_of_its_file(folder, name, key, value):
    change(folder, name, **{key: value})
    with pytest.raises(ModelCorrupt) as caught:
        Tokenizer(folder / FILE, max_tokens=32)
    assert caught.value.path == str(folder / name)


def test_panic_of_the_library_is_a_damaged_file(folder):
    change(folder, FILE, normalizer={"type": "Precompiled", "precompiled_charsmap": {"type": "Lowercase"}})
    change(folder, SETTINGS, tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(ModelCorrupt) as caught:
        Tokenizer(folder / FILE, max_tokens=32)
    assert caught.value.path == str(folder / FILE)


def test_damaged_tokenizer_json_is_named_by_its_own_path_not_that_of_the_copy(folder, tmp_path):
    change(folder, FILE, pre_tokenizer={"type": "Nothing"})
    change(folder, SETTINGS, tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(ModelCorrupt) as caught:
        write_effective(folder / FILE, tmp_path / "copy.json")
    assert caught.value.path == str(folder / FILE)
    assert not (tmp_path / "copy.json").exists()


def test_tokenizer_that_fails_on_a_text_is_damaged(folder):
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    document["model"]["unk_token"] = "nothing"
    write(folder, FILE, document)
    change(folder, SETTINGS, tokenizer_class="PreTrainedTokenizerFast", unk_token=...)
    with pytest.raises(ModelCorrupt, match="fails"):
        Tokenizer(folder / FILE, max_tokens=32).encode(["a", "\u4e2d"])


def onnx_folder(folder, tmp_path):
    """A folder whose encoder is an ONNX file, used where it lies."""
    for path in ready_graph(make_store(tmp_path / "built"), folder).folder.glob("model.onnx*"):
        shutil.copyfile(path, folder / path.name)
    (folder / "model.safetensors").unlink()
    return folder


def differ(engine) -> bool:
    """Whether the tokenizer tells upper case from lower."""
    upper, lower = engine.embed_batch(["CAT", "cat"])
    return not np.array_equal(upper, lower)


def test_onnx_file_used_where_it_lies_and_files_passed_by_path_obey_the_settings(tmp_path):
    folder = onnx_folder(rich(tmp_path / "model"), tmp_path)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert not differ(engine)
    change(folder, SETTINGS, do_lower_case=False)
    with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache") as engine:
        assert differ(engine)
    with EmbeddingEngine(folder / "model.onnx", folder / FILE) as engine:
        assert differ(engine)


@pytest.mark.parametrize("is_onnx", [False, True])
def test_other_precisions_are_made_anew_when_the_settings_change(tmp_path, is_onnx):
    folder = rich(tmp_path / "model")
    if is_onnx:
        onnx_folder(folder, tmp_path)
    for is_cased in (False, True):
        change(folder, SETTINGS, do_lower_case=not is_cased)
        with EmbeddingEngine.from_pretrained(folder, cache_dir=tmp_path / "cache", precision="fp16") as engine:
            assert differ(engine) == is_cased


def test_converted_folder_says_what_its_source_says(tmp_path, monkeypatch):
    monkeypatch.setattr("neuralcore.embedding.convert.torch_is_installed", lambda: False)
    folder, store = rich(tmp_path / "model"), make_store(tmp_path / "cache", offline=True)
    change(folder, "sentence_bert_config.json", tokenizer_args={"do_lower_case": False, "model_max_length": 9})
    convert_model(folder, tmp_path / "converted", store=store)
    with EmbeddingEngine.from_pretrained(tmp_path / "converted", cache_dir=tmp_path / "cache") as engine:
        assert differ(engine)
        assert engine.max_tokens == 9


def test_limit_by_its_older_name_counts_where_there_is_no_newer(folder):
    change(folder, "sentence_bert_config.json", max_seq_length=...)
    change(folder, SETTINGS, max_len=20)
    assert ModelFolder(folder).config().max_tokens == 20
    change(folder, SETTINGS, max_len=20, model_max_length=24)
    assert ModelFolder(folder).config().max_tokens == 24


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@hypothesis_settings(max_examples=40)
@given(st.data())
def test_any_change_of_the_files_is_taken_or_refused_and_nothing_else(tmp_path_factory, data):
    seed = data.draw(st.integers(0, 50))
    folder = tokenizer_folders.write(tmp_path_factory.mktemp("changed"), seed)
    path = data.draw(st.sampled_from(sorted([folder / FILE, *files_beside(folder / FILE)])))
    values = json.loads(path.read_text(encoding="utf-8"))
    holder = values
    while isinstance(holder, dict) and holder:
        key = data.draw(st.sampled_from(sorted(holder)))
        if key == "vocab" or not isinstance(holder[key], dict) or data.draw(st.booleans()):
            holder[key] = data.draw(_JSON)
            break
        holder = holder[key]
    path.write_text(json.dumps(values), encoding="utf-8")
    with suppress(EmbeddingError):
        Tokenizer(folder / FILE, max_tokens=12).encode(["the CAT \u4e2d", random.Random(seed).choice("abc")])
