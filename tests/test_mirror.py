"""Fetching from a mirror that does not behave. Real servers on loopback; nothing may leave the cache or hang."""

import gzip
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from neuralcore.embedding import InputError, ModelCorrupt, ModelUnavailable, UnsupportedModel
from neuralcore.embedding.store import Store, listing, make_store, transfer
from neuralcore.embedding.store.registry import find_spec
from tests import hub_server

REPOSITORY = "org/tiny"
TREE = r"/api/models/.*/tree/.*"
REVISION = r"/api/models/.*/revision/.*"
CONFIG = r".*/resolve/[^/]+/config\.json"
WEIGHTS = r".*/resolve/.*\.safetensors"
LOAD = """
import sys
from neuralcore.embedding.store import make_store
print(make_store(sys.argv[1], endpoint=sys.argv[2], sources=("mirror",)).fetch("org/tiny"))
"""


@pytest.fixture
def hub(tiny_folder):
    with hub_server.running(repositories={REPOSITORY: tiny_folder}) as state:
        yield state


@pytest.fixture
def store(hub, tmp_path) -> Store:
    return make_store(tmp_path / "cache", endpoint=hub.url, sources=("mirror",))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(transfer, "WINDOW_S", 0.8)
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)


def refuse(store: Store, match: str, *, without: str = "*.safetensors") -> None:
    """Fetching fails with these words, and what was refused has no name in the cache."""
    with pytest.raises(ModelUnavailable, match=match):
        store.fetch(REPOSITORY)
    assert not list((store.cache / "hub").glob(f"*/snapshots/*/{without}"))


# Names


def answering(pattern: str, write):
    """An answer to requests for addresses that match; the others are answered as ever."""

    def answer(handler) -> bool:
        if not re.fullmatch(pattern, handler.path):
            return False
        with suppress(OSError):
            write(handler)
        return True

    return answer


def sending(content: bytes, *headers: str, status: str = "200 OK", length: int | None = None):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", "Connection: close"]
    return lambda handler: handler.connection.sendall("\r\n".join([*lines, *headers, "", ""]).encode() + content)


def entry(folder, name: str, **changes):
    return hub_server.describe(folder / name, name) | changes


def outside(tmp_path) -> str:
    return str(tmp_path / "pwned")


EVIL = ["{outside}", "../../../../pwned", "..", "abc", "", "x" * 40, "a" * 39, "A" * 64, "a" * 64 + "\u00e9"]


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("address", [CONFIG, WEIGHTS])
def test_header_that_is_no_hash_is_refused_before_a_byte_is_fetched(hub, store, tmp_path, header, address):
    name = "config.json" if address is CONFIG else "model.safetensors"
    content = (hub.repositories[REPOSITORY] / name).read_bytes()
    for value in (value.format(outside=outside(tmp_path)) for value in EVIL if value.isascii() and value):
        line = f"{header}: {value}" if header == "X-Repo-Commit" else f'{header}: "{value}"'
        hub.answer = answering(address, sending(content, line))
        refuse(store, "40 .*hex digits", without=name)
        assert not list(tmp_path.rglob("pwned*"))
        assert not list(store.cache.rglob("*.incomplete"))


def test_commit_that_is_none_is_refused(hub, store, tmp_path):
    for value in [*(value.format(outside=outside(tmp_path)) for value in EVIL), None, 5, []]:
        hub.answer = answering(REVISION, sending(json.dumps({"sha": value, "siblings": []}).encode()))
        refuse(store, "commit is given as .*40 hex digits")
        assert not list(tmp_path.rglob("pwned*"))


def test_hash_of_the_listing_that_is_none_is_refused(hub, store, tmp_path, tiny_folder):
    for value in [*(value.format(outside=outside(tmp_path)) for value in EVIL), 5, ["x"]]:
        for changes in ({"oid": value}, {"lfs": {"oid": value or "..", "size": 5}}):
            hub.answer = answering(TREE, sending(json.dumps([entry(tiny_folder, "config.json", **changes)]).encode()))
            refuse(store, "hash is given as .*hex digits")
            assert not list(tmp_path.rglob("pwned*"))


