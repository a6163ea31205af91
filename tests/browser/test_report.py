"""The report in a real browser: one dashboard is seen at a time, nothing is cut off, nothing is fetched."""

from __future__ import annotations

import pytest
from ansible_collections.kubescale.fleet.plugins.plugin_utils.report import panels, report
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.unit.report.test_panels import SERVICE, FakePrometheus
from tests.unit.report.test_report import full_report

TITLES = ["Autoscalers", "Demo app", "Cluster", "Node", "Pod"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(report.render(full_report() | {"panels": panels.collect(FakePrometheus(), SERVICE, 15)}))
    return file.as_uri()


def shown(browser: Chrome) -> list[str]:
    """The first heading of each dashboard that can be seen."""
    headings = browser.find_elements(By.CSS_SELECTOR, ".tab .row:first-of-type > summary")
    return [heading.text for heading in headings if heading.is_displayed()]


def test_a_click_on_its_name_shows_a_dashboard_and_hides_the_others(browser: Chrome, page: str) -> None:
    browser.get(page)
    labels = browser.find_elements(By.CSS_SELECTOR, ".tabs > nav label")
    assert [label.text for label in labels] == TITLES
    seen = []
    for label in labels:
        label.click()
        seen += shown(browser)
    assert seen == ["All of them", "Now", "Now", "All of them", "Now"]


def test_dashboards_are_reached_by_keys(browser: Chrome, page: str) -> None:
    browser.get(page)
    browser.find_element(By.ID, "tab0").send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element(By.ID, "tab1").is_selected()
    assert shown(browser) == ["Now"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_cut_off_at_any_width(browser: Chrome, page: str, width: int) -> None:
    device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    browser.get(page)
    for position in range(len(TITLES)):
        browser.execute_script(f"document.getElementById('tab{position}').click()")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_drawings_have_the_width_of_their_place(browser: Chrome, page: str) -> None:
    browser.get(page)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.tab0 .area')].filter(place => place.offsetParent)"
        ".map(place => [place.clientWidth, place.querySelector('svg').getBoundingClientRect().width])"
    )
    assert widths and all(abs(place - drawing) < 1 for place, drawing in widths)


def test_page_fetches_nothing_and_reports_no_error(browser: Chrome, page: str) -> None:
    browser.get(page)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
