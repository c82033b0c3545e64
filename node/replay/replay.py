"""A study once more, held against what was kept of it: the same verdict, and the same bytes?

Sources, tracker and archive are only read; what is made anew goes to a folder of its own, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from node.archive.facade import Archive
from node.config.settings import Settings
from node.derived.derive import Sources, derive
from node.dicom.read import parse
from node.errors import NotFoundError
from node.offline import Folder, Processed, explain_folder, process_folder, read_files
from node.payloads import PairRequest
from node.tracker import views
from node.tracker.database import Database
from node.tracker.states import Kind

Progress = Callable[[str, int, int], None]

_SHOWN = (
    "DerivationDescription", "SeriesNumber", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "SliceThickness",
    "ImageOrientationPatient", "WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LargestImagePixelValue",
    "LossyImageCompression", "ImageType",
)  # fmt: skip
"""Attributes whose values are told. Of the others only that they differ: they may say who the patient is."""


@dataclass(frozen=True)
class Answer:
    """How a question of the matching was answered then and now; None where it was not asked."""

    where: str
    question: str
    kept: dict[str, Any] | None
    now: dict[str, Any] | None


@dataclass(frozen=True)
class Outcome:
    """What became of a pair of series: then, by the tracker; now, by this run."""

    target_series_uid: str | None
    reference_series_uid: str | None
    kept: str | None
    now: str | None


@dataclass(frozen=True)
class Pixels:
    """How far the stored values of a series lie from those kept, over all its pixels."""

    largest: float
    mean: float
    psnr_db: float | None
    """Against the largest value kept; None when there is no difference."""


@dataclass(frozen=True)
class Attribute:
    """An attribute that differs, with its values where these can be no patient data."""

    name: str
    kept: str | None
    now: str | None


@dataclass(frozen=True)
class Series:
    """A derived series, instance by instance beside the one that was kept."""

    kept_series_uid: str | None
    series_uid: str | None
    identical: int
    """Instances that are the same, byte for byte."""
    different: int
    only_kept: int
    only_now: int
    pixels: Pixels | None
    """None when all instances are identical, or have no pixels that can be compared."""
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True)
class Replay:
    """One study."""

    study_uid: str
    sentence: str
    """What became of it now."""
    answers: tuple[Answer, ...]
    outcomes: tuple[Outcome, ...]
    series: tuple[Series, ...]

    @property
    def identical(self) -> bool:
        return (
            not self.answers
            and all(outcome.kept == outcome.now for outcome in self.outcomes)
            and not any(s.different or s.only_kept or s.only_now for s in self.series)
        )

    def to_json(self) -> dict[str, Any]:
        return {"study_uid": self.study_uid, "identical": self.identical, "sentence": self.sentence} | {
            name: [asdict(item) for item in getattr(self, name)] for name in ("answers", "outcomes", "series")
        }


def replay_study(
    database: Database, archive: Archive, study_uid: str, settings: Settings, output: Path, progress: Progress
) -> Replay:
    """Match and process the study as received, with these settings, and compare. NotFoundError when the study is unknown,
    or was not matched yet."""
    sources = read_files(sorted(map(Path, views.instance_paths(database, study_uid).values())))
    kept_verdict = views.verdict(database, study_uid)
    (verdict,) = explain_folder(sources, settings)
    made = views.requests(database, study_uid)
    jobs = [views.job(database, row["id"]) for row in views.jobs(database, kind=Kind.INFER, study_uid=study_uid)]
    jobs = [job for job in jobs if job["state"] != "cancelled"]
    kept: dict[str, bytes] = {}
    for job in jobs:
        kept |= _kept(archive, job["key"], PairRequest.model_validate(job["payload"]), made, sources, settings)
    done = list(process_folder(sources, output, settings, progress, made))
    return Replay(
        study_uid=study_uid,
        sentence=" ".join(f"{p.state}: {p.sentence}" for p in done),
        answers=tuple(_answers(kept_verdict, verdict.to_json())),
        outcomes=tuple(_outcomes(jobs, done)),
        series=tuple(compare(kept, _files(output / study_uid))),
    )


def replay_folder(
    sources: Folder, against: Path, settings: Settings, output: Path, progress: Progress
) -> Iterator[Replay]:
    """The same for every study of a folder, with what an earlier `process` left in the folder `against`, where there is
    no verdict to compare."""
    if not against.is_dir():
        raise NotFoundError(f"{against} is not a folder")
    done = list(process_folder(sources, output, settings, progress))
    for study_uid in sources.headers:
        series = compare(_files(against / study_uid), _files(output / study_uid))
        sentence = " ".join(f"{p.state}: {p.sentence}" for p in done if p.study_uid == study_uid)
        yield Replay(study_uid, sentence, (), (), tuple(series))


def compare(kept: Mapping[str, bytes], now: Mapping[str, bytes]) -> Iterator[Series]:
    """Series by series: the Part 10 files of a study by SOP instance UID, kept and made now.

    Instances of one UID belong together, and of the others those at the same place in results of the same target.
    """
    pairs: list[tuple[bytes | None, bytes | None]] = [(kept[uid], now[uid]) for uid in now if uid in kept]
    left = defaultdict[tuple[str, ...], list[bytes]](list)
    for ds, content in _by_number(content for uid, content in kept.items() if uid not in now):
        left[_place(ds)].append(content)
    for ds, content in _by_number(content for uid, content in now.items() if uid not in kept):
        match = left[_place(ds)]
        pairs.append((match.pop(0) if match else None, content))
    pairs += [(content, None) for contents in left.values() for content in contents]

    by_series = defaultdict[tuple[str | None, str | None], list[tuple[Dataset | None, Dataset | None, bool]]](list)
    for before, after in pairs:
        old, new = (None if content is None else _parsed(content) for content in (before, after))
        old_uid, new_uid = (None if ds is None else str(ds.SeriesInstanceUID) for ds in (old, new))
        by_series[old_uid, new_uid].append((old, new, before == after))
    for (old_uid, new_uid), members in sorted(by_series.items(), key=lambda item: item[0][1] or ""):
        both = [(old, new) for old, new, same in members if old is not None and new is not None and not same]
        yield Series(
            kept_series_uid=old_uid,
            series_uid=new_uid,
            identical=sum(same for _, _, same in members),
            different=len(both),
            only_kept=sum(new is None for _, new, _ in members),
            only_now=sum(old is None for old, _, _ in members),
            pixels=_pixels(both),
            attributes=tuple(_attributes(both)),
        )


def lines(replay: Replay) -> Iterator[str]:
    """A replay in plain lines, the conclusion first."""
    yield f"Study {replay.study_uid}: {'the same' if replay.identical else 'different'}"
    yield f"  {replay.sentence}"
    for answer in replay.answers:
        yield f"  {answer.where}, {answer.question}: then {_said(answer.kept)}; now {_said(answer.now)}"
    for outcome in replay.outcomes:
        pair = f"series {outcome.target_series_uid} guided by {outcome.reference_series_uid}"
        if outcome.kept == outcome.now:
            yield f"  {pair}: {outcome.now}, as then"
        else:
            yield f"  {pair}: then {outcome.kept or 'not asked for'}; now {outcome.now or 'not asked for'}"
    for series in replay.series:
        yield f"  derived series {series.series_uid or series.kept_series_uid}: {_counted(series)}"
        if series.pixels is not None:
            psnr = "the same" if series.pixels.psnr_db is None else f"PSNR {series.pixels.psnr_db:.2f} dB"
            yield f"    pixels: largest difference {series.pixels.largest:g}, mean {series.pixels.mean:.4g}, {psnr}"
        for attribute in series.attributes:
            values = "" if attribute.kept == attribute.now else f": then {attribute.kept}; now {attribute.now}"
            yield f"    {attribute.name} differs{values}"


def _said(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "not asked"
    numbers = [
        f"{word} {answer[key]}"
        for word, key in (("found", "value"), ("limit", "threshold"))
        if answer.get(key) is not None
    ]
    code = f" {answer['code']}" if answer.get("code") else ""
    return f"{answer['outcome']}{code}" + (f" ({'; '.join(numbers)})" if numbers else "")


def _counted(series: Series) -> str:
    counts = [
        (series.identical, "the same byte for byte"),
        (series.different, "different"),
        (series.only_kept, "only kept, not made again"),
        (series.only_now, "made now, not kept"),
    ]
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _kept(
    archive: Archive, key: str, request: PairRequest, made: Sequence[PairRequest], sources: Folder, settings: Settings
) -> dict[str, bytes]:
    """The derived instances of a result; encoded now when only the volume was kept, because nobody was to be sent it."""
    paths = archive.derived(key)
    if paths is not None:
        return {uid: path.read_bytes() for uid, path in paths.items()}
    if not archive.has_result(key):
        return {}
    headers = sources.headers[request.study_uid]
    return dict(derive(archive.open_result(key), Sources(request, made, headers, headers), settings).files)


def _files(folder: Path) -> dict[str, bytes]:
    contents = (path.read_bytes() for path in sorted(folder.rglob("*.dcm")))
    return {str(_parsed(content).SOPInstanceUID): content for content in contents}


def _parsed(content: bytes) -> Dataset:
    return parse(BytesIO(content), stop_before_pixels=False)


def _by_number(contents: Iterable[bytes]) -> list[tuple[Dataset, bytes]]:
    """Parsed, in the order of their series: so reports, which name no target, meet those of the same one."""
    return sorted(((_parsed(c), c) for c in contents), key=lambda pair: int(pair[0].get("SeriesNumber") or 0))


def _place(ds: Dataset) -> tuple[str, ...]:
    """What an instance stands for, whatever its UID: its class, the target it was made of, its number."""
    series = ds.get("ReferencedSeriesSequence")
    target = str(series[0].SeriesInstanceUID) if series else ""
    return str(ds.SOPClassUID), target, str(ds.get("InstanceNumber"))


def _answers(kept: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Answer]:
    before, after = _asked(kept), _asked(now)
    for where, question in dict.fromkeys([*before, *after]):
        one, other = before.get((where, question)), after.get((where, question))
        if one != other:
            yield Answer(where, question, one, other)


def _asked(verdict: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every question of a verdict with its answer, by where it was asked."""
    model = verdict["model"]
    asked: dict[tuple[str, str], dict[str, Any]] = {
        ("study", "outcome"): {"outcome": verdict["outcome"], "code": verdict["code"]},
        ("study", "model"): {"outcome": f"{model['name']} {model['version']}"},
    }
    for stack in verdict["stacks"]:
        asked[stack["label"], "used as"] = {"outcome": stack["role"]}
    places = [(stack["label"], stack) for stack in verdict["stacks"]]
    places += [(f"{pair['target']} guided by {pair['reference']}", pair) for pair in verdict["pairs"]]
    for where, place in places:
        for p in place["predicates"]:
            asked[where, p["name"]] = {key: p[key] for key in ("outcome", "code", "value", "threshold")}
    for target in verdict["targets"]:
        asked[target["target"], "guided by"] = {"outcome": target["reference"] or "nothing"}
    return asked