NAMES = ["../pwned.json", "/{outside}.json", "a/../../pwned.json", "a//b.json", "./a.json", "..\\pwned.json",
         "C:/pwned.json", "a\nb.json", "a\0.json", "", None, 5, ["a.json"]]  # fmt: skip


def test_name_that_leaves_its_folder_is_refused(hub, store, tmp_path, tiny_folder):
    for name in NAMES:
        said = name.format(outside=outside(tmp_path)) if isinstance(name, str) else name
        evil = {"type": "file", "path": said, "size": 2, "oid": "0" * 40}
        hub.answer = answering(TREE, sending(json.dumps([entry(tiny_folder, "config.json"), evil]).encode()))
        refuse(store, "no name inside of a folder")
        assert not list(tmp_path.rglob("pwned*"))


ODD_NAMES = ["Screenshot 2024-01-01 at 9.41.00\u202fAM.png", "Screen Shot at 10:11:12.png", "\u8bf4\u660e\u3000.md",
             "\u200bx.txt", "onnx\\notes.txt"]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_name_of_a_file_that_is_not_needed_refuses_no_model(hub, store, tiny_folder, name):
    odd = {"type": "file", "path": name, "size": 2, "oid": "0" * 40}
    names = sorted(path.relative_to(tiny_folder).as_posix() for path in tiny_folder.rglob("*") if path.is_file())
    listed = [odd, *(entry(tiny_folder, own) for own in names)]
    hub.answer = answering(TREE, sending(json.dumps(listed).encode()))
    store.ensure(REPOSITORY)
    shutil.rmtree(store.cache / "models")
    replace(store, offline=True).ensure(REPOSITORY)


@pytest.mark.parametrize("name", ["x\ud800.json", "x\x85.json", "a\\..\\x.json", "\\x.json", "c:x.json"])
def test_name_that_other_systems_take_for_another_path_is_refused(hub, store, tiny_folder, name):
    hub.answer = answering(TREE, sending(json.dumps([entry(tiny_folder, "config.json", path=name)]).encode()))
    refuse(store, "no name inside of a folder")


def test_revision_that_is_no_name_is_refused(store):
    for name in ("..", "../../x", "a/../../x", "/x", "a\\b", "", "-x", "a b", "x/", "a\n"):
        with pytest.raises(InputError, match="revision"):
            store.fetch(REPOSITORY, revision=name)


@pytest.mark.parametrize("poison", ["../../../..", "/etc", ""])
def test_commit_noted_in_the_cache_is_not_trusted_as_a_path(hub, store, poison):
    store.fetch(REPOSITORY)
    next(store.cache.rglob("refs/main")).write_text(poison)
    with pytest.raises(ModelUnavailable, match="not there"):
        replace(store, offline=True).fetch(REPOSITORY)


# What nobody states


def test_file_without_any_hash_is_refused_by_name(hub, store, tiny_folder):
    hub.states_hashes = False
    refuse(store, r"states no hash of [\w/.]*json")


def test_mirror_that_lists_names_only_is_believed_by_its_headers(hub, store):
    hub.answer = answering(TREE, sending(b"", status="404 Not Found"))
    assert (store.fetch(REPOSITORY) / "model.safetensors").is_file()
    assert [request for request in hub.requests if request.startswith("HEAD")]


def test_file_named_by_its_plain_sha1_is_taken(hub, store, tiny_folder):
    import hashlib

    content = (tiny_folder / "config.json").read_bytes()
    listed = [entry(tiny_folder, path.relative_to(tiny_folder).as_posix()) for path in tiny_folder.rglob("*.*")]
    for file in listed:
        if file["path"] == "config.json":
            file["oid"] = hashlib.sha1(content).hexdigest()
    hub.answer = answering(TREE, sending(json.dumps(listed).encode()))
    assert (store.fetch(REPOSITORY) / "config.json").read_bytes() == content


