"""Two backends, one result: tokie gives Hugging Face's ids on all it is trusted with, and is trusted with no more."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer

from neuralcore.embedding.tokenizer import Tokenizer, fast, proven
from neuralcore.embedding.tokenizer.reference import Reference
from tests import golden, tiny_model

pytest.importorskip("tokie", reason="no tokie on this platform: Hugging Face tokenizers alone serve")

LIMIT = 256
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "<s>", "</s>", "<pad>", "<mask>", "<unk>"]
BESIDE = ["", " ", "\t", "\u00a0", "\u3000", "a", "\u00e9", "\u6f22", ".", "_", "##", "\u0301", "\x00", "[", ">"]
CHARACTERS = [chr(code) for first, last in proven.proven_ranges() for code in range(first, last + 1)]


@pytest.fixture(scope="module", params=["minilm_folder", pytest.param("mpnet_folder", marks=pytest.mark.full)])
def path(request) -> Path:
    return request.getfixturevalue(request.param) / "tokenizer.json"


@pytest.fixture(scope="module")
def both(path) -> Tokenizer:
    """A tokenizer that has loaded tokie."""
    tokenizer = Tokenizer(path, max_tokens=LIMIT)
    tokenizer.encode(["a"] * fast.WORTH_TEXTS)
    assert tokenizer._fast.get(0)
    return tokenizer


@pytest.fixture(scope="module")
def reference(path) -> HfTokenizer:
    inner = HfTokenizer.from_file(str(path))
    inner.no_padding()
    inner.enable_truncation(LIMIT)
    return inner


@pytest.fixture
def tiny_path(tmp_path) -> Path:
    tiny_model.tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def rows(batch) -> list[list[int]]:
    return [part.tolist() for part in np.split(batch.ids, batch.offsets[1:-1])] if len(batch) else []


def assert_equal(both: Tokenizer, reference: HfTokenizer, texts: list[str]) -> None:
    expected = [encoding.ids for encoding in reference.encode_batch_fast(texts)]
    found = rows(both.encode(texts))
    assert found == expected, next(ascii(t) for t, f, e in zip(texts, found, expected, strict=True) if f != e)


def load(path: Path) -> fast.Fast | None:
    return fast.load_fast(path, Reference(path, lowercase=False))


@pytest.mark.parametrize("form", ["{0}", "a{0}b", "A{0} {0}.", "\u6f22{0}\u0301", "[CLS]{0}1"])
def test_every_proven_character_gives_equal_ids(form, both, reference):
    texts = [form.format(character) for character in CHARACTERS]
    assert all(proven.mark_proven(texts))
    assert_equal(both, reference, texts)


@given(st.lists(st.text(max_size=80), max_size=8), st.sampled_from(["", "query: ", "\u6f22"]))
def test_any_text_has_equal_ids(both, reference, texts, prefix):
    expected = [encoding.ids for encoding in reference.encode_batch_fast([prefix + text for text in texts])]
    assert rows(both.encode(texts, prefix=prefix)) == expected


@given(st.lists(st.text(st.sampled_from(CHARACTERS), max_size=80), max_size=8))
def test_any_proven_text_has_equal_ids(both, reference, texts):
    assert all(proven.mark_proven(texts))
    assert_equal(both, reference, texts)


@given(st.lists(st.tuples(st.sampled_from(SPECIAL), st.sampled_from(BESIDE), st.sampled_from([str, str.upper])),
                max_size=12))  # fmt: skip
def test_literal_special_tokens_beside_anything_have_equal_ids(both, reference, parts):
    assert_equal(both, reference, ["".join(change(token) + beside for token, beside, change in parts)])


@given(st.data())
def test_pieces_of_the_vocabulary_in_any_order_have_equal_ids(both, reference, pieces, data):
    words = data.draw(st.lists(st.lists(st.sampled_from(pieces), max_size=20).map("".join), max_size=10))
    assert_equal(both, reference, [" ".join(words), *words])


@pytest.fixture(scope="module")
def pieces(reference) -> list[str]:
    return sorted(piece.removeprefix("##") for piece in reference.get_vocab())


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u0436", "\u6f22", "\U0001f600", "#"])
@pytest.mark.parametrize("n_letters", [99, 100, 101, 10_000])
def test_long_words_have_equal_ids(letter, n_letters, both, reference):
    assert_equal(both, reference, [letter * n_letters, f"x {letter * n_letters} y", letter * n_letters + "."])


@pytest.mark.parametrize(
    "text", ["hello word " * 95_000, "\u6f22\u5b57" * 20_000, "privet" * 20_000, "a\tb\n" * 20_000]
)
def test_megabyte_of_text_has_equal_ids_alone_and_in_a_batch(text, both, reference):
    assert not any(proven.mark_proven([text]))
    assert_equal(both, reference, [text])
    assert_equal(both, reference, ["before", text, "behind"])


@pytest.mark.parametrize("character", ["a", "\u6f22", "\U0001f600", "\uac01"])
def test_longest_proven_text_has_equal_ids(character, both, reference):
    text = character * proven.LONGEST_CHARACTERS
    assert all(proven.mark_proven([text]))
    assert not any(proven.mark_proven([text + character]))
    assert_equal(both, reference, [text])


def test_longest_proven_text_has_equal_ids_where_a_token_is_sought_in_normalized_text(tmp_path):
    """As MPNet's <unk> is: tokie then decides by the decomposed length whether to cut the text into parts."""
    inner = json.loads(tiny_model.tokenizer().to_str())
    vocab = {**inner["model"]["vocab"], "<unk>": len(inner["model"]["vocab"])}
    token = {"id": vocab["<unk>"], "content": "<unk>", **ADDED, "normalized": True}
    path = write(tmp_path, vocab=vocab, added_tokens=[*inner["added_tokens"], token])
    loaded, reference = load(path), Reference(path, lowercase=False)
    assert loaded
    for text in ("\uac01" * proven.LONGEST_CHARACTERS, "\uac01<UNK> " * (proven.LONGEST_CHARACTERS // 7)):
        assert all(proven.mark_proven([text]))
        assert loaded.encode([text]).ids.tolist() == reference.encode([text]).ids.tolist()


def test_source_code_has_equal_ids(both, reference):
    folder = Path(json.__file__).parents[1]
    for source in sorted(folder.glob("*.py"))[:60]:
        text = source.read_text(encoding="utf-8")
        assert_equal(both, reference, [*text.split("\n")[:300], text[: proven.LONGEST_CHARACTERS]])


def test_binary_junk_has_equal_ids(both, reference):
    junk = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes().decode("latin-1")
    parts = [junk[start : start + 100] for start in range(0, len(junk), 100)]
    assert_equal(both, reference, parts)
    assert_equal(both, reference, [part.replace("\x7f", "") for part in parts])


@pytest.mark.parametrize("unproven", ["\x7f", "\u0378", "\ue000\u08e2", "\u302e\u302f", "\U0002b820", "\U00010a3f"])
def test_unproven_text_is_left_to_hugging_face_and_keeps_its_place(unproven, both, reference):
    texts = ["first", f"the {unproven}x", "", "fourth \u00e9", unproven, "a" * 20_000]
    assert proven.mark_proven(texts) == [True, False, True, True, False, False]
    assert_equal(both, reference, texts)


def test_cut_and_full_lengths_do_not_depend_on_the_backend(path):
    texts = golden.load("all-MiniLM-L6-v2").texts
    for max_tokens in (3, 4, 17, 128):
        slow, quick = (Tokenizer(path, max_tokens=max_tokens) for _ in range(2))
        quick.encode(["a"] * fast.WORTH_TEXTS)
        expected, found = slow.encode(texts), quick.encode(texts)
        assert slow._fast.get(0) is None
        assert quick._fast.get(0) is not None
        for name in ("ids", "offsets", "full_lengths"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).dtype == getattr(expected, name).dtype
            assert getattr(found, name).flags.writeable
        assert np.array_equal(quick.count(texts), slow.count(texts))


WORD = st.text("ab\u00e9\u6f22", min_size=1, max_size=4)


@given(st.sets(WORD, max_size=8), st.sets(WORD, max_size=8), st.lists(st.text("ab\u00e9\u6f22 ", max_size=12)))
@hypothesis_settings(max_examples=150)
def test_any_vocabulary_of_the_proven_kind_gives_equal_ids(tmp_path_factory, words, endings, texts):
    closed = endings | {ending[0] for ending in endings}
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words), *sorted(f"##{ending}" for ending in closed)]
    path = write(tmp_path_factory.mktemp("any"), vocab={name: number for number, name in enumerate(names)})
    loaded = load(path)
    assert loaded
    expected, found = Reference(path, lowercase=False).encode(texts), loaded.encode(texts)
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert found.ids.tolist() == expected.ids.tolist()


