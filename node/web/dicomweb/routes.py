"""The addresses of the service (PS3.18 10.1.2), below /dicom-web."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydicom import Dataset
from starlette.exceptions import HTTPException

from node.errors import DamagedFileError, NotFoundError
from node.web.access import from_proxy
from node.web.dicomweb.contents import Entry, Place, entries
from node.web.dicomweb.frames import OCTETS, frames, media_type
from node.web.dicomweb.model import PIXEL_DATA, metadata, tag_of, to_json
from node.web.dicomweb.multipart import Part, multipart
from node.web.dicomweb.negotiation import choose, require
from node.web.dicomweb.query import read_query
from node.web.dicomweb.readers import AllReaders, Reader
from node.web.dicomweb.rendered import FORMATS, render, rendering
from node.web.dicomweb.search import KNOWN, QueryLevel, search
from node.web.site import CurrentSite

PREFIX = "/dicom-web"
JSON, DICOM = "application/dicom+json", "application/dicom"
LARGEST_PAGE = 200
"""Answers to one search; a client asks for the next with `offset`."""
MOST_OF_A_STUDY = 10_000
"""Answers to one search within a study."""

router = APIRouter(prefix=PREFIX)

STUDY = "/studies/{study_uid}"
SERIES = STUDY + "/series/{series_uid}"
INSTANCE = SERIES + "/instances/{sop_uid}"


def _root(request: Request, site: CurrentSite) -> str:
    """The address of the service, as the client knows it. Some leave the port out of the Host header; behind a proxy that
    is right."""
    url = request.base_url
    if url.port is None and not from_proxy(request, site):
        url = url.replace(port=site.settings.web.port)
    return f"{str(url).rstrip('/')}{PREFIX}"


Root = Annotated[str, Depends(_root)]


def _place(study_uid: str, series_uid: str | None = None, sop_uid: str | None = None) -> Place:
    try:
        return Place(study_uid, series_uid, sop_uid)
    except ValueError:
        raise HTTPException(400, "a UID in the address is malformed") from None


Where = Annotated[Place, Depends(_place)]


# ---------------------------------------------------------------------- QIDO-RS


def _answer(
    request: Request, site: CurrentSite, reader: Reader, readers: AllReaders, level: QueryLevel, within: Place | None
) -> Response:
    choose(request, (JSON, "application/json"))  # which is the same to most clients
    query = read_query(request.query_params.multi_items(), KNOWN[level])
    largest = LARGEST_PAGE if within is None else MOST_OF_A_STUDY
    limit = largest if query.limit is None else min(query.limit, largest)
    found = search(site, level, within, query, limit, _root(request, site))
    readers.searched(reader.user.name, len(found))
    warnings = []
    if query.fuzzy:
        warnings.append('299 diffmsr-node: "fuzzymatching is not supported: only literal matching was done"')
    if len(found) == limit == largest:
        warnings.append('299 diffmsr-node: "there may be more answers, which can be requested with offset"')
    headers = {"Warning": ", ".join(warnings)} if warnings else {}
    return JSONResponse([to_json(answer) for answer in found], headers=headers, media_type=JSON)


@router.get("/studies")
def search_studies(request: Request, site: CurrentSite, reader: Reader, readers: AllReaders) -> Response:
    return _answer(request, site, reader, readers, QueryLevel.STUDY, None)


@router.get("/series")
def search_series(request: Request, site: CurrentSite, reader: Reader, readers: AllReaders) -> Response:
    return _answer(request, site, reader, readers, QueryLevel.SERIES, None)


@router.get("/instances")
def search_instances(request: Request, site: CurrentSite, reader: Reader, readers: AllReaders) -> Response:
    return _answer(request, site, reader, readers, QueryLevel.INSTANCE, None)


@router.get(STUDY + "/series")
def search_series_of(
    request: Request, site: CurrentSite, reader: Reader, readers: AllReaders, where: Where
) -> Response:
    return _answer(request, site, reader, readers, QueryLevel.SERIES, where)


@router.get(STUDY + "/instances")
@router.get(SERIES + "/instances")
def search_instances_of(
    request: Request, site: CurrentSite, reader: Reader, readers: AllReaders, where: Where
) -> Response:
    return _answer(request, site, reader, readers, QueryLevel.INSTANCE, where)


# ---------------------------------------------------------------------- WADO-RS


def _kept(site: CurrentSite, reader: Reader, readers: AllReaders, where: Where) -> list[Entry]:
    """What is at the place that a request names; the audit trail says who read it."""
    found = entries(site, where)
    readers.viewed(reader.user.name, where.study_uid)
    return found


Kept = Annotated[list[Entry], Depends(_kept)]


@router.get(STUDY + "/metadata")
@router.get(SERIES + "/metadata")
@router.get(INSTANCE + "/metadata")
def retrieve_metadata(request: Request, kept: Kept, root: Root) -> Response:
    """What instances say about themselves."""
    choose(request, (JSON, "application/json"))  # which is the same to most clients
    return JSONResponse([metadata(entry, root) for entry in kept], media_type=JSON)


@router.get(STUDY)
@router.get(SERIES)
@router.get(INSTANCE)
def retrieve(request: Request, kept: Kept) -> Response:
    """Instances as they are stored, as parts of one answer; a single one as a file, when the client takes that."""
    alternatives = [require(request, DICOM, entry.transfer_syntax_uid) for entry in kept]
    if len(kept) == 1 and not alternatives[0].multipart and alternatives[0].media_type == DICOM:
        return Response(kept[0].stored.content(), media_type=DICOM)

    def parts() -> Iterator[Part]:
        for entry in kept:
            yield f"{DICOM}; transfer-syntax={entry.transfer_syntax_uid}", entry.stored.content()

    return multipart(DICOM, parts())


@router.get(INSTANCE + "/frames/{numbers}")
def retrieve_frames(request: Request, kept: Kept, numbers: str) -> Response:
    """Frames in the transfer syntax in which they are stored, by their numbers from 1."""
    wanted = _numbers(numbers)
    kind, syntax = media_type(kept[0].transfer_syntax_uid)
    require(request, kind, syntax)
    content = list(frames(_instance(kept[0]), wanted))
    return multipart(kind, ((f"{kind}; transfer-syntax={syntax}", frame) for frame in content))


@router.get(INSTANCE + "/bulkdata/{tag}")
def retrieve_bulk_data(request: Request, kept: Kept, tag: str) -> Response:
    """A long value that the metadata left out. Of pixel data, all frames."""
    try:
        wanted = tag_of(tag)
    except ValueError:
        raise HTTPException(400, "the tag in the address is malformed") from None
    instance = _instance(kept[0])
    if wanted == PIXEL_DATA:
        kind, syntax = media_type(kept[0].transfer_syntax_uid)
        require(request, kind, syntax)
        return multipart(kind, ((f"{kind}; transfer-syntax={syntax}", frame) for frame in list(frames(instance))))
    if wanted not in instance or not isinstance(instance[wanted].value, bytes):
        raise NotFoundError("the instance has no such value")
    require(request, OCTETS)
    return multipart(OCTETS, [(OCTETS, instance[wanted].value)])


@router.get(INSTANCE + "/rendered")
@router.get(INSTANCE + "/frames/{numbers}/rendered")
def retrieve_rendered(request: Request, kept: Kept, numbers: str = "1") -> Response:
    """A frame as an image for people: JPEG, or PNG."""
    number, *more = _numbers(numbers)
    if more:
        raise HTTPException(400, "one frame at a time can be rendered")
    kind = choose(request, FORMATS)
    return Response(render(_instance(kept[0]), number, rendering(kind, request.query_params)), media_type=kind)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise HTTPException(400, "frames are numbers, separated by commas") from None
    if not all(0 < number < 1 << 31 for number in numbers):
        raise HTTPException(400, "frames are numbered from 1")
    return numbers


def _instance(entry: Entry) -> Dataset:
    try:
        return entry.stored.read_instance()
    except DamagedFileError:
        raise HTTPException(406, "the instance cannot be read; it is kept as it was received") from None
