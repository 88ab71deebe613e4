"""Names and pages: who a browser may be made to ask for, and that everybody else is answered as before."""

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.server.callers import Callers, clean_hosts, clean_origins
from neuralcore.embedding.server.refusals import Refusal
from tests import tiny_model
from tests.server_process import COMMAND, raw, running

PAGE = "https://app.example.com"
BODY = json.dumps({"inputs": "the cat"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def vector(folder, cache):
    with EmbeddingEngine.from_pretrained(folder, cache_dir=cache) as engine:
        return engine.embed("the cat")


@pytest.fixture(scope="module")
def server(folder, cache, vector):
    with running(folder, "--allowed-host", "*.example.org", "--allow-origin", PAGE, cache=cache) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(folder, cache, vector):
    with running(folder, "--api-key", " a key\n", cache=cache) as server:
        yield server


def embed(server, **headers):
    return server.post("/embed", BODY.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


NATURAL = [
    "localhost:8000",
    "127.0.0.1",
    "[::1]:80",
    "10.1.2.3:8000",
    "embeddings:80",
    "x.default.svc.cluster.local",
    "x.default.svc",
    "host.docker.internal:8000",
    "LOCALHOST.",
    "127.1",
    "a.b.example.org",
    "e.localhost",
]
STRANGE = [
    "evil.com",
    "evil.com:8000",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "127.0.0.1.nip.io",
    "example.org",
    "evilexample.org",
    "internal.evil.com",
    "xn--local-.dev",
]


@pytest.mark.parametrize("host", NATURAL)
def test_names_that_nobody_can_own_are_answered(server, vector, host):
    answer = embed(server, Host=host)
    assert answer.status == 200
    np.testing.assert_allclose(answer.json()[0], vector, atol=1e-6)


@pytest.mark.parametrize("host", STRANGE)
def test_other_names_are_421_with_the_way_out_on_every_path(server, host):
    answer = embed(server, Host=host)
    assert answer.status == 421
    assert answer.json() == {"error": answer.json()["error"], "error_type": "validation"}
    assert "--allowed-host" in answer.json()["error"]
    assert {server.request("GET", path, headers={"Host": host}).status for path in ("/", "/info", "/metrics")} == {421}


def test_with_a_key_any_name_and_any_page_will_do_and_without_it_none(keyed, vector):
    for headers in ({}, {"Host": "embeddings.example.com"}, {"Origin": "https://evil.com"}):
        assert embed(keyed, **headers).status == 401
        answer = embed(keyed, Authorization="Bearer a key", **headers)
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers
        np.testing.assert_allclose(answer.json()[0], vector, atol=1e-6)


def test_exactly_one_host_is_needed_since_http_1_1(server):
    many = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n"
    for request in (b"GET /health HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\nHost:\r\n\r\n", many):
        assert raw(server, request).startswith(b"HTTP/1.1 400 ")
    assert raw(server, b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
@pytest.mark.parametrize("origin", ["https://evil.com", "null", "http://localhost:1", "http://app.example.com", ""])
def test_scripts_of_strange_pages_are_403_whatever_they_call_their_body(server, content_type, origin):
    answer = embed(server, Origin=origin, Content_Type=content_type)
    assert answer.status == 403
    assert "--allow-origin" in answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers


def test_own_page_may_call_also_behind_a_proxy_that_ends_tls(server):
    assert embed(server, Origin=server.url).status == 200
    assert embed(server, Host="a.example.org", Origin="https://a.example.org").status == 200
    assert embed(server, Host="a.example.org:443", Origin="https://a.example.org").status == 200


def test_named_page_may_call_and_its_browser_is_told(server):
    answer = embed(server, Origin=PAGE)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "origin"
    assert "x-truncated-texts" in answer.headers["access-control-expose-headers"]
    refused = server.post("/embed", b"{", {"Origin": PAGE})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, PAGE)
    assert embed(server).headers.get("access-control-allow-origin") is None


def test_browser_that_asks_first_is_told_what_a_named_page_may_send(server):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-stainless-os"}
    answer = server.request("OPTIONS", "/v1/embeddings", headers={"Origin": PAGE, **asked})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type,x-stainless-os"
    assert server.request("OPTIONS", "/v1/embeddings", headers={"Origin": "https://evil.com", **asked}).status == 403
    assert server.request("OPTIONS", "/v1/embeddings").status == 405


def test_browser_may_ask_first_without_the_key_but_not_call(folder, cache):
    with running(folder, "--api-key", "k", "--allow-origin", "*", cache=cache) as server:
        asked = {"Origin": "null", "Access-Control-Request-Method": "POST"}
        answer = server.request("OPTIONS", "/embed", headers=asked)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert "authorization" in answer.headers["access-control-allow-headers"]
        refused = embed(server, Origin="null")
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "*")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"', "", "text/plain",
     "application/vnd.api+json", "application/x-www-form-urlencoded", "text/plain;charset=UTF-8",
     "application/octet-stream", "Application/JSON"],
)  # fmt: skip
def test_json_is_read_whatever_honest_clients_call_it(server, vector, content_type):
    np.testing.assert_allclose(embed(server, Content_Type=content_type).json()[0], vector, atol=1e-6)