def test_listing_that_is_none_is_refused(hub, store):
    for value in ([1], {"a": 1}, "text", [[]], [{"type": "file", "lfs": 5}], None, 7):
        hub.answer = answering(TREE, sending(json.dumps(value).encode()))
        refuse(store, "listing|file")


def test_answer_that_is_no_json_is_refused(hub, store):
    for content in [b"", b"{", b"\xff\xfe", b"[" * 100_000]:
        hub.answer = answering(REVISION, sending(content))
        refuse(store, "no JSON")


def test_size_that_is_none_is_refused(hub, store, tiny_folder):
    for size in [-1, "5", 2.5, True]:
        hub.answer = answering(TREE, sending(json.dumps([entry(tiny_folder, "config.json", size=size)]).encode()))
        refuse(store, "size is given as")


# Time


def test_mirror_that_never_answers_is_given_up_by_name(hub, store, impatient):
    hub.answer = answering(REVISION, lambda handler: time.sleep(9))
    refuse(store, f"{hub.url.removeprefix('http://')} did not answer in")


def drip(handler, piece: bytes, seconds: float = 9):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        handler.connection.sendall(piece)
        time.sleep(0.05)


@pytest.mark.parametrize("address", [REVISION, WEIGHTS])
def test_mirror_that_drips_its_headers_is_given_up(hub, store, impatient, address):
    def write(handler):
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\n")
        drip(handler, b"X: y\r\n")

    hub.answer = answering(address, write)
    refuse(store, "did not answer in")


@pytest.mark.parametrize("address", [REVISION, WEIGHTS])
def test_mirror_that_drips_its_answer_is_given_up(hub, store, tiny_folder, impatient, address):
    name = "config.json" if address is CONFIG else "model.safetensors"

    def write(handler):
        sending(b"", length=(tiny_folder / name).stat().st_size)(handler)
        drip(handler, b" ")

    hub.answer = answering(address, write)
    refuse(store, r"sent \d+ bytes in", without=name)


def test_terminal_shows_who_is_waited_for(hub, tmp_path):
    hub.answer = answering(REVISION, lambda handler: time.sleep(9))
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", LOAD, str(tmp_path), hub.url], stderr=theirs)
    os.close(theirs)
    shown = b""
    while hub.url.removeprefix("http://").encode() not in shown:
        shown += os.read(ours, 1 << 16)  # ends in an error when the process has left without saying it
    process.kill()
    process.wait()
    os.close(ours)


def test_busy_mirror_is_asked_again(hub, store, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)
    answers = iter(["429 Too Many Requests", "503 Service Unavailable"])

    def answer(handler) -> bool:
        status = next(answers, None)
        if status:
            sending(b"", "Retry-After: 0", status=status)(handler)
        return status is not None

    hub.answer = answer
    assert store.fetch(REPOSITORY).is_dir()


def test_mirror_that_stays_busy_is_given_up(hub, store, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)
    monkeypatch.setattr(transfer, "_LONGEST_PAUSE_S", 0.01)
    hub.answer = answering(".*", sending(b"", "Retry-After: 99999999", status="503 Service Unavailable"))
    refuse(store, "is busy: HTTP status 503")


# Size


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("by", [-1, 1, 10**12])
def test_length_other_than_stated_is_refused_before_a_byte_is_kept(hub, store, tiny_folder, name, by):
    size = (tiny_folder / name).stat().st_size
    hub.answer = answering(f".*/resolve/[^/]+/{re.escape(name)}", sending(b"x" * 1000, length=size + by))
    refuse(store, f"sends {size + by} bytes of {re.escape(name)}, which has {size}", without=name)


def chunked(handler, pieces):
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in pieces:
        handler.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))