def write(folder: Path, *, vocab: dict[str, int] | None = None, **changes) -> Path:
    """The tokenizer of tiny_model with another vocabulary, or other values of the keys given."""
    document = json.loads(tiny_model.tokenizer().to_str())
    if vocab is not None:
        document["model"]["vocab"] = vocab
    for name, values in changes.items():
        document[name] = {**document[name], **values} if isinstance(values, dict) else values
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "tokenizer.json"


VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "un": 4}
ADDED = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"lowercase": False}}, "normalizer"),
        ({"normalizer": {"strip_accents": False}}, "normalizer"),
        ({"normalizer": {"clean_text": False}}, "normalizer"),
        ({"normalizer": {"handle_chinese_chars": False}}, "normalizer"),
        ({"normalizer": None}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre-tokenizer"),
        ({"pre_tokenizer": None}, "pre-tokenizer"),
        ({"model": {"continuing_subword_prefix": "@@"}}, "WordPiece"),
        ({"model": {"max_input_chars_per_word": 5}}, "WordPiece"),
        ({"model": {"unk_token": "cat"}}, "WordPiece"),
        ({"vocab": {**VOCABULARY, "##breakable": 5}}, "no ##b"),
        ({"vocab": {**VOCABULARY, "far": 9}}, "gaps"),
        ({"vocab": {**VOCABULARY, "##": 5}}, "empty"),
        ({"added_tokens": [{"id": 4, "content": "un", **ADDED}]}, "added"),
        ({"added_tokens": [{"id": 0, "content": "[PAD]", **ADDED, "single_word": True}]}, "added"),
        ({"added_tokens": [{"id": 0, "content": "[PAD]", **ADDED, "rstrip": True}]}, "added"),
        ({"added_tokens": [{"id": 45, "content": "[NEW]", **ADDED}]}, "added"),
    ],
)
def test_file_of_another_kind_is_left_to_hugging_face_with_the_reason_in_the_log(changes, reason, tmp_path, caplog):
    path = write(tmp_path, **changes)
    with caplog.at_level(logging.INFO, logger="neuralcore"):
        assert load(path) is None
    assert reason in caplog.text
    tokenizer = Tokenizer(path, max_tokens=LIMIT)
    texts = ["The unbre UN \u00c9 unbreakable [PAD] [NEW]", *["a"] * fast.WORTH_TEXTS]
    inner = HfTokenizer.from_file(str(path))
    inner.no_padding()
    inner.no_truncation()
    assert rows(tokenizer.encode(texts)) == [encoding.ids for encoding in inner.encode_batch(texts)]


