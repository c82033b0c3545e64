"""The pictures of the documentation, taken of a running node with the demonstration's study: make screenshots.

python -m tests.web.screenshots FOLDER
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.demo.demo import Node, progress_bars, running_node, send_study, watch
from node.demo.figures import SAMPLE
from node.demo.peers import PACS, running_pacs
from node.tracker import views
from node.tracker.states import Kind
from node.web.users import HASHER
from tests.web.browser import Window, chromium
from tests.web.conftest import PASSWORD


def main(output: Path) -> None:
    """Write one PNG for each kind of page."""
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_pacs(Path(scratch) / "pacs") as pacs,
        _node(Path(scratch) / "node", pacs) as node,
        chromium() as browser,
    ):
        infer = next(row for row in views.jobs(node.database) if row.kind is Kind.INFER)
        window = Window(browser, f"http://127.0.0.1:{node.web_port}/", "anna")

        def take(name: str, path: str | None = None, scheme: str = "light", whole: bool = False) -> None:
            window.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            if path is not None:
                window.page.goto(path)
            window.page.wait_for_timeout(500)  # the canvas is drawn with the next frame of the screen
            window.page.screenshot(path=output / f"{name}.png", full_page=whole)

        take("dashboard", "/")
        take("dashboard-dark", "/", "dark")
        take("studies", "/studies")
        take("jobs", "/jobs")
        take("job", f"/jobs/{infer.id}", whole=True)
        window.page.goto("/rules")
        window.page.locator("#files").set_input_files(sorted(SAMPLE.glob("*/*.dcm")))
        window.page.locator("#verdicts article").wait_for()
        take("rule-tester")
        take("audit", "/audit")
        page = window.viewer(infer.id)
        page.mouse.move(700, 500)
        take("viewer")
        page.keyboard.press("2")
        take("viewer-slider", scheme="dark")
        page.keyboard.press("3")
        page.keyboard.press("m")
        take("viewer-difference", scheme="dark")
        page.keyboard.press("4")
        take("viewer-expected-error", scheme="dark")
        window.close()


@contextmanager
def _node(folder: Path, pacs: PACS) -> Iterator[Node]:
    """The node of the demonstration with a user, once it has super-resolved and delivered the study."""
    folder.mkdir()
    roles = '["view", "operate", "phi"]'
    (folder / "users.toml").write_text(f'[anna]\npassword = "{HASHER.hash(PASSWORD)}"\nroles = {roles}\n')
    with running_node(folder, pacs, 'web.users_file = "users.toml"') as node:
        with progress_bars() as bars:
            send_study(node, bars)
            watch(node, bars)
        yield node


if __name__ == "__main__":
    main(Path(sys.argv[1]))
