"""The page in a real browser, with scripts and without: a model is tried out by hand."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from lvmdb.services import lvm
from lvmdb.services.options import ServiceOptions

pytest.importorskip("selenium", reason="selenium is not installed: it is in the extra dev")

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no Chromium with its chromedriver on the PATH"
)

ARGUMENTS = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)

SECONDS = 60
"""To wait for a page at most."""

TYPED = "The harbour and the river froze in winter. The king wrote a letter to the school."


@pytest.fixture(scope="module")
def address(tried_options: ServiceOptions) -> Iterator[str]:
    """Where the service listens."""
    config = uvicorn.Config(lvm.create(tried_options), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    folder: Path = tmp_path_factory.mktemp("browser")
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Hand:
    """What somebody does in a browser."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser, self.address = browser, address

    def opens(self, path: str) -> None:
        self.browser.get(self.address + path)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.browser.find_elements(By.CSS_SELECTOR, selector)]

    def presses(self, label: str) -> None:
        with self._leading_on():
            self.browser.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click()

    def follows(self, label: str) -> None:
        with self._leading_on():
            self.browser.find_element(By.LINK_TEXT, label).click()

    def types(self, selector: str, text: str) -> None:
        """And presses Enter."""
        with self._leading_on():
            field = self.one(selector)
            field.clear()
            field.send_keys(text, Keys.ENTER)

    @contextlib.contextmanager
    def _leading_on(self) -> Iterator[None]:
        """To another page, which is there at the end."""
        left = self.one("html")
        yield
        # While one page gives way to the other, Chromium may know neither.
        passing = [WebDriverException]
        WebDriverWait(self.browser, SECONDS, ignored_exceptions=passing).until(staleness_of(left))


@pytest.fixture(params=["scripts", "no scripts"])
def hand(request: pytest.FixtureRequest, browser: Chrome, address: str) -> Iterator[Hand]:
    off = request.param == "no scripts"
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": off})
    browser.get("data:text/html,<noscript>none run</noscript>")
    assert (browser.find_element(By.TAG_NAME, "body").text == "none run") == off
    _log(browser)
    yield Hand(browser, address)
    assert _log(browser) == [], "an error, or what the policy of the page forbids"


def _log(browser: Chrome) -> list[object]:
    """What its console says since the last call."""
    found: list[object] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return found


def test_a_model_is_tried_out(hand: Hand) -> None:
    hand.opens("/")
    hand.one("#text").send_keys(TYPED)
    hand.presses("Predict")
    assert hand.texts("ol.context li") == [TYPED]
    first = hand.texts("ol.hits li > p")
    assert len(first) == 5
    assert len(hand.texts("ol.hits .band")) == 5
    assert all(text.startswith("cosine ") for text in hand.texts("ol.hits .cosine"))
    assert "/?text=The+harbour" in hand.browser.current_url

    hand.presses("Go on with this")
    context = hand.texts("ol.context li")
    assert context[0] == TYPED
    assert first[0] in context[1]
    assert first[0] not in hand.texts("ol.hits li > p")

    by_first = hand.texts("ol.hits li > p")
    Select(hand.one("#other")).select_by_value("2")
    hand.presses("Ask this run")
    assert hand.texts("ol.context li") == context
    assert hand.texts("ol.hits li > p") != by_first
    assert "run 2, lstm" in hand.texts("#run option:checked")[0]
    assert hand.texts("tr.current td:first-child") == ["2"]

    hand.types("#steps", "3")
    assert 1 <= len(hand.texts("ol.hits li")) <= 3
    assert "It ended after" in hand.one("main").text
    hand.follows("Put these behind the context")
    assert len(hand.texts("ol.context li")) == 3


def test_a_place_in_the_corpus_is_looked_up(hand: Hand) -> None:
    hand.opens("/")
    hand.types("#title", "article 4")
    hand.follows("Article 4")
    assert [text[:9] for text in hand.texts("ol.context li")] == [
        "Concept 0",
        "Concept 1",
        "Concept 2",
    ]
    assert "Concept 3 of Article 4" in hand.one("main").text
    hand.follows("One on")
    assert hand.texts("ol.context li")[-1].startswith("Concept 3 of Article 4")
    hand.presses("A random test window")
    assert len(hand.texts("ol.context li")) == 3
    assert hand.texts("li.truth, .said")


def test_the_corpus_is_searched(hand: Hand) -> None:
    hand.opens("/")
    hand.follows("Search")
    hand.one("#text").send_keys("the king wrote a letter")
    hand.one("#words-too").click()
    hand.presses("Search")
    assert hand.texts(".beside h2") == [
        "By the query's vector",
        "By the prediction",
        "By the words",
    ]
    places = [
        each.location["y"] for each in hand.browser.find_elements(By.CSS_SELECTOR, ".beside h2")
    ]
    assert len(set(places)) == 1, "they stand side by side"
    assert len(hand.texts(".beside ol.hits li")) >= 10


@pytest.mark.parametrize(
    ("scheme", "paths"),
    [("light", ("/?article=4&at=4", "/page/runs?run=2")), ("dark", ("/page/search?text=ice",))],
)
def test_a_phone_shows_all_of_it(
    browser: Chrome, address: str, scheme: str, paths: tuple[str, ...]
) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for path in paths:
            browser.get(address + path)
            wide = "return document.documentElement.scrollWidth"
            assert browser.execute_script(wide) <= 360
            body = browser.find_element(By.TAG_NAME, "body")
            background = body.value_of_css_property("background-color")
            assert ("255, 255, 255" in background) == (scheme == "light")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_keyboard_reaches_the_content_first(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.text == "To the content"
    assert focused.location["x"] >= 0
