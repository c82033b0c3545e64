"""The derive stage: encode a result as DICOM instances and a page, once for all destinations."""

import structlog
from pydicom import Dataset
from pydicom.uid import LegacyConvertedEnhancedMRImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from node.archive.facade import Archive
from node.archive.index import DerivedInstance
from node.config.settings import Settings
from node.derived.sources import Sources
from node.errors import LostError
from node.payloads import DeriveRequest, DeriveResult, PairRequest
from node.tracker import instances, steps, views
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, Missing, Outcome
from node.tracker.worker import Handler, Lease

log = structlog.get_logger()

IMAGES = frozenset({MRImageStorage, SecondaryCaptureImageStorage, LegacyConvertedEnhancedMRImageStorage})
"""What the images of a result are derived as."""


def make_derive_handler(tracker: Tracker, archive: Archive, settings: Settings) -> Handler:
    """The derive stage as a function of a lease: a result from the archive in, instances and page into the archive, one
    deliver job per destination that wants results of its grade. With `[report] hold`, deliveries of a result graded not usable start held.

    What was derived is kept as it is, whatever the configuration says now, so that all destinations get the same.
    """

    def derive_result(lease: Lease) -> Outcome:
        asked = DeriveRequest.model_validate(lease.claim.payload)
        kept = _kept(archive, asked.result)
        if kept is None:
            try:
                result = archive.open_result(asked.result)
            except LostError as error:
                return Missing(str(error), steps.infer_job(asked.result, asked.request, settings.model.max_attempts))
            from node.derived.derive import derive  # here, because it loads highdicom, which a start need not wait for

            derived = derive(result, gather_sources(tracker, archive, asked.request), settings)
            for correction in derived.corrections:
                log.warning("derived.source_corrected", study=asked.request.study_uid, reason=correction)
            lease.check()
            kept = archive.put_derived(asked.result, derived.files(), derived.page, derived.codes)
        measured = archive.measured(asked.result)
        quality = measured.quality
        usable = quality is None or quality.usable
        codes = measured.codes | archive.derived_codes(asked.result)
        hold = quality.doubts if quality is not None and settings.report.hold else None
        deliveries = tuple(
            steps.deliver_job(
                asked.result,
                asked.request,
                destination.name,
                destination.max_attempts,
                held=hold,
            )
            for destination in settings.destinations
            if destination.wants(usable, codes)
        )
        sentence = f"{len(kept)} instances derived"
        grade = "usable" if usable else "not usable"
        carrying = f" with {', '.join(sorted(codes)) or 'no warning'}"
        reason = f"wants results graded {grade}{carrying}" if settings.destinations else "is configured"
        where = "" if deliveries else f"; they stay here, because no [[destinations]] {reason}"
        return Done(f"{sentence}{where}", DeriveResult(instances=len(kept), sentence=f"{sentence}{where}"), deliveries)

    return derive_result


def _kept(archive: Archive, name: str) -> list[DerivedInstance] | None:
    """What an earlier attempt derived; None when there is nothing, or a part of it is lost and all has to be made again."""
    try:
        kept = archive.derived(name)
    except LostError as error:
        log.warning("derived.index_damaged", result=name, reason=str(error))
        return None
    intact = kept is not None and all(archive.derived_instance(d.key, d.sha256).is_intact() for d in kept)
    return kept if intact else None


def gather_sources(tracker: Tracker, archive: Archive, request: PairRequest) -> Sources:
    """What is kept of the study of a pair: the headers of its instances and one of each series, and all its requests."""
    received = instances.of_study(tracker, archive, request.study_uid)
    of_pair = dict.fromkeys((*request.target.sop_uids, *request.reference.sop_uids))
    return Sources(
        request=request,
        requests=views.requests(tracker.database, request.study_uid),
        headers=[received[sop_uid].read_header() for sop_uid in of_pair],
        replaced=_replaced(archive, request.replaces),
        series=list(instances.one_header_of_each_series(tracker, archive, request.study_uid).values()),
    )


def _replaced(archive: Archive, name: str | None) -> list[Dataset]:
    """The headers of the images that were derived from the result of that name; none where they are lost."""
    if name is None:
        return []
    try:
        made = archive.derived(name) or []
        headers = [archive.derived_instance(one.key, one.sha256).read_header() for one in made]
    except LostError as error:
        log.warning("derived.replaced_lost", result=name, reason=str(error))
        return []
    return [header for header in headers if header.SOPClassUID in IMAGES]