@pytest.mark.parametrize(
    "headers",
    [{"Content_Type": "multipart/form-data; boundary=x"}, {"Content_Type": "application/xml"},
     {"Content_Type": "application/json; charset=latin-1"}, {"Content_Encoding": "gzip"}],
)  # fmt: skip
def test_body_that_says_it_is_something_else_is_415(server, headers):
    answer = embed(server, **headers)
    assert answer.status == 415
    assert answer.json()["error_type"] == "validation"


def test_slash_at_the_end_leads_nowhere_else(server):
    for method, path in (("POST", "/embed/"), ("POST", "/v1/embeddings/"), ("GET", "/health/"), ("GET", "//evil.com")):
        answer = server.request(method, path, headers={"Host": "embeddings"})
        assert answer.status == 404
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        (["--api-key", ""], None, "--api-key is empty"),
        (["--api-key", "\n"], None, "--api-key is empty"),
        (["--api-key", "good", "--api-key", " "], None, "--api-key is empty"),
        (["--api-key", "two\nlines"], None, "no header can carry"),
        ([], "", "NEURALCORE_API_KEY is empty"),
        ([], " \n", "NEURALCORE_API_KEY is empty"),
        (["--host", ""], None, "--host is empty"),
        (["--host", " "], None, "--host is empty"),
        (["--allow-origin", "example.com"], None, "not an origin"),
        (["--allowed-host", ""], None, "not a name"),
        (["--allowed-host", "https://example.com"], None, "not a name"),
        (["--allowed-host", "*example.com"], None, "not a name"),
        (["--allow-origin", "https://example.com/path"], None, "not an origin"),
    ],
)
def test_what_would_open_the_door_by_mistake_is_wrong_usage(arguments, key, words, monkeypatch):
    from click.testing import CliRunner

    from neuralcore.embedding.cli.commands import cli

    monkeypatch.setattr("neuralcore.embedding.server.process.listen", lambda host, port: pytest.fail("it listened"))
    done = CliRunner().invoke(cli, ["serve", "no-such-model", *arguments], env={"NEURALCORE_API_KEY": key})
    assert done.exit_code == 2
    assert words in done.output


@pytest.mark.parametrize(("options", "warned"), [([], True), (["--api-key", "k"], False)])
def test_every_address_without_a_key_is_warned_of(options, warned):
    command = [*COMMAND, "no-such-model", "--port", "0", "--host", "0.0.0.0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert ("warning" in done.stderr) == warned


def check(host, origin=None, **options):
    headers = {"host": host, **({"origin": origin} if origin is not None else {})}
    try:
        Callers(**options).check(Headers(headers), "1.1")
    except Refusal as refusal:
        return refusal.status
    return 200


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=2, max_size=5).map(".".join).filter(
    lambda name: not name.endswith((".localhost", ".local", ".internal", ".home.arpa", ".svc"))
)  # fmt: skip


@given(names, st.integers(1, 65535))
def test_no_public_name_is_answered_unless_it_is_allowed(name, port):
    assert check(f"{name}:{port}") == check(f"{name}.") == 421
    for allowed in (name.upper(), f"{name}:{port}", f"{name}.", "*"):
        assert check(f"{name}:{port}", hosts=clean_hosts([allowed])) == 200
    assert check(name, hosts=["*." + name.partition(".")[2]]) == 200
    assert check(f"x{name}", hosts=[name]) == 421
    assert check(name, f"https://{name}", hosts=["*"]) == 200
    assert check("localhost", f"http://{name}") == 403


@given(st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)))
def test_every_address_is_answered(address):
    assert check(address) == check(f"{address}:8000") == check(f"{address}:8000", f"http://{address}:8000") == 200


@given(st.text(max_size=30))
def test_any_origin_is_clean_or_refused(text):
    try:
        [cleaned] = clean_origins([text])
    except ValueError:
        return
    assert cleaned in {"*", "null"} or "://" in cleaned
