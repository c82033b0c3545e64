"""The pages in a browser: accessible in light and dark, alive, and asking first."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from node.tracker import views
from node.tracker.states import State
from node.web.server import WebServer
from tests.web.browser import Window, chromium
from tests.web.conftest import House, fill, make_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def every_page(house: House) -> list[str]:
    """One address of every kind of page."""
    return [
        "/", "/studies", f"/studies/{house.waiting.study_uid}", "/jobs", "/jobs?text=nothing+at+all", f"/jobs/{house.shown.infer}",
        f"/jobs/{house.failed.deliver}", "/rules", "/audit", f"/jobs/{house.shown.infer}/viewer", "/nowhere",
    ]  # fmt: skip


def test_axe_finds_nothing_on_any_page_in_light_and_dark(browser: Browser, served: House) -> None:
    window = Window(browser, WebServer(served.site).address)
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        """All rules in light; in dark those of colours, because nothing else differs."""
        for scheme, rules in (("light", ()), ("dark", ("color-contrast", "link-in-text-block"))):
            window.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found[f"{name} {scheme}"] = window.violations(*rules)

    window.goto("/login")
    look("/login")
    window.log_in("anna")
    for path in every_page(served):
        window.goto(path)
        if path.endswith("/viewer"):
            window.page.wait_for_selector("#viewer[data-shown]", state="attached")
        look(path)
    window.goto("/jobs")
    window.page.locator("#this-page").check()
    window.page.get_by_role("button", name="Cancel").click()
    window.page.get_by_role("dialog", name="Confirm").wait_for()
    look("dialog")
    assert {name: violations for name, violations in found.items() if violations} == {}
    assert [c for c in window.complaints if "404" not in c] == []
    assert window.page.evaluate("() => window.attacked") is None
    window.close()


def test_the_node_is_asked_for_nothing_from_elsewhere(browser: Browser, served: House) -> None:
    window = Window(browser, WebServer(served.site).address)
    asked: list[str] = []
    window.page.on("request", lambda request: asked.append(request.url))
    window.log_in("anna")
    for path in every_page(served):
        window.goto(path)
    window.close()
    assert asked
    assert all(url.startswith((window.address, "blob:")) for url in asked)


def test_what_is_ticked_stays_ticked_while_rows_change(browser: Browser, tmp_path: Path) -> None:
    house = fill(make_site(tmp_path))
    server = WebServer(house.site)
    server.start()
    window = Window(browser, server.address, "otto")
    page = window.goto("/jobs")
    boxes = page.locator("input[name=id]")
    tick = page.locator(f"input[name=id][value='{house.held.deliver}']")
    tick.check()
    expect(page.locator("#chosen output")).to_have_text("1 job chosen")
    page.evaluate("() => document.querySelector('#list table').dataset.old = 1")
    page.wait_for_selector("#list table:not([data-old])")  # the rows have come anew
    expect(tick).to_be_checked()
    assert boxes.count() > 5
    assert page.locator("input[name=id]:checked").count() == 1

    page.get_by_role("button", name="Release").click()
    dialog = page.get_by_role("dialog", name="Confirm")
    expect(dialog).to_contain_text("Release 1 job?")
    dialog.get_by_role("button", name="Leave it").click()
    assert views.job(house.site.tracker.database, house.held.deliver or 0).state is State.HELD
    page.get_by_role("button", name="Release").click()
    dialog.get_by_role("button", name="Release").click()
    expect(dialog).to_contain_text("1 job released")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("tr", has=tick)).to_contain_text("ready")
    assert views.job(house.site.tracker.database, house.held.deliver or 0).state is State.READY
    assert window.complaints == []
    window.close()
    server.stop()


def test_filters_stay_in_the_address_and_everything_that_matches_can_be_acted_on(
    browser: Browser, tmp_path: Path
) -> None:
    house = fill(make_site(tmp_path))
    server = WebServer(house.site)
    server.start()
    window = Window(browser, server.address, "anna")
    page = window.goto("/jobs")
    page.get_by_label("Search").fill("P3")
    page.get_by_label("Kind").select_option("deliver")
    page.get_by_role("button", name="Show").click()
    assert "text=P3" in page.url
    assert "kind=deliver" in page.url
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("#everything").check()
    page.get_by_role("button", name="Retry").click()
    dialog = page.get_by_role("dialog", name="Confirm")
    expect(dialog).to_contain_text("Retry 1 job?")
    dialog.get_by_role("button", name="Retry").click()
    expect(dialog).to_contain_text("retried")
    jobs = {
        job: views.job(house.site.tracker.database, job or 0).state
        for job in (house.failed.deliver, house.held.deliver)
    }
    assert jobs == {house.failed.deliver: State.READY, house.held.deliver: State.HELD}
    assert window.complaints == []
    window.close()
    server.stop()


def test_inference_is_paused_and_resumed(browser: Browser, tmp_path: Path) -> None:
    house = fill(make_site(tmp_path))
    server = WebServer(house.site)
    server.start()
    window = Window(browser, server.address, "otto")
    page = window.goto("/")
    page.get_by_role("button", name="Pause inference").click()
    page.get_by_role("dialog", name="Confirm").get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume inference")).to_be_visible()
    expect(page.locator("#live")).to_contain_text("by otto")
    page.get_by_role("button", name="Resume inference").click()
    page.get_by_role("dialog", name="Confirm").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause inference")).to_be_visible()
    assert window.complaints == []
    window.close()
    server.stop()
