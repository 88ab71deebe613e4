"""Errors are part of the interface: their tree, their data, their messages, their statuses, their pickles."""

import copy
import pickle
import subprocess
import sys

import pytest

import neuralcore.embedding
from neuralcore.embedding import errors
from neuralcore.embedding.errors import (
    STATUS,
    Attempt,
    DependencyMissing,
    EmbeddingError,
    FingerprintMismatch,
    InferenceError,
    InputError,
    ModelCorrupt,
    ModelUnavailable,
    OutOfMemory,
    Overloaded,
    ProviderUnavailable,
    Status,
    UnsupportedModel,
    VerificationFailed,
    status_of,
)

TRIED = [Attempt("cache", "not there"), Attempt("hub", "no route to host")]
EXAMPLES = [
    EmbeddingError("something"),
    UnsupportedModel("all-minlm", "no such model.", closest=["all-MiniLM-L6-v2", "all-mpnet-base-v2"]),
    ModelUnavailable("bge-small-en-v1.5", TRIED, advice="Connect once."),
    ModelUnavailable.cache_not_writable("e5-small-v2", OSError(30, "Read-only file system")),
    ModelCorrupt("/m/model.onnx", expected="aa11", actual="bb22", advice="Delete it."),
    InputError("expected a str, got int", index=7),
    InputError("dimensions must be 1 to 8, not 9", limit=8),
    ProviderUnavailable("cuda", ["CPUExecutionProvider"], "no driver"),
    DependencyMissing("pyarrow", "parquet"),
    VerificationFailed("cosine", bound=0.999, measured=0.5),
    FingerprintMismatch({"pooling": ("mean", "cls"), "dimension": (384, 768)}),
    OutOfMemory(1, 512, "Failed to allocate memory"),
    Overloaded(100, 99, 1.5),
    InferenceError("CPUExecutionProvider", "Add node failed"),
    ModelUnavailable.not_readable("/m/config.json", PermissionError(13, "Permission denied")),
    ModelUnavailable.not_readable("/m/config.json", OSError(24, "Too many open files")),
    ModelUnavailable.cache_not_writable("e5-small-v2", OSError(24, "Too many open files")),
]
MESSAGES = [
    "something",
    "model 'all-minlm': no such model. Did you mean 'all-MiniLM-L6-v2' or 'all-mpnet-base-v2'?",
    "model 'bge-small-en-v1.5' could not be had. Tried:\n  cache: not there\n  hub: no route to host\nConnect once.",
    "model 'e5-small-v2' could not be had. Tried:\n  cache: cannot write: [Errno 30] Read-only file system\n"
    "Free some space, or name another folder with cache_dir= or NEURALCORE_CACHE.",
    "/m/model.onnx is damaged: expected aa11, found bb22. Delete it.",
    "text 7: expected a str, got int",
    "dimensions must be 1 to 8, not 9",
    "device 'cuda' is not available: no driver (available: CPUExecutionProvider)",
    "pyarrow is not installed: pip install 'neuralcore-embedding[parquet]'",
    "the model is too far from its reference: cosine is 0.5, the bound 0.999",
    "these vectors are of another space: pooling was 'mean', is 'cls'; dimension was 384, is 768. "
    "Use the same model, or embed all texts anew.",
    "1 text(s) of 512 tokens do not fit into memory: Failed to allocate memory. "
    "Lower max_tokens=, raise max_memory_bytes=, or use a smaller model.",
    "100 requests wait (limit 99); retry in 1.5 s",
    "inference failed on CPUExecutionProvider: Add node failed",
    "model '/m/config.json' could not be had. Tried:\n  file: cannot read: Permission denied\n"
    "See that this account may read the file and enter its folders, and that its disk is well.",
    "model '/m/config.json' could not be had. Tried:\n  file: cannot read: Too many open files\n"
    "Close some files, or allow more (`ulimit -n`).",
    "model 'e5-small-v2' could not be had. Tried:\n  cache: cannot write: [Errno 24] Too many open files\n"
    "Close some files, or allow more (`ulimit -n`).",
]
CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EmbeddingError)]


