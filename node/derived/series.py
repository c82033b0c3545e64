"""The derived series: everything that its instances share, whatever their SOP class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import highdicom
from highdicom import ContributingEquipment
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from node import __version__
from node.config.settings import OutputSettings
from node.derived.corrections import corrected
from node.derived.identifiers import derived_uid
from node.dicom.attributes import Attributes
from node.dicom.frames import frame_number, images_of
from node.dicom.stored_values import intensity_factor, shown_range
from node.errors import NotFoundError
from node.identity import MANUFACTURER, MODEL_NAME
from node.result import Result


@dataclass(frozen=True)
class DerivedSeries:
    """A result, the headers of its sources, and the attributes of the series that shows it."""

    result: Result
    sources: list[Dataset]
    """For each slice, the header of the target image."""
    references: list[list[Dataset]]
    """For each slice, the headers of the reference images that contributed to it."""
    uid: str
    number: int
    factor: float
    """Stored value over the sources' intensity."""
    shown: tuple[float, float]
    """Intensities of the sources that a window should show."""
    settings: OutputSettings
    software_version: str
    replaced: list[Dataset] = field(default_factory=list)
    """The headers of the delivered instances that this series replaces; empty when it is the first of its target."""
    corrections: list[str] = field(default_factory=list)
    """What was corrected or left out: the name of the attribute, and nothing of its value."""

    @property
    def header(self) -> Dataset:
        """The header of the first slice: patient, study and series attributes are taken from it alone."""
        return self.sources[0]

    @property
    def description(self) -> str:
        """The target's SeriesDescription; empty when it has none."""
        text = " ".join(Attributes(self.header).texts("SeriesDescription"))
        # U+FFFD stands where the declared character set did not decode; "?" is in every character set.
        return "".join(c for c in text.replace("\ufffd", "?") if c.isprintable() and c != "\\")

    def titled(self, middle: str = "", instead: str = "") -> str:
        """SeriesDescription of something derived (VR LO, 64 characters): the prefix, then `middle`, then the target's
        description or `instead`; and which series it replaces."""
        text = f"{self.settings.series_description_prefix}{middle}{self.description or instead}"
        if not self.replaced:
            return text[:64].strip()
        mark = f" (replaces {self.replaced_number})" if self.replaced_number is not None else " (replacement)"
        return text[: 64 - len(mark)].strip() + mark

    @property
    def replaced_number(self) -> int | None:
        """SeriesNumber of the series that this one replaces."""
        return Attributes(self.replaced[0]).integer("SeriesNumber") if self.replaced else None

    @property
    def replacement(self) -> str | None:
        """Which series this one replaces, as a sentence for the report; None when it replaces none."""
        if not self.replaced:
            return None
        number = "" if self.replaced_number is None else f" {self.replaced_number}"
        uid = self.replaced[0].get("SeriesInstanceUID", "")
        return f"This series replaces derived series{number} ({uid}), whose sources have changed since."

    @property
    def moment(self) -> tuple[str, str]:
        """Date and time of the content, for an object that requires a value: those of the target, never today's."""
        for kind in ("Content", "Acquisition", "Series", "Study"):
            date, time = (corrected(self.header, f"{kind}{what}", []) for what in ("Date", "Time"))
            if date is not None:
                return str(date.value), "000000" if time is None else str(time.value)
        return "19000101", "000000"

    @property
    def equipment(self) -> list[ContributingEquipment]:
        """The node and the model, as ContributingEquipmentSequence has them (PS3.3 C.12.1.1.5)."""
        result, processing = self.result, codes.DCM.ProcessingEquipment
        return [
            ContributingEquipment(
                MANUFACTURER, processing, manufacturer_model_name=MODEL_NAME,
                software_versions=[self.software_version], contribution_description="Resampling and encoding",
            ),
            ContributingEquipment(
                MANUFACTURER, processing, manufacturer_model_name=f"DiffMSR {result.model_name}"[:64],
                software_versions=[result.model_version, result.weights_sha256],
                contribution_description="Super-resolution model; software versions: model, SHA-256 of its weights",
            ),
        ]  # fmt: skip


class _ImageName(NamedTuple):
    """What names a source image; the frame is None in a single-frame instance."""

    sop_uid: str
    frame: int | None

    def __str__(self) -> str:
        return self.sop_uid if self.frame is None else f"{self.sop_uid} frame {self.frame}"

    @classmethod
    def of(cls, header: Dataset) -> "_ImageName":
        return cls(str(header.SOPInstanceUID), frame_number(header))


def derived_series(
    result: Result,
    headers: Iterable[Dataset],
    settings: OutputSettings,
    number: int,
    software_version: str = __version__,
    content: str = "",
    replaced: Iterable[Dataset] = (),
) -> DerivedSeries:
    """The series that will show `result`. `headers` are those of its source instances, in any order; pixel data is not
    read. `content` tells apart the results of instances that were corrected; `replaced` are headers of the series that this
    one replaces. Raises NotFoundError when the header of a source is missing."""
    sources = _names(result.source_uids, result.source_frames)
    references = [
        _names(uids, None if result.reference_frames is None else result.reference_frames[i])
        for i, uids in enumerate(result.reference_uids)
    ]
    by_name = {_ImageName.of(image): image for header in headers for image in images_of(header)}
    missing = {str(name) for names in (sources, *references) for name in names if name not in by_name}
    if missing:
        raise NotFoundError(f"the header of source instance {min(missing)} is missing; {len(missing)} in all")
    # The last part is empty for what was never corrected, as versions before had it.
    uid = derived_uid(
        *map(str, sources), *(",".join(map(str, names)) for names in references), result.weights_sha256,
        *(f"{key}={value}" for key, value in sorted(result.parameters.items())), settings.model_dump_json(), str(number),
        software_version, highdicom.__version__, content,
    )  # fmt: skip
    return DerivedSeries(
        result=result,
        sources=[by_name[name] for name in sources],
        references=[[by_name[name] for name in names] for names in references],
        uid=uid,
        number=number,
        factor=intensity_factor(result.pixels),
        shown=shown_range(result.pixels),
        settings=settings,
        software_version=software_version,
        replaced=list(replaced),
    )


def _names(sop_uids: Sequence[str], frames: Sequence[int] | None) -> list[_ImageName]:
    return [_ImageName(uid, frames[i] if frames else None) for i, uid in enumerate(sop_uids)]
