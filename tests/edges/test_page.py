"""The page in a real browser: texts are typed, and the matrix is read off the screen.

NEURALCORE_SCREENSHOTS=FOLDER keeps pictures in light and dark, wide and narrow.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.server_process import running

pytestmark = pytest.mark.edges

TEXTS = ["A cat sat on the mat.", "A kitten rested on the rug.", "The market fell <b>sharply</b> today."]
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
# Without these, Chromium calls its maker's hosts at every start.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(minilm_cache):
    with running("all-MiniLM-L6-v2", cache=minilm_cache) as server:
        yield server


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def show(browser, size, theme):
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    width, height = SIZES[size]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "narrow"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def compare(browser, texts):
    area = browser.find_element(By.ID, "texts")
    area.clear()
    area.send_keys("\n".join(texts))
    area.send_keys(Keys.CONTROL, Keys.ENTER)
    rows = "#matrix tbody tr"
    WebDriverWait(browser, 30).until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, rows)) == len(texts))
    cells = [row.find_elements(By.TAG_NAME, "td") for row in browser.find_elements(By.CSS_SELECTOR, rows)]
    return np.array([[float(cell.text) for cell in row] for row in cells])


def test_typed_texts_become_the_matrix_of_the_engine(server, browser, minilm):
    browser.get(server.url)
    matrix = compare(browser, TEXTS)
    vectors = minilm.embed_batch(TEXTS).astype(np.float64)
    np.testing.assert_allclose(matrix, vectors @ vectors.T, atol=0.0051)
    labels = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#matrix tbody th")]
    assert labels[2] == "3 The market fell <b>sharply</b> today."  # a text is never markup
    timings = browser.find_element(By.ID, "timings").text
    assert "Tokens\n" + str(minilm.count_tokens(TEXTS).sum()) in timings
    assert " ms" in timings
    assert "all-MiniLM-L6-v2, fp32: 384 dimensions" in browser.find_element(By.ID, "model").text
    assert browser.get_log("browser") == []


def test_error_of_the_server_is_told_and_a_key_is_asked_for(minilm_cache, browser):
    with running("all-MiniLM-L6-v2", "--api-key", "open sesame", cache=minilm_cache) as server:
        browser.get(server.url)
        key = browser.find_element(By.ID, "key")
        WebDriverWait(browser, 20).until(lambda _: key.is_displayed())
        browser.find_element(By.CSS_SELECTOR, "button").click()
        error = browser.find_element(By.ID, "error")
        WebDriverWait(browser, 20).until(lambda _: "API key" in error.text)
        key.send_keys("open sesame")
        assert compare(browser, TEXTS).shape == (3, 3)
        assert not error.is_displayed()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_fits_the_screen_and_every_number_is_readable(server, browser, size, theme, tmp_path):
    show(browser, size, theme)
    browser.get(server.url)
    compare(browser, [*TEXTS, "How do I bake sourdough bread?", "Stocks dropped this morning."])
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= SIZES[size][0]
    assert min(browser.execute_script(CONTRASTS)) >= 4.5  # WCAG 2.2, level AA
    folder = Path(os.environ.get("NEURALCORE_SCREENSHOTS", tmp_path))
    browser.save_screenshot(str(folder / f"page-{theme}-{size}.png"))


CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const paint = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (node) => node ? [...behind(node.parentElement), getComputedStyle(node).backgroundColor] : ["white"];
const shown = "td, th, p:not([hidden]), h1, h2, dt, dd, label:not([hidden]), button, .hint, textarea";
return [...document.querySelectorAll(shown)].map((node) => {
  const [a, b] = [light(paint([getComputedStyle(node).color])), light(paint(behind(node)))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
});
"""