def _outcomes(jobs: Sequence[Mapping[str, Any]], done: Sequence[Processed]) -> Iterator[Outcome]:
    """Then and now of every pair; the latest job speaks for a pair that was worked on several times."""
    before = {(j["target_series_uid"], j["reference_series_uid"]): _ended(j["state"], j["error"]) for j in jobs}
    after = {
        (p.target_series_uid, p.reference_series_uid): _ended(
            p.state, f"{p.code}: {p.sentence}" if p.code else p.sentence
        )
        for p in done
        if p.target_series_uid is not None
    }
    for pair in dict.fromkeys([*before, *after]):
        yield Outcome(*pair, before.get(pair), after.get(pair))


def _ended(state: str, says: str | None) -> str:
    return f"{state}, {says}" if says and state != "done" else state


def _pixels(both: Sequence[tuple[Dataset, Dataset]]) -> Pixels | None:
    differences, peak = [], 0.0
    for old, new in both:
        if "PixelData" not in old or "PixelData" not in new:
            continue
        before, after = (ds.pixel_array.astype(np.float64) for ds in (old, new))
        if before.shape != after.shape:
            return None
        differences.append(np.abs(after - before))
        peak = max(peak, float(before.max()))
    if not differences:
        return None
    squared = float(np.mean([np.mean(d**2) for d in differences]))
    return Pixels(
        largest=float(max(d.max() for d in differences)),
        mean=float(np.mean([d.mean() for d in differences])),
        psnr_db=round(float(10 * np.log10(peak**2 / squared)), 2) if squared and peak else None,
    )


