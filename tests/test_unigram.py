"""A large Unigram vocabulary is read in parts, and the ids are those of Hugging Face, which reads all of it."""

import json
import os
import random
import threading
from functools import partial

import numpy as np
import pytest
from tokenizers import Tokenizer as HfTokenizer

from neuralcore.embedding.errors import EmbeddingError, ModelCorrupt
from neuralcore.embedding.tokenizer import Tokenizer, reference, vocabulary
from neuralcore.embedding.tokenizer.reference import Reference, keep_vocabulary
from neuralcore.embedding.tokenizer.vocabulary import read_vocabulary
from tests import golden, tokenizer_folders
from tests.tokenizer_folders import CHARSMAP

METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
ALPHABET = "ab\u2581c\u00e9\u732b\u4e00\U0001f600"
BESIDE = [" ", "  ", "\t", "\n", "\u00a0", "\u3000", "e\u0301", "\ufb01", "\u00bd", "z", "Q", "\u200d", "\u0915\u094d"]


@pytest.fixture(autouse=True)
def small_files_count_as_large(monkeypatch):
    monkeypatch.setattr(reference, "LEAST_BYTES", 0)


def added(number: int, content: str, **values) -> dict:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags, **values}


def document(draw: random.Random, **model) -> dict:
    """A tokenizer.json whose pieces tie with each other in many ways."""
    texts = {"".join(draw.choices(ALPHABET, k=draw.randint(1, 5))) for _ in range(120)}
    levels = [-draw.uniform(2, 9) for _ in range(3)]
    pieces = [*SPECIAL, *sorted(texts)]
    scores = [0.0] * 5 + [len(piece) * draw.choice(levels) for piece in pieces[5:]]
    space = {**METASPACE, "prepend_scheme": draw.choice(["always", "never"])}
    words = draw.choice([space, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]}])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(number, content) for number, content in enumerate(SPECIAL[:4])] + [
            added(4, "<mask>", lstrip=draw.random() < 0.5, single_word=draw.random() < 0.3),
            added(len(pieces), "<more>", rstrip=draw.random() < 0.5),
        ],
        "normalizer": draw.choice([None, {"type": "Precompiled", "precompiled_charsmap": CHARSMAP}, {"type": "NFKC"}]),
        "pre_tokenizer": words,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": False,
                  "vocab": [list(pair) for pair in zip(pieces, scores, strict=True)], **model},
    }  # fmt: skip


def text(draw: random.Random, pieces: list[str]) -> str:
    parts = (
        draw.choice(draw.choice([ALPHABET, pieces, BESIDE, SPECIAL + [" "] * 9])) for _ in range(draw.randint(0, 30))
    )
    return "".join(parts)


def saved(tmp_path, content: dict):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def rows(batch) -> list[list[int]]:
    return [part.tolist() for part in batch.parts()]


@pytest.mark.parametrize("seed", range(24))
def test_ids_are_those_of_the_whole_vocabulary(tmp_path, seed):
    draw = random.Random(seed)
    content = document(draw)
    path = saved(tmp_path, content)
    if seed % 2:
        keep_vocabulary(path)
        assert path.with_suffix(".pieces").is_file()
    whole, parts = HfTokenizer.from_file(str(path)), Reference(path, lowercase=False)
    assert parts._unigram
    texts = [text(draw, [piece for piece, _ in content["model"]["vocab"]]) for _ in range(150)]
    expected = [whole.encode(each, add_special_tokens=False).ids for each in texts]
    assert rows(parts.encode(texts)) == expected
    assert [rows(parts.encode([each]))[0] for each in texts[:20]] == expected[:20]
    assert (parts.n_ids, parts.pad_id, parts.special_tokens()) == (whole.get_vocab_size(), 1, ([0], []))


@pytest.fixture
def kept(tmp_path):
    path = saved(tmp_path, document(random.Random(5)))
    keep_vocabulary(path)
    return path


def scores_changed(path) -> None:
    """As long as before, and of the same pieces."""
    path.write_text(path.read_text(encoding="utf-8").replace("-", "9", 40), encoding="utf-8")


def cut(path) -> None:
    own = path.with_suffix(".pieces")
    own.write_bytes(own.read_bytes()[:-1])


def other_pieces(path) -> None:
    own = path.with_suffix(".pieces")
    own.write_bytes(own.read_bytes().replace("猫".encode(), "犬".encode()))


def emptied(path) -> None:
    path.with_suffix(".pieces").write_bytes(b"")


