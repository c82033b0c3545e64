"""The pictures of the documentation, taken of a running node with the demonstration's study: make screenshots.

python -m tests.web.screenshots FOLDER
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.config.settings import DestinationSettings
from node.deliver.scu import send
from node.demo.figures import SAMPLE
from node.demo.peers import PACS, free_port, running_pacs, wait_for_echo
from node.dicom.read import InstanceFile
from node.tracker import views
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.web.users import HASHER
from tests.web.browser import Window, chromium
from tests.web.conftest import PASSWORD

PATIENCE_S = 1800


def main(output: Path) -> None:
    """Write one PNG for each kind of page."""
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_pacs(Path(scratch) / "pacs") as pacs,
        _node(Path(scratch) / "node", pacs) as (web_port, database),
        chromium() as browser,
    ):
        infer = next(row for row in views.jobs(database) if row.kind is Kind.INFER)
        window = Window(browser, f"http://127.0.0.1:{web_port}/", "anna")

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
        window.close()


@contextmanager
def _node(folder: Path, pacs: PACS) -> Iterator[tuple[int, Database]]:
    """A node that has super-resolved and delivered the study: the port of its page, and its tracker."""
    folder.mkdir()
    port, web_port = free_port(), free_port()
    roles = '["view", "operate", "phi"]'
    (folder / "users.toml").write_text(f'[anna]\npassword = "{HASHER.hash(PASSWORD)}"\nroles = {roles}\n')
    config = folder / "node.toml"
    config.write_text(
        f"""
        node.data_dir = "data"
        scp = {{ host = "127.0.0.1", port = {port} }}
        completion.series_quiet_s = 2
        storage.reserve_gb = 0.1
        web = {{ port = {web_port}, users_file = "users.toml" }}
        [[destinations]]
        name = "pacs"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = {pacs.port}
        """
    )
    process = subprocess.Popen([sys.executable, "-m", "node.cli", "start", "--config", str(config)])
    database = Database(f"sqlite:///{folder / 'data' / 'tracker.sqlite3'}")
    try:
        peer = DestinationSettings(name="node", ae_title="DIFFMSR", host="127.0.0.1", port=port)
        wait_for_echo(peer, lambda: None)
        for series in ("T1", "T2"):
            sent = list(send([InstanceFile(path) for path in sorted((SAMPLE / series).glob("*.dcm"))], peer, "SCANNER"))
            assert all(one.accepted for one in sent)
        deadline = time.monotonic() + PATIENCE_S
        while not any(row.kind is Kind.DELIVER and row.state is State.DONE for row in views.jobs(database)):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(1)
        yield web_port, database
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        database.dispose()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
