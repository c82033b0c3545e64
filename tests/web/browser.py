"""The distribution's Chromium, driven by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.conftest import require
from tests.web.conftest import PASSWORD

QUIET = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
AXE = files("axe_playwright_python") / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser without any other graphics than the 2-D canvas, unless it has some."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*QUIET, *arguments])
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A page of a site, and everything that went wrong on it."""

    def __init__(
        self, browser: Browser, address: str, name: str | None = None, scheme: str = "light", **size: int
    ) -> None:
        viewport: Any = {"width": 1440, "height": 900} | size
        self.address = address
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, base_url=address)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        if name is not None:
            self.log_in(name)

    def log_in(self, name: str) -> None:
        self.page.goto("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url("/")

    def _hear(self, message: ConsoleMessage) -> None:
        about_tests = "getImageData" in message.text  # tests read the canvas, the page does not
        if message.type in ("error", "warning") and not about_tests:
            self.complaints.append(message.text)

    def goto(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def viewer(self, job: int | None) -> Page:
        """The viewer of a job, with its first slice on the canvas."""
        self.page.goto(f"/jobs/{job}/viewer")
        self.page.wait_for_selector("#viewer[data-shown]", state="attached")
        return self.page

    def violations(self, *rules: str) -> list[str]:
        """What axe-core finds on the page as it is: against these rules, or against WCAG 2.2 AA."""
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(AXE.read_text())
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": WCAG}
        found = self.page.evaluate("only => axe.run({runOnly: only}).then(r => r.violations)", only)
        return [f"{v['id']}: {v['help']}: {n['html'][:200]} {n['failureSummary']}" for v in found for n in v["nodes"]]

    def close(self) -> None:
        self.context.close()