def test_file_without_end_is_cut_at_its_stated_size(hub, store, tiny_folder):
    size = (tiny_folder / "config.json").stat().st_size
    hub.answer = answering(CONFIG, lambda handler: chunked(handler, iter(lambda: b"x" * 65536, None)))
    refuse(store, f"sends more than the {size} bytes of config.json", without="config.json")
    assert all(path.stat().st_size <= size for path in store.cache.rglob("*.incomplete"))


def test_answer_without_end_is_cut(hub, store, monkeypatch):
    monkeypatch.setattr(transfer, "ANSWER_BYTES", 1 << 20)
    hub.answer = answering(TREE, lambda handler: chunked(handler, iter(lambda: b" " * 65536, None)))
    refuse(store, f"with more than {1 << 20} bytes")


def test_listing_without_end_is_cut(hub, store, monkeypatch):
    def write(handler):
        here = re.sub("&page=.*", "", handler.path)
        sending(b"[]", f'Link: <{hub.url}{here}&page={len(hub.requests)}>; rel="next"')(handler)

    hub.answer = answering(TREE, write)
    refuse(store, "lists files without end")


def test_listing_in_pages_is_read_whole(hub, store, tiny_folder):
    names = sorted(path.relative_to(tiny_folder).as_posix() for path in tiny_folder.rglob("*") if path.is_file())

    def write(handler):
        page = int(handler.path.partition("&page=")[2] or 0)
        here = handler.path.partition("&page=")[0]
        more = [f'Link: <{here}&page={page + 1}>; rel="next"'] if page + 1 < len(names) else []
        sending(json.dumps([entry(tiny_folder, names[page])]).encode(), *more)(handler)

    hub.answer = answering(TREE, write)
    assert (store.fetch(REPOSITORY) / "model.safetensors").is_file()


def test_listing_that_goes_on_elsewhere_is_refused(hub, store):
    hub.answer = answering(TREE, sending(b"[]", 'Link: <http://127.0.0.1:9/>; rel="next"'))
    refuse(store, "continues its listing elsewhere")


@pytest.mark.parametrize("address", [REVISION, CONFIG])
def test_packed_answer_is_refused_unread(hub, store, address):
    bomb = gzip.compress(b" " * (64 << 20))
    hub.answer = answering(address, sending(bomb, "Content-Encoding: gzip"))
    refuse(store, "packed as gzip")


def test_description_as_large_as_a_model_is_refused(hub, store, tiny_folder):
    listed = [entry(tiny_folder, "config.json", size=listing.SMALL_BYTES + 1)]
    hub.answer = answering(TREE, sending(json.dumps(listed).encode()))
    refuse(store, "config.json is said to have")


def test_data_in_json_is_left_out_where_it_is_large(hub, store, tiny_folder):
    """Training data, say: it refuses no model, and is not missed offline."""
    with (tiny_folder / "train.json").open("wb") as file:
        file.truncate(listing.SMALL_BYTES + 1)
    assert not (store.fetch(REPOSITORY) / "train.json").exists()
    assert (replace(store, offline=True).fetch(REPOSITORY) / "model.safetensors").is_file()


def test_model_larger_than_the_disk_is_refused_before_a_byte_is_fetched(hub, store, tiny_folder):
    names = ("config.json", "tokenizer.json", "model.safetensors")
    listed = [entry(tiny_folder, name) for name in names]
    listed[-1]["lfs"]["size"] = 10**18
    hub.answer = answering(TREE, sending(json.dumps(listed).encode()))
    with pytest.raises(ModelUnavailable, match=r"10{18} bytes are needed, \d+ are free"):
        store.fetch(REPOSITORY)
    assert not [request for request in hub.requests if "safetensors" in request]


# Redirects


def test_token_goes_to_its_own_origin_only(hub, store, tiny_folder):
    with hub_server.running(repositories={REPOSITORY: tiny_folder}) as other:

        def write(handler):
            sending(b"", f"Location: {other.url}{handler.path}", status="302 Found")(handler)

        hub.answer = answering(WEIGHTS, write)
        assert (replace(store, token="hf_secret").fetch(REPOSITORY) / "model.safetensors").is_file()
    assert set(hub.authorizations) == {"Bearer hf_secret"}
    assert set(other.authorizations) == {None}
    assert len(other.requests) == 1


