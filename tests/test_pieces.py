"""A long text in pieces has the ids of the whole, for every kind of tokenizer that is cut at all."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer

from neuralcore.embedding.errors import InputError
from neuralcore.embedding.tokenizer import Tokenizer, pieces
from neuralcore.embedding.tokenizer.pieces import Pieces
from neuralcore.embedding.tokenizer.reference import Reference
from tests import tiny_model

SAMPLES = [
    "the cat sat, on a mat; isn't it? 3.14 (re-use) x_y ",
    "a  b\t\nc \r\n d\u00a0e\u3000f\u2028g \x1c\x1dh ",
    "\u00e9t\u00e9 e\u0301\u0327 \u0130 \u1e9e \ufb01 \u00bd \u2460 ",
    "\u6f22\u5b57\u304b\u3099\u304c\u30ab \uac00\u1100\u1161 \u0e01\u0e33 ",
    "\u0915\u094d\u0937 \u05e9\u05b8 \u0645\u064e \u0600 1\u0d4e a ",
    "\U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea \ufe0f ",
    "[SEP] [CLS][MASK]a[PAD] <s>x</s> <mask>  <mask> ##ing [SE P] [S\x00EP] ",
    "\x00\x01\u200b\ufeff\ufffd\u00ad ",
    *("a" * 99, "b" * 130, "\u0436" * 130, "x\u0301" * 120, "\u0301" * 50, "\x00" * 60),
    *("." * 70, "\u3002" * 70, " " * 70, "[" * 40, "[SEP]" * 30),
]
ALPHABET = sorted(set("".join(SAMPLES)))
RUN = st.tuples(
    st.sampled_from("a\u0436\x00\u0301\u200b.\u3002\u302e"), st.sampled_from([1, 20, 60, 101, 150, 300, 800])
)
"""Characters of all kinds: some join a word, some vanish, some end it."""
WORDS = st.lists(RUN, max_size=12).map(lambda runs: "".join(letter * n for letter, n in runs))
SPECIAL = st.lists(st.sampled_from(["<", ">", "<>", "><", "[SEP]", "[", "]"]), max_size=120).map("".join)
TEXT = st.lists(st.one_of(st.sampled_from(SAMPLES), st.text(ALPHABET, max_size=30)), min_size=1, max_size=30).map(
    "".join
)


def bert(lowercase=True, **options) -> HfTokenizer:
    inner = tiny_model.tokenizer()
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **options)
    return inner


def mpnet() -> HfTokenizer:
    """Added tokens that take the space before them, and that are found in normalized text."""
    inner = bert()
    inner.add_special_tokens(
        [AddedToken("<mask>", lstrip=True), AddedToken("<s>", normalized=True), AddedToken("</s>")]
    )
    return inner


def trained_bytes(**options) -> HfTokenizer:
    inner = HfTokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(**options)
    trainer = BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator(SAMPLES, trainer)
    inner.add_special_tokens([AddedToken("<s>"), AddedToken("<mask>", lstrip=True), AddedToken("[SEP]", rstrip=True)])
    return inner


def overlapping() -> HfTokenizer:
    """Added tokens of which one may begin inside of another."""
    inner = bert()
    inner.add_special_tokens(["<>", "><", "<><", "]["])
    return inner


def roberta() -> HfTokenizer:
    return trained_bytes(add_prefix_space=False)


def modern() -> HfTokenizer:
    inner = trained_bytes(add_prefix_space=True)
    inner.normalizer = normalizers.NFC()
    return inner


def split(digits: str) -> HfTokenizer:
    """As Qwen3's and Llama 3's files have it."""
    inner = trained_bytes()
    words = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|"
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), as_bytes])
    inner.normalizer = normalizers.NFC()
    return inner


def unigram(pre_tokenizer) -> HfTokenizer:
    letters = sorted({letter for letter in "".join(SAMPLES) if letter.isalnum()} - set("z"))
    scores = dict.fromkeys(["▁", *letters], -8.0) | {
        "\u2581the": -3.0,
        "\u2581a": -3.5,
        "at": -4.0,
        "\u2581\u2581": -5.0,
    }
    inner = HfTokenizer(Unigram([("<unk>", -20.0), *scores.items()], unk_id=0))
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    inner.pre_tokenizer = pre_tokenizer
    inner.add_special_tokens([AddedToken("<s>"), AddedToken("<mask>", lstrip=True)])
    return inner


def xlm_roberta() -> HfTokenizer:
    return unigram(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))


def metaspace() -> HfTokenizer:
    return unigram(pre_tokenizers.Metaspace(prepend_scheme="first"))


KINDS = {
    "bert": bert,
    "bert cased": lambda: bert(lowercase=False),
    "bert keeps accents": lambda: bert(strip_accents=False),
    "bert without ideographs, uncleaned": lambda: bert(handle_chinese_chars=False, clean_text=False),
    "mpnet": mpnet,
    "overlapping": overlapping,
    "roberta": roberta,
    "modern": modern,
    "qwen": lambda: split(r"\p{N}"),
    "llama": lambda: split(r"\p{N}{1,3}"),
    "xlm-roberta": xlm_roberta,
    "metaspace": metaspace,
}


@pytest.fixture(scope="module", params=KINDS)
def inner(request) -> HfTokenizer:
    built = KINDS[request.param]()
    built.no_padding()
    built.no_truncation()
    return built


@pytest.fixture(scope="module")
def path(inner, tmp_path_factory):
    found = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    inner.save(str(found))
    return found


@pytest.fixture(scope="module")
def cutter(path) -> Pieces:
    return Pieces(Reference(path, lowercase=False))


def ids_of(inner, text: str) -> list[int]:
    return inner.encode(text, add_special_tokens=False).ids


@given(text=TEXT | WORDS | SPECIAL, n_characters=st.integers(1, 60), n_most=st.sampled_from([40, 900]))
@example(text="a" * 5000 + "[SEP]" + "\x00" * 5000 + "b", n_characters=3, n_most=900)
@example(text="x\u0301" * 3000 + " y", n_characters=3, n_most=900)
@example(text="\x00" * 750 + "a" * 150 + "\x00" * 1000, n_characters=3, n_most=900)
@example(text="\x00" * 1300 + "a" * 60 + "\x00" * 1000, n_characters=3, n_most=900)
@example(text="<><" * 100, n_characters=3, n_most=40)
@hypothesis_settings(max_examples=200)
def test_pieces_have_the_ids_of_the_whole_from_either_end(inner, cutter, text, n_characters, n_most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_MOST_CHARACTERS", n_most)
        expected = ids_of(inner, text)
        forward = list(cutter.forward(text, n_characters))
        backward = list(cutter.backward(text, n_characters))[::-1]
    assert [token for piece in forward for token in ids_of(inner, piece)] == expected
    assert [token for piece in backward for token in ids_of(inner, piece)] == expected


def test_every_kind_is_cut(cutter):
    text = "the cat sat on a mat " * 500
    assert max(map(len, cutter.forward(text, 100))) < 5000
    assert len(list(cutter.forward(text, 100))) > 4
    assert len(list(cutter.backward(text, 100))) > 4


LONG = {
    "words": "the cat sat on a mat; " * 5_000,
    "white space": " \n" * 50_000 + "the cat" + "\t" * 50_000,
    "one word": "x" * 100_000 + " the cat " + "\u0436" * 37_500,
    "nothing": "\x00" * 62_500 + "the cat" + "\u200b" * 62_500,
    "accents": "x\u0301" * 50_000 + " the cat",
    "added tokens": "[SEP]" * 12_500,
    "brackets": "[" * 37_500 + "]" * 37_500,
    "ideographs": "\u6f22\u5b57" * 25_000,
    "other punctuation": "\u3002\u300c" * 25_000,
    "lines": "the\ncat\n" * 12_500,
}


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("name", LONG)
def test_long_text_is_cut_where_hugging_face_cuts_and_counted_as_it_counts(name, direction, tmp_path):
    inner = tiny_model.tokenizer()
    inner.no_padding()
    inner.enable_truncation(24, direction=direction)
    inner.save(str(tmp_path / "tokenizer.json"))
    text = LONG[name]
    kept = inner.encode(text).ids
    inner.no_truncation()
    n_tokens = len(inner.encode(text).ids)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", max_tokens=24)
    batch = tokenizer.encode(["the cat", text, "a dog"])
    assert batch.ids[batch.offsets[1] : batch.offsets[2]].tolist() == kept
    assert (
        (batch.lengths[1] < batch.full_lengths[1] <= n_tokens) if n_tokens > 24 else batch.full_lengths[1] == n_tokens
    )
    assert tokenizer.count([text, "the cat"]).tolist() == [n_tokens, 4]


def test_reading_stops_where_the_limit_is_reached(tmp_path, monkeypatch):
    tiny_model.tokenizer().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", max_tokens=24)
    seen = []
    encode = tokenizer._reference.encode
    tokenizer.encode(["warm up " * 10_000])
    monkeypatch.setattr(tokenizer._reference, "encode", lambda texts: seen.extend(map(len, texts)) or encode(texts))
    tokenizer.encode([LONG["words"], LONG["words"]])
    assert sum(seen) < 20_000


@pytest.mark.parametrize("place", [10, 90_000])
def test_lone_surrogate_is_refused_wherever_it_is(place, tmp_path):
    tiny_model.tokenizer().save(str(tmp_path / "tokenizer.json"))
    text = LONG["words"][:place] + "\ud800" + LONG["words"][place:]
    with pytest.raises(InputError, match=f"text 8: lone surrogate at character {place}"):
        Tokenizer(tmp_path / "tokenizer.json", max_tokens=24).encode(["fine", text], first_index=7)


def test_text_without_a_place_to_cut_is_refused_where_memory_is_short(tmp_path):
    """Hugging Face tokenizers would abort the process; a text that can be cut needs no such memory."""
    inner = tiny_model.tokenizer()
    inner.save(str(tmp_path / "bert.json"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("t"), "isolated")  # a kind of which nothing is proven
    inner.save(str(tmp_path / "other.json"))
    code = """
import resource, sys
from pathlib import Path
from neuralcore.embedding.errors import OutOfMemory
from neuralcore.embedding.tokenizer import Tokenizer
bert, other = (Tokenizer(Path(path), max_tokens=24) for path in sys.argv[1:])
bert.encode(["warm up " * 5000])
text = "the cat " * 5_000_000
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300 * 2**20, size + 300 * 2**20))
print(bert.encode([text]).lengths, bert.count([text[:800_000]])[0])
try:
    other.encode([text])
except OutOfMemory as error:
    print(error)
"""
    if sys.platform != "linux":
        pytest.skip("limits of memory are those of Linux")
    command = [sys.executable, "-c", code, str(tmp_path / "bert.json"), str(tmp_path / "other.json")]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("[24] 200002\n")
    assert "tokenizing 40,000,000 characters without a place to cut takes" in result.stdout