def brackets(path) -> None:
    path.with_suffix(".pieces").write_bytes(b"[" * 100_000)


@pytest.mark.parametrize("damage", [scores_changed, cut, other_pieces, emptied, brackets])
def test_pieces_of_another_tokenizer_or_damaged_ones_count_as_none(kept, damage):
    before = kept.with_suffix(".pieces").read_bytes(), kept.read_bytes()
    damage(kept)
    assert before != (kept.with_suffix(".pieces").read_bytes(), kept.read_bytes())
    texts = [text(random.Random(seed), [*ALPHABET]) for seed in range(60)]
    expected = [HfTokenizer.from_file(str(kept)).encode(each, add_special_tokens=False).ids for each in texts]
    assert rows(Reference(kept, lowercase=False).encode(texts)) == expected
    assert read_vocabulary(kept, HfTokenizer.from_str) is None


def rewrite(path, *, model=None, pieces=lambda own: own, scores=lambda own: own) -> None:
    """Pieces beside a tokenizer.json as an attacker would write them: with digests that are right."""
    own = path.with_suffix(".pieces")
    line, _, body = own.read_bytes().partition(b"\n")
    header = json.loads(line)
    end = header["pieces_bytes"]
    parts = pieces(body[:end]), scores(body[end:])
    header["pieces_bytes"], header["digests"] = len(parts[0]), vocabulary._digests(path.read_bytes(), b"".join(parts))
    header["document"]["model"] = {**header["document"]["model"], **(model or {})}
    header["document"]["model"] = {key: value for key, value in header["document"]["model"].items() if value != ...}
    own.write_bytes(json.dumps(header).encode() + b"\n" + b"".join(parts))


def piped(path) -> None:
    path.with_suffix(".pieces").unlink()
    os.mkfifo(path.with_suffix(".pieces"))


@pytest.mark.parametrize(
    "damage",
    [
        partial(rewrite, model={"unk_id": ...}),
        partial(rewrite, model={"unk_id": 10**6}),
        partial(rewrite, model={"unk_id": True}),
        partial(rewrite, model={"byte_fallback": True}),
        partial(rewrite, scores=lambda own: own.rpartition(b"\0")[0]),
        partial(rewrite, scores=lambda own: own.replace(b"-", b'0],["x",1],["y",-')),
        partial(rewrite, pieces=lambda own: own.replace(b"<unk>", b"<pad>")),
        partial(rewrite, pieces=lambda own: own[:-1] + b"\xff"),
        pytest.param(piped, marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")),
    ],
)
def test_pieces_that_somebody_else_wrote_count_as_none(kept, damage):
    expected = HfTokenizer.from_file(str(kept)).encode("ab c\u00df<mask>", add_special_tokens=False).ids
    damage(kept)
    assert rows(Reference(kept, lowercase=False).encode(["ab c\u00df<mask>"])) == [expected]


def test_kept_pieces_open_without_the_json_of_the_vocabulary(kept, monkeypatch):
    monkeypatch.setattr(reference, "read_unigram", None)
    texts = ["a猫b", "<mask> c"]
    expected = [HfTokenizer.from_file(str(kept)).encode(each, add_special_tokens=False).ids for each in texts]
    assert rows(Reference(kept, lowercase=False).encode(texts)) == expected


def test_other_kinds_keep_no_pieces(tmp_path):
    path = saved(tmp_path, changed(document(random.Random(0)), "byte_fallback", True))
    keep_vocabulary(path)
    assert not path.with_suffix(".pieces").exists()


def test_what_transformers_gives_for_random_folders_is_given_by_parts(tmp_path):
    expected, n_read = golden.tokenizers(len(tokenizer_folders.TEXTS)), 0
    for seed in range(tokenizer_folders.N_FOLDERS):
        folder = tokenizer_folders.write(tmp_path / str(seed), seed)
        if '"Unigram"' in (folder / "tokenizer.json").read_text(encoding="utf-8"):
            try:
                tokenizer = Tokenizer(folder / "tokenizer.json", max_tokens=tokenizer_folders.MAX_TOKENS)
            except EmbeddingError:
                continue
            if tokenizer._reference._unigram:
                batch = tokenizer.encode(tokenizer_folders.TEXTS)
                assert [part.tolist() for part in np.split(batch.ids, batch.offsets[1:-1])] == expected[seed], seed
                n_read += 1
    assert n_read >= 8


def changed(content: dict, key: str, value) -> dict:
    inner = content["model"] if key in content["model"] else content
    inner[key] = value
    return content


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("byte_fallback", True),
        ("pre_tokenizer", {**METASPACE, "prepend_scheme": "first"}),
        ("pre_tokenizer", None),
        ("added_tokens", [added(0, "<s>", normalized=True)]),
        ("added_tokens", [added(900, "<entity>")]),
        ("added_tokens", [added(1, "<s>")]),
        ("vocab", [*([piece, 0.0] for piece in SPECIAL), ["a", -1.5], ["a", -2.5]]),
        ("vocab", [*([piece, 0.0] for piece in SPECIAL), ["", -1.5]]),
    ],
)
def test_other_kinds_are_read_by_hugging_face_alone(tmp_path, key, value):
    path = saved(tmp_path, changed(document(random.Random(0)), key, value))
    whole, read = HfTokenizer.from_file(str(path)), Reference(path, lowercase=False)
    assert read._unigram is None
    texts = ["a b<mask>\u2581c", "<s>ab"]
    assert rows(read.encode(texts)) == [whole.encode(each, add_special_tokens=False).ids for each in texts]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab", [["a", "-1.5"]]),
        ("vocab", []),
        ("unk_id", 9000),
        ("unk_id", True),
        ("vocab", [["a", True]]),
        ("vocab", {"a": 1}),
    ],
)
def test_what_hugging_face_refuses_is_refused(tmp_path, key, value):
    content = {**changed(document(random.Random(0)), key, value), "added_tokens": []}
    with pytest.raises(ModelCorrupt):
        Reference(saved(tmp_path, content), lowercase=False)