def test_redirect_to_anything_but_http_is_refused(hub, store):
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://", ""]:
        hub.answer = answering(CONFIG, sending(b"", f"Location: {target}", status="302 Found"))
        refuse(store, "not followed|without end")


def test_redirects_without_end_are_given_up(hub, store):
    hub.answer = answering(
        CONFIG, lambda handler: sending(b"", f"Location: {handler.path}", status="307 Temporary Redirect")(handler)
    )
    refuse(store, "redirects without end")


def test_refusal_is_told_in_one_line_that_is_safe_to_print(hub, store):
    hub.answer = answering(REVISION, sending(b"", "X-Error-Message: no \x1b[31mway", status="403 Forbidden"))
    with pytest.raises(ModelUnavailable, match=r"403 \(no .*way\).*token=") as caught:
        store.fetch(REPOSITORY)
    assert "\x1b" not in str(caught.value)


# Breaks


def test_kept_connection_that_was_closed_meanwhile_is_replaced(hub, store, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)
    closed = iter([True, True])
    hub.answer = lambda handler: next(closed, False)  # and nothing was said
    assert store.fetch(REPOSITORY).is_dir()


def test_fetch_goes_on_after_breaks_and_the_content_is_right(hub, store, tiny_folder, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)
    content = (tiny_folder / "model.safetensors").read_bytes()
    sent = []

    def answer(handler) -> bool:
        if not re.fullmatch(WEIGHTS, handler.path) or len(sent) == 3:
            return False
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        sent.append(start)
        status = "206 Partial Content" if start else "200 OK"
        sending(content[start : start + 1000], status=status, length=len(content) - start)(handler)
        return True

    hub.answer = answer
    assert (store.fetch(REPOSITORY) / "model.safetensors").read_bytes() == content
    assert sent == [0, 1000, 2000]


def test_leftover_of_a_killed_fetch_with_another_content_is_thrown_away(hub, store, tiny_folder):
    weights = tiny_folder / "model.safetensors"
    blobs = store.cache / "hub/models--org--tiny/blobs"
    blobs.mkdir(parents=True)
    leftover = blobs / f"{hub_server.etag(weights)}.incomplete"
    leftover.write_bytes(b"\xff" * 100)
    assert (store.fetch(REPOSITORY) / "model.safetensors").read_bytes() == weights.read_bytes()
    assert hub.ranges == ["bytes=100-"]
    assert not leftover.exists()


def test_server_that_ignores_where_to_go_on_is_understood(hub, store, tiny_folder):
    weights = tiny_folder / "model.safetensors"
    blobs = store.cache / "hub/models--org--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hub_server.etag(weights)}.incomplete").write_bytes(weights.read_bytes()[:100])
    hub.answer = answering(WEIGHTS, sending(weights.read_bytes()))
    assert (store.fetch(REPOSITORY) / "model.safetensors").read_bytes() == weights.read_bytes()


# Ways


