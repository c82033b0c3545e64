"""Derived series compared with those that were kept: bytes first, then pixels and attributes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO

import numpy as np
from pydantic import BaseModel, ConfigDict
from pydicom import Dataset

from node.dicom.read import parse

SHOWN_ATTRIBUTES = (
    "DerivationDescription", "SeriesNumber", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "SliceThickness",
    "ImageOrientationPatient", "WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LargestImagePixelValue",
    "LossyImageCompression", "ImageType",
)  # fmt: skip
"""Attributes whose values are shown. The others may identify the patient, so only the fact that they differ is shown."""


class _Difference(BaseModel):
    model_config = ConfigDict(frozen=True)


class PixelDifference(_Difference):
    """How far the stored values of a series are from those kept, over all its pixels."""

    largest: float
    mean: float
    psnr_db: float | None
    """Against the largest value kept; None when there is no difference."""


class AttributeDifference(_Difference):
    """An attribute that differs, with its values where these can be no patient data."""

    name: str
    kept: str | None
    now: str | None


class SeriesComparison(_Difference):
    """A derived series compared, instance by instance, with the one that was kept."""

    kept_series_uid: str | None
    series_uid: str | None
    identical: int
    """Instances that are the same, byte for byte."""
    different: int
    only_kept: int
    only_now: int
    pixels: PixelDifference | None
    """None when all instances are identical, or have no pixels that can be compared."""
    attributes: tuple[AttributeDifference, ...]


def compare_instances(kept: Mapping[str, bytes], now: Mapping[str, bytes]) -> Iterator[SeriesComparison]:
    """Series by series: the Part 10 files of a study by SOP instance UID, kept and made now.

    Instances with the same UID belong together. The others are matched by their place in results of the same target.
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
        old, new = (None if content is None else parsed(content) for content in (before, after))
        old_uid, new_uid = (None if ds is None else str(ds.SeriesInstanceUID) for ds in (old, new))
        by_series[old_uid, new_uid].append((old, new, before == after))
    for (old_uid, new_uid), members in sorted(by_series.items(), key=lambda item: item[0][1] or ""):
        both = [(old, new) for old, new, same in members if old is not None and new is not None and not same]
        yield SeriesComparison(
            kept_series_uid=old_uid,
            series_uid=new_uid,
            identical=sum(same for _, _, same in members),
            different=len(both),
            only_kept=sum(new is None for _, new, _ in members),
            only_now=sum(old is None for old, _, _ in members),
            pixels=_pixels(both),
            attributes=tuple(_attributes(both)),
        )


def parsed(content: bytes) -> Dataset:
    return parse(BytesIO(content), stop_before_pixels=False)


def _by_number(contents: Iterable[bytes]) -> list[tuple[Dataset, bytes]]:
    """Parsed, in the order of their series numbers, so that reports, which name no target, are compared in that order."""
    return sorted(((parsed(c), c) for c in contents), key=lambda pair: int(pair[0].get("SeriesNumber") or 0))


def _place(ds: Dataset) -> tuple[str, ...]:
    """The role of an instance, whatever its UID: its SOP class, the target it was made from, its number."""
    series = ds.get("ReferencedSeriesSequence")
    target = str(series[0].SeriesInstanceUID) if series else ""
    return str(ds.SOPClassUID), target, str(ds.get("InstanceNumber"))


def _pixels(both: Sequence[tuple[Dataset, Dataset]]) -> PixelDifference | None:
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
    return PixelDifference(
        largest=float(max(d.max() for d in differences)),
        mean=float(np.mean([d.mean() for d in differences])),
        psnr_db=round(float(10 * np.log10(peak**2 / squared)), 2) if squared and peak else None,
    )


def _attributes(both: Sequence[tuple[Dataset, Dataset]]) -> Iterator[AttributeDifference]:
    """The attributes that differ in any of the instances, with the values of the first. Identifiers are left out, because
    they follow from all the rest."""
    found: dict[str, AttributeDifference] = {}
    for old, new in both:
        one, other = (str(ds.file_meta.get("TransferSyntaxUID")) for ds in (old, new))
        if one != other:
            syntax = AttributeDifference(name="TransferSyntaxUID", kept=one, now=other)
            found.setdefault(syntax.name, syntax)
        for name, (one, other) in _equipment(old, new).items():
            found.setdefault(name, AttributeDifference(name=name, kept=one, now=other))
        for tag in sorted({*old.keys(), *new.keys()}):
            a, b = old.get(tag), new.get(tag)
            if a == b or (a or b).VR in ("UI", "SQ", "OW", "OB"):
                continue
            name = (a or b).keyword
            kept, now = (str(e.value) if e is not None and name in SHOWN_ATTRIBUTES else None for e in (a, b))
            found.setdefault(name, AttributeDifference(name=name, kept=kept, now=now))
    yield from found.values()


def _equipment(old: Dataset, new: Dataset) -> dict[str, tuple[str, str]]:
    """The equipment that made the two, by name, with its software versions (for the model also the weights digest) where
    they differ."""
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
