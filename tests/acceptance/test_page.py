"""The page of a running node, as a radiographer and an administrator use it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from pydicom import dcmread

from node.archive.facade import Archive
from node.dicom.stored_values import intensity_factor, stored_values
from node.tracker import views
from node.tracker.database import Database
from node.tracker.states import Kind, State
from node.web.users import HASHER
from tests.acceptance.conftest import Files, Orthanc, Site, send
from tests.web.browser import Window, chromium
from tests.web.conftest import PASSWORD

pytestmark = pytest.mark.acceptance


@pytest.fixture
def site(tmp_path: Path, pacs: Orthanc) -> Iterator[Site]:
    """A node with one user, anna, who may do everything."""
    site = Site(tmp_path, pacs.port)
    text = site.config.read_text()
    site.config.write_text(text.replace("web.port", 'web.users_file = "users.toml"\n            web.port'))
    (tmp_path / "users.toml").write_text(
        f'[anna]\npassword = "{HASHER.hash(PASSWORD)}"\nroles = ["view", "operate", "phi"]\n'
    )
    site.start()
    yield site
    assert site.stop() == 0, site.log()[-3000:]


def confirm(page: Page, verb: str) -> None:
    """Press a button of the page, and the button of the same name in the dialog that asks."""
    page.get_by_role("button", name=verb, exact=True).click()
    page.get_by_role("dialog", name="Confirm").get_by_role("button", name=verb).click()


def close(page: Page) -> None:
    page.get_by_role("dialog", name="Confirm").get_by_role("button", name="Close").click()


def test_a_study_is_followed_looked_at_held_released_and_sent_again(site: Site, pacs: Orthanc, files: Files) -> None:
    database = Database(f"sqlite:///{site.folder / 'data' / 'tracker.sqlite3'}")

    def job(kind: Kind) -> views.JobRow:
        return next(row for row in views.jobs(database, kind=kind))

    with chromium("--disable-3d-apis") as browser:
        window = Window(browser, f"http://127.0.0.1:{site.web_port}/", "anna")
        page = window.page

        expect(page.locator("main")).to_contain_text("answered")  # the PACS, to C-ECHO
        page.get_by_role("button", name="Pause deliveries to pacs").click()
        page.get_by_role("dialog", name="Confirm").get_by_role("button", name="Pause").click()
        expect(page.locator("main")).to_contain_text("paused")

        page.goto("/rules")
        page.locator("#files").set_input_files([*files.t2, *files.t1])
        expect(page.locator("#verdicts")).to_contain_text("To be super-resolved")
        assert not pacs.instances(files.study_uid)
        assert views.totals(database).studies == 0  # nothing of it was kept

        send(site.port, *files.t2, *files.t1)
        site.until(lambda: views.jobs(database, kind=Kind.DELIVER), "there is something to deliver")
        page.goto("/")
        expect(page.locator(".tile").first).to_contain_text("1")
        page.goto("/studies?text=Phantom")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody")).to_contain_text("Phantom, One")

        page.goto(f"/jobs/{job(Kind.DELIVER).id}")
        confirm(page, "Hold")
        close(page)
        expect(page.locator("h1")).to_contain_text("held")

        page.goto(f"/jobs/{job(Kind.INFER).id}")
        expect(page.locator("main")).to_contain_text("What was decided, and why")
        page.get_by_role("link", name="Open the viewer").click()
        page.wait_for_selector("#viewer[data-shown]", state="attached")
        shown = int(page.get_attribute("#viewer", "data-shown") or 0) - 1
        got = page.evaluate(
            "() => { const names = ['zero_filled', 'super_resolved', 'reference', 'expected_error'], e = document.getElementById('viewer').engine, {rows, columns} = e.geometry; return [...Array(rows)"
            ".keys()].map(r => [...Array(columns).keys()].map(c => { const {values} = e.valuesOf(r, c); return names.map(n => values[n]) })) }"
        )

        page.goto("/")
        page.get_by_role("button", name="Resume deliveries to pacs").click()
        page.get_by_role("dialog", name="Confirm").get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause deliveries to pacs")).to_be_visible()
        assert not pacs.instances(files.study_uid)  # the job is still held
        page.goto(f"/jobs/{job(Kind.DELIVER).id}")
        confirm(page, "Release")
        close(page)
        site.until(lambda: job(Kind.DELIVER).state is State.DONE, "the result is delivered")
        expect(page.locator("h1")).to_contain_text("done")
        expect(page.locator("main")).to_contain_text("0x0000")
        confirm(page, "Resend")
        close(page)
        site.until(
            lambda: [e.to_state for e in views.job(database, job(Kind.DELIVER).id).events].count(State.DONE) == 2,
            "the result is delivered again",
        )
        page.goto(f"/jobs/{job(Kind.INFER).id}")
        confirm(page, "Replay")
        close(page)
        site.until(
            lambda: [j for j in views.jobs(database, kind=Kind.REPLAY) if j.state is State.DONE], "it is replayed"
        )
        page.goto(f"/jobs/{job(Kind.REPLAY).id}")
        expect(page.locator("main")).to_contain_text("the same, byte for byte")

        page.goto("/audit?actor=anna")
        for what in ("logged in", "viewed", "held by", "released by", "redelivery requested", "replay requested"):
            expect(page.locator("tbody")).to_contain_text(what)
        assert window.complaints == []
        window.close()

    archive, name = Archive.in_folder(site.folder / "data"), views.result_of(database, job(Kind.INFER).id)[0]
    result = archive.open_result(name)
    with archive.layers(name) as layers:
        info, frames = layers.info, layers.read_slice(shown)
    kept = np.frombuffer(frames, "<u2").reshape(len(info.layers), info.rows, info.columns)
    values = np.moveaxis(np.array(got), 2, 0)  # (layer, row, column)
    assert [layer.name for layer in info.layers] == ["zero_filled", "super_resolved", "reference", "expected_error"]
    for seen, stored, layer in zip(values, kept, info.layers, strict=True):
        assert np.allclose(seen, stored * layer.slope, rtol=1e-6)
        assert seen.max() > seen.min()
    targets = [dcmread(path) for path in files.t2]
    source = next(d for d in targets if np.allclose(d.ImagePositionPatient[2], result.positions[shown][2], atol=1e-3))
    assert values[0].mean() == pytest.approx(source.pixel_array.mean(), rel=0.02)  # zero-filling keeps the mean
    got = values[1]
    factor = intensity_factor(result.pixels)
    stored = stored_values(result.pixels[shown], factor)
    assert np.array_equal(np.array(got) * factor, stored)  # all pixels of the slice are those that the archive keeps
    sent = {tuple(map(float, d.ImagePositionPatient)): d.pixel_array for d in pacs.instances(files.study_uid)}
    there = next(image for place, image in sent.items() if np.allclose(place, result.positions[shown], atol=1e-3))
    assert np.array_equal(there, stored)  # and those that the PACS has
    database.dispose()