def in_process(cache, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = [sys.executable, "-c", LOAD, str(cache), url]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_mirror_that_only_a_proxy_can_find_is_reached(hub, tmp_path, variable):
    result = in_process(tmp_path, "http://mirror.invalid", **({variable: hub.url} if variable != "HTTP_PROXY" else
                        {"http_proxy": hub.url}))  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert all("http://mirror.invalid/" in request for request in hub.requests)


def test_address_without_a_scheme_is_refused_by_name(tmp_path, monkeypatch):
    for address in ["mirror.example", "mirror.example:8080", "//mirror", "ftp://mirror", "http://", "localhost:80/x"]:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(InputError, match=r"HF_ENDPOINT.*must begin with http"):
            make_store(tmp_path).fetch(REPOSITORY)


# The cache that is shared with other programs


def test_files_are_found_by_other_programs_and_theirs_by_us(hub, store, tmp_path):
    from huggingface_hub import snapshot_download

    folder = store.fetch(REPOSITORY)
    theirs = snapshot_download(REPOSITORY, cache_dir=store.hub_cache, local_files_only=True, allow_patterns=["*.json"])
    assert Path(theirs) == folder
    other = tmp_path / "other"
    snapshot_download(REPOSITORY, cache_dir=other / "hub", endpoint=hub.url)
    hub.requests.clear()
    again = replace(store, cache_dir=other).fetch(REPOSITORY)
    assert again.is_relative_to(other)
    assert hub.requests == []


def part_of(hub, store) -> None:
    """What a program leaves in the cache that needs only the encoder."""
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        hf_hub_download(REPOSITORY, name, cache_dir=store.hub_cache, endpoint=hub.url)


def test_model_that_another_program_cached_in_part_is_completed(hub, store):
    part_of(hub, store)
    hub.requests.clear()
    assert (store.fetch(REPOSITORY) / "modules.json").is_file()
    assert not [request for request in hub.requests if "safetensors" in request]


def test_model_that_another_program_cached_in_part_is_not_taken_for_whole(hub, store):
    part_of(hub, store)
    with pytest.raises(ModelUnavailable, match="in part only"):
        replace(store, offline=True).fetch(REPOSITORY)


def test_file_missing_from_a_cached_model_is_not_taken_for_absent(hub, store):
    (store.fetch(REPOSITORY) / "modules.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"in part only: without modules\.json"):
        replace(store, offline=True).fetch(REPOSITORY)
    assert (store.fetch(REPOSITORY) / "modules.json").is_file()


def test_pinned_hash_is_compared_before_a_byte_is_fetched(hub, store, tiny_folder, monkeypatch):
    spec = replace(find_spec(REPOSITORY), sha256={"model.safetensors": "0" * 64})
    monkeypatch.setattr("neuralcore.embedding.store.find_spec", lambda *args: spec)
    with pytest.raises(ModelCorrupt, match="0000"):
        store.fetch(REPOSITORY)
    assert not [request for request in hub.requests if "resolve" in request]


# What is needed


def test_empty_file_is_fetched(hub, store, tiny_folder):
    (tiny_folder / "notes.json").write_bytes(b"")
    assert (store.fetch(REPOSITORY) / "notes.json").read_bytes() == b""


def test_shards_of_a_checkpoint_are_fetched(hub, store, tiny_folder):
    shard(tiny_folder)
    (tiny_folder / "model-00003-of-00003.safetensors").write_bytes(b"named by nobody")
    folder = store.fetch(REPOSITORY)
    assert sorted(path.name for path in folder.glob("*.safetensors*")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]


def test_checkpoint_in_one_file_wins_over_shards(hub, store, tiny_folder):
    whole = (tiny_folder / "model.safetensors").read_bytes()
    shard(tiny_folder)
    (tiny_folder / "model.safetensors").write_bytes(whole)
    assert [path.name for path in store.fetch(REPOSITORY).glob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": 5}', '{"weight_map": {"a": ["../x"]}}'])
def test_index_of_shards_that_is_none_is_damaged(hub, store, tiny_folder, index):
    shard(tiny_folder)
    (tiny_folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelCorrupt, match=r"index\.json"):
        store.fetch(REPOSITORY)


def test_settings_of_the_tokenizer_are_fetched(hub, store, tiny_folder):
    (tiny_folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert (store.fetch(REPOSITORY) / "tokenizer_config.json").read_text() == '{"do_lower_case": false}'


def shard(folder):
    """Cut a checkpoint in two, as transformers does."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_chat_template_is_fetched_so_that_it_is_seen(hub, store, tiny_folder):
    """Without a modules.json, sentence-transformers puts texts through it; here that is refused."""
    (tiny_folder / "modules.json").unlink()
    (tiny_folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UnsupportedModel, match="chat template"):
        store.ensure(REPOSITORY)