def test_tokenizer_that_lowers_what_its_file_does_not_is_left_to_hugging_face(tmp_path):
    path = write(tmp_path, normalizer={"lowercase": False})
    tokenizer = Tokenizer(path, max_tokens=LIMIT, lowercase=True)
    tokenizer.encode(["a"] * fast.WORTH_TEXTS)
    assert tokenizer._fast.get(0) is None
    assert rows(tokenizer.encode(["THE CAT"])) == rows(tokenizer.encode(["the cat"]))


def test_other_ids_are_noticed_when_tokie_is_loaded(tiny_path, tmp_path, caplog):
    reference = Reference(tiny_path, lowercase=False)
    names = list(json.loads(tiny_path.read_bytes())["model"]["vocab"])
    names[-2:] = names[:-3:-1]
    write(tmp_path, vocab={name: number for number, name in enumerate(names)})
    with caplog.at_level(logging.INFO, logger="neuralcore"):
        assert fast.load_fast(tiny_path, reference) is None
    assert "its ids differ" in caplog.text


def test_without_tokie_hugging_face_serves(tiny_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokie", None)
    tokenizer = Tokenizer(tiny_path, max_tokens=LIMIT)
    batch = tokenizer.encode(["the cat"] * fast.WORTH_TEXTS)
    assert tokenizer._fast.get(0) is None
    assert batch.lengths.tolist() == [4] * fast.WORTH_TEXTS


def test_tokie_of_another_version_is_not_trusted(tiny_path, monkeypatch, caplog):
    monkeypatch.setattr(fast, "PROVEN_VERSION", "0.0.1")
    with caplog.at_level(logging.INFO, logger="neuralcore"):
        assert load(tiny_path) is None
    assert "proven is tokie 0.0.1, not " in caplog.text


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_file_that_went_away_or_broke_after_loading_changes_nothing(damage, tiny_path):
    tokenizer = Tokenizer(tiny_path, max_tokens=LIMIT)
    damage(tiny_path)
    assert tokenizer.encode(["the cat"] * fast.WORTH_TEXTS).lengths.tolist() == [4] * fast.WORTH_TEXTS
    assert tokenizer._fast.get(0) is None


def run(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_few_texts_do_not_load_tokie(path):
    code = (
        "import sys; from pathlib import Path; from neuralcore.embedding.tokenizer import Tokenizer\n"
        "tokenizer = Tokenizer(Path(sys.argv[1]), max_tokens=9)\n"
        "tokenizer.encode(['a'] * 1000); print('tokie' in sys.modules)\n"
        "tokenizer.encode(['a'] * 1000); print('tokie' in sys.modules)"
    )
    assert run(code, str(path)) == "False\nTrue\n"


def test_threads_that_come_while_tokie_is_loaded_get_equal_ids(path, reference):
    texts = golden.load("all-MiniLM-L6-v2").texts
    expected = [encoding.ids for encoding in reference.encode_batch(texts)]
    tokenizer = Tokenizer(path, max_tokens=LIMIT)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(15):
            if rows(tokenizer.encode(texts)) != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tokenizer._fast.get(0)
    assert not wrong


def test_nobody_waits_while_another_thread_or_a_forking_parents_loads_tokie(tiny_path):
    tokenizer = Tokenizer(tiny_path, max_tokens=LIMIT)
    has_it, is_over = threading.Event(), threading.Event()

    def load() -> None:
        with tokenizer._fast._lock:
            has_it.set()
            is_over.wait()

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    has_it.wait()
    work = threading.Thread(target=tokenizer.encode, args=(["the cat"] * fast.WORTH_TEXTS,), daemon=True)
    work.start()
    work.join(timeout=60)
    assert not work.is_alive()
    assert tokenizer._fast.get(0) is None
    is_over.set()
    loading.join()
    assert tokenizer._fast.get(0)


def test_lock_that_an_interruption_left_behind_keeps_its_thread_from_nothing(tiny_path):
    tokenizer = Tokenizer(tiny_path, max_tokens=LIMIT)
    tokenizer._fast._lock.acquire()
    tokenizer.encode(["the cat"] * fast.WORTH_TEXTS)
    assert tokenizer._fast.get(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_tokenize_while_the_parents_threads_do(path):
    code = (
        "import os, sys, threading, warnings; from pathlib import Path\n"
        "from neuralcore.embedding.tokenizer import Tokenizer\n"
        "warnings.filterwarnings('ignore', message='.*fork.*')\n"
        "tokenizer = Tokenizer(Path(sys.argv[1]), max_tokens=99)\n"
        "texts = [f'text {n} \\u00e9' for n in range(2000)]\n"
        "expected = tokenizer.encode(texts).ids.tolist(); assert tokenizer._fast.get(0)\n"
        "stop = threading.Event()\n"
        "def work():\n"
        "    while not stop.is_set(): tokenizer.encode(texts)\n"
        "threads = [threading.Thread(target=work) for _ in range(2)]\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(tokenizer.encode(texts).ids.tolist() != expected)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "stop.set(); [thread.join() for thread in threads]; print('done')"
    )
    assert run(code, str(path)) == "done\n"


def test_memory_stays_flat_over_many_texts(path):
    pytest.importorskip("resource")
    code = (
        "import resource, sys; from pathlib import Path; from neuralcore.embedding.tokenizer import Tokenizer\n"
        "tokenizer = Tokenizer(Path(sys.argv[1]), max_tokens=99)\n"
        "def encode(first):\n"
        "    for start in range(first, first + 50_000, 1000):\n"
        "        tokenizer.encode([f'{n} word{n * 7919} and others \\u00e9' for n in range(start, start + 1000)])\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = encode(0); print((encode(50_000) - before) // 1024)"
    )
    assert int(run(code, str(path))) < 4  # MiB