@pytest.fixture(params=EXAMPLES, ids=lambda error: type(error).__name__)
def error(request):
    return request.param


def test_there_is_an_example_of_every_class():
    assert {type(example) for example in EXAMPLES} == set(CLASSES)


@pytest.mark.parametrize(("example", "message"), list(zip(EXAMPLES, MESSAGES, strict=True)))
def test_message_says_what_happened_and_what_to_do(example, message):
    assert str(example) == message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_error_pickles_whole(error, protocol):
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_error_can_be_copied(error):
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_notes_survive_pickling():
    noted = InputError("too long", index=3, limit=10)
    noted.add_note("in file x.csv")
    assert pickle.loads(pickle.dumps(noted)).__notes__ == ["in file x.csv"]


def test_error_crosses_a_process_boundary():
    code = "import pickle, sys; error = pickle.load(sys.stdin.buffer); print(repr(vars(error)))"
    sent = pickle.dumps(Overloaded(100, 99, 1.5))
    result = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True, timeout=60)
    assert result.stdout.decode().strip() == "{'queue_length': 100, 'limit': 99, 'retry_after_s': 1.5}"


def test_every_error_is_an_embedding_error_and_exported(error):
    assert isinstance(error, EmbeddingError)
    assert getattr(neuralcore.embedding, type(error).__name__) is type(error)
    assert type(error).__name__ in neuralcore.embedding.__all__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_in_the_tree_of_the_docstring(cls):
    assert cls.__name__ in errors.__doc__


def test_input_error_is_a_value_error_and_dependency_missing_an_import_error():
    assert issubclass(InputError, ValueError)
    assert issubclass(DependencyMissing, ImportError)


def test_data_is_kept_in_attributes():
    assert (EXAMPLES[1].model, EXAMPLES[1].closest) == ("all-minlm", ["all-MiniLM-L6-v2", "all-mpnet-base-v2"])
    assert EXAMPLES[2].attempts == TRIED
    assert (EXAMPLES[4].path, EXAMPLES[4].expected, EXAMPLES[4].actual) == ("/m/model.onnx", "aa11", "bb22")
    assert (EXAMPLES[5].index, EXAMPLES[5].limit) == (7, None)
    assert (EXAMPLES[6].index, EXAMPLES[6].limit) == (None, 8)
    assert (EXAMPLES[7].requested, EXAMPLES[7].available) == ("cuda", ["CPUExecutionProvider"])
    assert (EXAMPLES[8].package, EXAMPLES[8].extra) == ("pyarrow", "parquet")
    assert (EXAMPLES[9].metric, EXAMPLES[9].bound, EXAMPLES[9].measured) == ("cosine", 0.999, 0.5)
    assert EXAMPLES[10].differences == {"pooling": ("mean", "cls"), "dimension": (384, 768)}
    assert (EXAMPLES[11].n_texts, EXAMPLES[11].n_tokens) == (1, 512)
    assert (EXAMPLES[13].provider, EXAMPLES[13].reason) == ("CPUExecutionProvider", "Add node failed")


def test_first_text_has_index_zero_in_the_message():
    assert str(InputError("bad", index=0)) == "text 0: bad"


def test_nothing_tried_is_said():
    assert str(ModelUnavailable("x", [])) == "model 'x' could not be had. Tried: nothing"


def test_status_covers_every_class():
    assert STATUS.keys() == set(CLASSES)


def test_exit_codes_differ_and_leave_click_its_own():
    codes = [status.exit_code for status in STATUS.values()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 and code != 2 for code in codes)  # 2 is a wrong command line, 126 and up the shell's


def test_http_statuses_are_errors():
    assert all(400 <= status.http < 600 for status in STATUS.values())
    assert (STATUS[InputError].http, STATUS[Overloaded].http, STATUS[InferenceError].http) == (422, 429, 424)


def test_subclass_has_the_status_of_its_nearest_base():
    class Special(InputError):
        pass

    assert status_of(Special("x")) == STATUS[InputError]
    assert status_of(EmbeddingError("x")) == Status(500, 1)
