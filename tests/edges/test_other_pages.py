"""Pages of others in a real browser: what their scripts send here, and a name of theirs that points here."""

import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from selenium import webdriver

from tests.edges.test_page import _FLAGS
from tests.server_process import running

pytestmark = pytest.mark.edges

FETCH = """
const [url, options, done] = arguments;
fetch(url, options).then(async (answer) => done([answer.type, answer.status, await answer.json().catch(() => null)]))
  .catch((error) => done(["refused", 0, String(error)]));
"""
BODY = '{"inputs": "the cat"}'
PLAIN = {"method": "POST", "body": BODY}
ASKING_FIRST = PLAIN | {"headers": {"content-type": "application/json", "x-stainless-os": "Linux"}}


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>elsewhere</title>")

    def log_message(self, *_):
        pass


@contextmanager
def elsewhere():
    with HTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{page.server_port}"
        finally:
            page.shutdown()
            thread.join()


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    rebinding = "--host-resolver-rules=MAP rebound.example.com 127.0.0.1"
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", rebinding):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_scripts_of_another_page_are_served_only_where_it_is_named(asymmetric, cache, engine, browser):
    with (
        elsewhere() as page,
        running(asymmetric, cache=cache) as closed,
        running(asymmetric, "--allow-origin", page, cache=cache) as named,
    ):
        browser.get(page)
        blind = browser.execute_async_script(FETCH, f"{closed.url}/embed", PLAIN | {"mode": "no-cors"})
        assert blind[:2] == ["opaque", 0]  # it was sent, and the page may not see what came of it
        for options in (PLAIN, ASKING_FIRST):
            assert browser.execute_async_script(FETCH, f"{closed.url}/embed", options)[0] == "refused"
            kind, status, vectors = browser.execute_async_script(FETCH, f"{named.url}/embed", options)
            assert (kind, status) == ("cors", 200)
            np.testing.assert_allclose(vectors[0], engine.embed("the cat"), atol=1e-6)
        closed.stop()
        asked = [line for line in closed.log if line.get("path") == "/embed"]
        assert [(line["method"], line["status"]) for line in asked] == [("POST", 403)] * 2 + [("OPTIONS", 403)]


def test_name_of_another_that_points_here_gets_nothing(asymmetric, cache, browser):
    with running(asymmetric, cache=cache) as server:
        strange = f"http://rebound.example.com:{server.port}"
        browser.get(strange)
        assert "--allowed-host" in browser.page_source
        kind, status, _ = browser.execute_async_script(FETCH, f"{strange}/embed", PLAIN)  # its own page, it thinks
        assert (kind, status) == ("basic", 421)
