"""A study once more: the same bytes from the same sources, and a difference that is said in numbers when it is not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from safetensors.torch import load_file, save_file

from diffmsr.manifest import default_weights_folder
from node.archive.facade import Archive
from node.config.settings import ModelSettings, OutputSettings, Settings
from node.errors import NotFoundError
from node.folder import read_folder
from node.offline import process_folder
from node.replay.compare import SeriesComparison
from node.replay.replay import Replay, replay_folder, replay_study
from node.replay.text import replay_lines
from node.tracker.database import Database
from tests.dicom import study, write


def other_weights(folder: Path) -> Path:
    """The shipped weights, a little off, under their own name and digest."""
    shutil.copytree(default_weights_folder(), folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.001 for name, tensor in tensors.items()}, folder / "model.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": "other"}))
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name, series in zip(("t2", "t1"), study(3), strict=True):
        write(series, folder / name)
    return folder


@pytest.fixture(scope="module")
def kept(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `process` made of it with the shipped weights."""
    folder = tmp_path_factory.mktemp("kept")
    (done,) = process_folder(read_folder(sources), folder, Settings(), lambda *_: None)
    assert done.state == "done"
    return folder


@pytest.fixture
def replayed(sources: Path, kept: Path, tmp_path: Path) -> Callable[[Settings], Replay]:
    def replayed(settings: Settings) -> Replay:
        (replay,) = replay_folder(read_folder(sources), kept, settings, tmp_path / "now", lambda *_: None)
        return replay

    return replayed


def images(replay: Replay) -> SeriesComparison:
    (series,) = (s for s in replay.series if s.identical + s.different == 3)
    return series


def test_the_same_sources_weights_and_settings_give_the_same_bytes(replayed: Callable[[Settings], Replay]) -> None:
    replay = replayed(Settings())
    assert replay.identical
    counts = [(s.identical, s.different, s.only_kept, s.only_now) for s in replay.series]
    assert sorted(counts) == [(1, 0, 0, 0), (3, 0, 0, 0)], "the report and the images"
    assert next(iter(replay_lines(replay))).endswith(": the same")


def test_other_weights_are_named_and_the_pixels_compared(
    replayed: Callable[[Settings], Replay], kept: Path, tmp_path: Path
) -> None:
    weights = other_weights(tmp_path / "weights")
    replay = replayed(Settings(model=ModelSettings(path=weights)))
    assert not replay.identical
    series = images(replay)
    assert (series.identical, series.different) == (0, 3)
    assert series.series_uid != series.kept_series_uid
    assert series.pixels is not None and series.pixels.psnr_db is not None
    old, new = (
        sorted(
            (d for d in map(dcmread, folder.rglob("*.dcm")) if d.Modality == "MR"), key=lambda d: int(d.InstanceNumber)
        )
        for folder in (kept, tmp_path / "now")
    )
    differences = [abs(a.pixel_array.astype(int) - b.pixel_array.astype(int)) for a, b in zip(old, new, strict=True)]
    assert series.pixels.largest == max(d.max() for d in differences) > 0
    assert series.pixels.mean == pytest.approx(sum(d.mean() for d in differences) / 3)
    said = {attribute.name: (attribute.kept, attribute.now) for attribute in series.attributes}
    manifest = json.loads((weights / "manifest.json").read_text())
    before, after = said[f"DiffMSR {manifest['name']}"]
    digest = manifest["sha256"]
    assert after == f"other\\{digest}" and before is not None and digest not in before
    assert "PatientName" not in said
    assert any("PSNR" in line for line in replay_lines(replay))


def test_another_setting_that_leaves_pixels_alone(replayed: Callable[[Settings], Replay]) -> None:
    replay = replayed(Settings(output=OutputSettings(series_description_prefix="SR:")))
    series = images(replay)
    assert series.different == 3
    assert series.pixels is not None and (series.pixels.largest, series.pixels.psnr_db) == (0, None)
    said = {attribute.name: attribute.now for attribute in series.attributes}
    assert said == {"SeriesDescription": None}, "that it differs, not what it says"


def test_what_is_missing_on_one_side_is_a_difference(sources: Path, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "kept")
    min((tmp_path / "kept").rglob("*.dcm")).unlink()
    (replay,) = replay_folder(read_folder(sources), tmp_path / "kept", Settings(), tmp_path / "now", lambda *_: None)
    assert not replay.identical
    assert sum(s.only_now for s in replay.series) == 1
    assert sum(s.identical for s in replay.series) == 3


def test_a_study_refused_then_and_now(sources: Path, tmp_path: Path) -> None:
    alone = read_folder(sources / "t2")
    (replay,) = replay_folder(alone, tmp_path, Settings(), tmp_path / "now", lambda *_: None)
    assert replay.identical
    assert "refused: No reference fits" in "\n".join(replay_lines(replay))


def test_without_anything_kept(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not a folder"):
        next(replay_folder(read_folder(sources), tmp_path / "no", Settings(), tmp_path / "now", lambda *_: None))
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    with pytest.raises(NotFoundError, match=r"1\.2\.3"):
        replay_study(database, Archive.in_folder(tmp_path), "1.2.3", Settings(), tmp_path / "now", lambda *_: None)
    database.dispose()
