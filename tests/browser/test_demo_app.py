"""The demo app's page in a real browser: a click is seen on the page and in what Prometheus reads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.demo_app_server import SOURCE, DemoApp, demo_app


@pytest.fixture(scope="session")
def page_files() -> Path:
    """The built page, built anew where a source is newer."""
    ui = SOURCE / "ui"
    page = ui / "dist" / "index.html"
    sources = [ui / "index.html", ui / "package-lock.json", ui / "vite.config.js", *(ui / "src").iterdir()]
    if not page.exists() or page.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=ui, check=True)
        subprocess.run(["npm", "run", "build"], cwd=ui, check=True)
    return page.parent


@pytest.fixture
def app(page_files: Path, tmp_path: Path) -> Iterator[DemoApp]:
    with demo_app(tmp_path / "metrics", DEMO_APP_PEERS="localhost") as running:
        yield running


@pytest.fixture
def see(browser: Chrome) -> Callable[[str, str], None]:
    def see(element: str, text: str) -> None:
        """Wait until the element with this id shows this text."""
        wait = WebDriverWait(browser, 10)
        wait.until(
            lambda driver: driver.find_element(By.ID, element).text == text,
            f"#{element} does not show {text!r}",
        )

    return see


def test_page_draws_the_right_conclusions():
    subprocess.run(["node", "--test", "src/"], cwd=SOURCE / "ui", check=True, capture_output=True)


def test_a_click_raises_the_counter_on_the_page_and_in_the_metrics(app, browser, see):
    browser.get(app.url)
    see("clicks", "0")
    see("replicas", "1")
    see("pod", app.json("/api/state")["pod"])

    button = browser.find_element(By.XPATH, "//button[normalize-space()='Hit me!']")
    for _ in range(3):
        button.click()

    see("clicks", "3")
    assert app.clicks() == [({}, 3.0)]


def test_clicks_of_others_appear_without_a_reload(app, browser, see):
    browser.get(app.url)
    see("clicks", "0")
    app.request("/click-button", "POST")
    see("clicks", "1")


def test_page_says_when_the_app_is_gone(app, browser, see):
    browser.get(app.url)
    see("clicks", "0")
    app.process.terminate()
    app.process.wait(timeout=20)

    WebDriverWait(browser, 10).until(
        lambda driver: "No answer" in driver.find_element(By.CSS_SELECTOR, "[role=alert]").text
    )


@pytest.mark.parametrize("width", [320, 1100])
def test_nothing_is_cut_off_at_any_width(app, browser, see, width):
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    browser.get(app.url)
    see("clicks", "0")

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_page_obeys_its_own_security_policy(app, browser, see):
    browser.get(app.url)
    see("clicks", "0")

    assert [entry["message"] for entry in browser.get_log("browser")] == []
