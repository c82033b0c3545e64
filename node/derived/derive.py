"""The derive stage as one function: a result and the headers of its study in, DICOM instances and a page out. It reads and
writes nothing, and every caller gets the same bytes for the same result."""

from node.config.settings import Settings
from node.derived.encode import Encoded, encode
from node.derived.identifiers import series_number
from node.derived.sources import Sources
from node.result import Result


def derive(result: Result, sources: Sources, settings: Settings) -> Encoded:
    """Encode a result as a derived series, with its report and page. NotFoundError when the header of a source is missing."""
    number = series_number(
        sources.request, sources.requests, sources.series, settings.output.series_number_offset
    )  # fmt: skip
    return encode(
        result, sources.headers, settings.output, settings.report, number,
        content=sources.request.content, replaced=sources.replaced,
    )  # fmt: skip
