"""The entry to encoding: a result and the headers of its sources in, DICOM instances and an HTML report out.

The same result and headers give the same bytes on any day (docs/adr/0002): dates come from the sources, nothing contains
the time of encoding, and identifiers are derived from everything that determines the content.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from node import __version__
from node.config.settings import OutputSettings, ReportSettings
from node.derived.files import Files
from node.derived.findings import ATTRIBUTES_CORRECTED, findings
from node.derived.legacy_enhanced import legacy_enhanced_image
from node.derived.mr import mr_images
from node.derived.page import html_page
from node.derived.parametric_map import parametric_map
from node.derived.presentation_state import presentation_state
from node.derived.rejection import rejection_note
from node.derived.report import sr_report
from node.derived.secondary_capture import secondary_captures
from node.derived.series import DerivedSeries, derived_series
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES, recode
from node.result import Result


@dataclass(frozen=True)
class Encoded:
    """The derived instances of a result, and its report as a page."""

    images: list[Dataset]
    documents: list[Dataset]
    """What accompanies the images: the presentation state, the trust map, the report, the note that rejects what they replace."""
    page: str
    """The report as HTML."""
    corrections: list[str]
    """What was corrected or left out of defective sources: the name of the attribute, and nothing of its value."""

    @property
    def codes(self) -> frozenset[str]:
        """The codes of the warnings that encoding gave, beside those of the result."""
        return frozenset({ATTRIBUTES_CORRECTED} if self.corrections else ())

    @property
    def instances(self) -> list[Dataset]:
        """In the order of sending."""
        return [*self.images, *self.documents]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """(SOP instance UID, Part 10 file) of each instance, in the order of sending; each is made when it is asked for."""
        files = Files()
        return ((str(instance.SOPInstanceUID), files.file(instance)) for instance in self.instances)


def encode(
    result: Result,
    headers: Iterable[Dataset],
    output: OutputSettings,
    report: ReportSettings,
    series_number: int,
    *,
    software_version: str = __version__,
    content: str = "",
    replaced: Sequence[Dataset] = (),
) -> Encoded:
    """Encode `result` as one derived series of its target's study, and the report on it as another.

    `headers` are those of the source instances of target and reference, in any order, with file meta information where
    it exists; pixel data is not read. `content` tells apart the results of instances that were corrected; `replaced` are the
    headers of the delivered instances that these replace. Raises NotFoundError when the header of a source is missing.
    """
    series = derived_series(result, headers, output, series_number, software_version, content, replaced)
    images = _images(series)
    found = findings(series, report)
    documents = [presentation_state(series, images)] if output.presentation_state else []
    if output.parametric_map and result.expected_error is not None:
        documents.append(parametric_map(series, images, result.expected_error))
    if report.sop_class != "none":
        documents.append(sr_report(series, images, found, report.sop_class))
    if output.rejection_note != "none" and series.replaced:
        documents.append(rejection_note(series, output.rejection_note))
    syntax = TRANSFER_SYNTAXES[output.transfer_syntax]
    return Encoded(
        images=[recode(image, syntax) for image in images],
        documents=[recode(document, syntax) for document in documents],
        page=html_page(series, found),
        corrections=list(dict.fromkeys(series.corrections)),
    )


def _images(series: DerivedSeries) -> list[Dataset]:
    match series.settings.sop_class:
        case "mr":
            return mr_images(series)
        case "sc":
            return secondary_captures(series)
        case "legacy_enhanced":
            return [legacy_enhanced_image(series)]