def test_half_a_file_is_damaged(tmp_path):
    path = saved(tmp_path, document(random.Random(0)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ModelCorrupt):
        Reference(path, lowercase=False)


def test_numbers_are_read_as_hugging_face_reads_them(tmp_path):
    """Its reader is off by one in the last place of one number in eight; ties would fall another way."""
    spelled = "-13.474480628967285"
    content = document(random.Random(0))
    content["added_tokens"] = []
    content["model"]["vocab"] += [["xy", -1.0], ["x", float(spelled)], ["y", -14.062352180480957]]
    unigram = Reference(saved(tmp_path, content), lowercase=False)._unigram
    seen, load = [], unigram._load
    unigram._load = lambda part: seen.append(part) or load(part)
    unigram.encode(["xy"])
    assert f'["x",{spelled}]' in seen[0]


def test_all_of_a_vocabulary_is_loaded_once_that_pays(tmp_path, monkeypatch):
    draw = random.Random(5)
    content = document(draw)
    path = saved(tmp_path, content)
    read = Reference(path, lowercase=False)
    texts = [text(draw, ["ab", "\u2581c"]) for _ in range(50)]
    before = rows(read.encode(texts))
    monkeypatch.setattr(reference, "FEW_CHARACTERS", 0)
    assert rows(read.encode(texts)) == before
    assert read._unigram is None
    assert (read.n_ids, read.pad_id, read.special_tokens()) == (len(content["model"]["vocab"]) + 1, 1, ([0], []))


def test_another_file_by_that_name_is_not_loaded(tmp_path, monkeypatch):
    path = saved(tmp_path, document(random.Random(5)))
    read = Reference(path, lowercase=False)
    before = rows(read.encode(["ab c"]))
    monkeypatch.setattr(reference, "FEW_CHARACTERS", 0)
    saved(tmp_path, {**document(random.Random(6)), "padding": None})
    assert rows(read.encode(["ab c"])) == before
    path.unlink()
    assert rows(read.encode(["ab c"])) == before
    assert read._unigram


def test_threads_share_a_vocabulary_while_one_loads_it(tmp_path, monkeypatch):
    draw = random.Random(7)
    path = saved(tmp_path, document(draw))
    texts = [text(draw, ["ab", "\u2581c"]) for _ in range(200)]
    expected = [each.ids for each in HfTokenizer.from_file(str(path)).encode_batch(texts, add_special_tokens=False)]
    monkeypatch.setattr(reference, "FEW_CHARACTERS", 2_000)
    read, found = Reference(path, lowercase=False), {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: [rows(read.encode([each]))[0] for each in texts]}))
               for n in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[n] == expected for n in range(4))
    assert read._unigram is None


def test_lone_surrogate_is_named(tmp_path):
    tokenizer = Tokenizer(saved(tmp_path, document(random.Random(1))), max_tokens=16)
    with pytest.raises(EmbeddingError, match="surrogate"):
        tokenizer.encode(["a", "b\ud800"])
