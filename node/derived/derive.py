"""The derive stage as one function: a result and the headers of its study in, DICOM instances and a page out. It reads and
writes nothing, and every caller gets the same bytes for the same result."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from node.config.settings import Settings
from node.derived.encode import Encoded, encode
from node.derived.identifiers import series_number
from node.payloads import PairRequest
from node.result import Result


@dataclass(frozen=True)
class Sources:
    """The sources of a result, and everything else of its study that decides its series number."""

    request: PairRequest
    """The pair from which the result was made."""
    requests: Sequence[PairRequest]
    """Every pair of the study that was ever requested, oldest first: each keeps its series number."""
    headers: Sequence[Dataset]
    """At least those of the pair's instances, in any order, without pixels."""
    series: Sequence[Dataset]
    """At least one header of each series of the study: their numbers are taken."""
    replaced: Sequence[Dataset] = ()
    """Headers of the derived instances that the request replaces."""


def derive(result: Result, sources: Sources, settings: Settings) -> Encoded:
    """Encode a result as a derived series, with its report and page. NotFoundError when the header of a source is missing."""
    number = series_number(
        sources.request, sources.requests, sources.series, settings.output.series_number_offset
    )  # fmt: skip
    return encode(
        result, sources.headers, settings.output, settings.report, number,
        content=sources.request.content, replaced=sources.replaced,
    )  # fmt: skip