def _attributes(both: Sequence[tuple[Dataset, Dataset]]) -> Iterator[Attribute]:
    """The attributes that differ in any of the instances, with the values of the first; of identifiers, which follow from
    all the rest, nothing is said."""
    found: dict[str, Attribute] = {}
    for old, new in both:
        for name in ("TransferSyntaxUID",):
            one, other = (ds.file_meta.get(name) for ds in (old, new))
            if one != other:
                found.setdefault(name, Attribute(name, str(one), str(other)))
        for name, (one, other) in _equipment(old, new).items():
            found.setdefault(name, Attribute(name, one, other))
        for tag in sorted({*old.keys(), *new.keys()}):
            a, b = old.get(tag), new.get(tag)
            if a == b or (a or b).VR in ("UI", "SQ", "OW", "OB"):
                continue
            name = (a or b).keyword
            values = [None if e is None else str(e.value) for e in (a, b)] if name in _SHOWN else [None, None]
            found.setdefault(name, Attribute(name, *values))
    yield from found.values()


def _equipment(old: Dataset, new: Dataset) -> dict[str, tuple[str, str]]:
    """What made the two, by its name, with software versions (of the model: of its weights too) where they differ."""
    before, after = (
        {
            str(item.get("ManufacturerModelName")): "\\".join(np.atleast_1d(item.get("SoftwareVersions") or ""))
            for item in ds.get("ContributingEquipmentSequence") or ()
        }
        for ds in (old, new)
    )
    return {
        name: (before.get(name, "not used"), after.get(name, "not used"))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }
