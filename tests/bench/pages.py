"""How long every page takes with many studies in the tracker: median and worst of repeated requests to a real server.

python -m tests.bench.pages [STUDIES] [REPEATS]
"""

import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import httpx2

from node.tracker.states import State
from node.tracker.studies import StudyState
from node.web.server import WebServer
from tests.web.conftest import PASSWORD, make_site
from tests.web.content import Content, Filled

STATES = (StudyState.DELIVERED,) * 8 + (StudyState.WAITING, StudyState.FAILED)


def main(studies: int, repeats: int) -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(Path(folder))
        content = Content(site.tracker.database, site.archive)
        last: Filled | None = None
        for n in range(studies):
            state = STATES[n % len(STATES)]
            last = content.study(
                state,
                patient=f"Family{n % 977}^Given{n % 31}",
                patient_id=f"ID{n:06d}",
                age=timedelta(minutes=3 * (studies - n)),
                delivery=State.FAILED if state is StudyState.FAILED else State.DONE,
                error="0xA700: out of resources" if state is StudyState.FAILED else None,
                result=n == studies - 3,
            )
            if n == studies - 3:
                shown = last
            if n % 1000 == 0:
                content.flush()
        content.flush()
        server = WebServer(site)
        server.start()
        with httpx2.Client(base_url=server.address, follow_redirects=False, timeout=60) as client:
            client.post("/login", data={"name": "anna", "password": PASSWORD})
            print(f"load {os.getloadavg()[0]:.1f}; {studies} studies, median and worst of {repeats}, ms")
            for path in (
                "/", "/dashboard?live=1", "/studies", f"/studies?page={studies // 50}", "/studies?text=family13+given3",
                "/studies?state=waiting+for+its+partner", f"/studies/{shown.study_uid}", "/jobs", f"/jobs?page={studies // 15}",
                "/jobs?text=ID0042", "/jobs?kind=deliver&state=failed", "/jobs/rows?live=1", f"/jobs/{shown.infer}",
                f"/jobs/{shown.infer}/live?live=1", f"/jobs/{shown.infer}/viewer", f"/jobs/{shown.infer}/layers/slices/2", "/audit",
                "/rules", "/ask/retry?everything=1",
            ):  # fmt: skip
                taken = []
                for _ in range(repeats):
                    started = time.perf_counter()
                    answer = client.get(path)
                    taken.append((time.perf_counter() - started) * 1000)
                    assert answer.status_code == 200, (path, answer.status_code)
                print(f"{statistics.median(taken):8.1f} {max(taken):8.1f}  {path}")
        server.stop()


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], *("10000", "20")[len(sys.argv) - 1 :])))
