"""The DICOM conformance statement (PS3.2), generated from the tables that the code runs on: presentation contexts,
status codes, settings, and the derived objects themselves. `docs/conformance.md` is what this prints for the defaults."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python
from pydicom import Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from node import __version__
from node.config.settings import (
    CompletionSettings,
    DestinationSettings,
    FetchSettings,
    OutputSettings,
    ReportSettings,
    SCPSettings,
    Settings,
    SourceSettings,
)
from node.deliver.commitment_scu import SAME_ASSOCIATION_S
from node.deliver.scu import ECHO_CONTEXTS, storage_contexts
from node.derived import attributes
from node.derived.encode import Encoded, encode
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES
from node.dimse import commitment_messages, status
from node.dimse.associations import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dimse.query import FIND_CONTEXTS
from node.dimse.status import Answer, Meaning
from node.receive.commitment_scp import ATTEMPTS, GRACE_S
from node.receive.contexts import supported_contexts
from node.receive.fetch import GET, GET_CONTEXTS, MOVE_CONTEXTS, RETURN_KEYS
from node.receive.store import IDENTIFYING_TAGS
from node.result import Result

SCHEMA = 1

ANSWERS: tuple[tuple[str, type[Answer]], ...] = (
    ("C-ECHO", status.EchoStatus),
    ("C-STORE", status.StoreStatus),
    ("N-ACTION (storage commitment)", status.ActionStatus),
    ("Failure reasons in the N-EVENT-REPORT we send", status.FailureReason),
    ("N-EVENT-REPORT (storage commitment)", status.EventStatus),
)
UNDERSTOOD: tuple[tuple[str, tuple[Meaning, ...]], ...] = (
    ("C-ECHO", status.C_ECHO),
    ("C-STORE", status.C_STORE),
    ("N-ACTION (storage commitment)", status.N_ACTION),
    ("Failure reasons in the N-EVENT-REPORT we receive", status.FAILURE_REASON),
    ("N-EVENT-REPORT (storage commitment)", status.N_EVENT_REPORT),
    ("C-FIND", status.C_FIND),
    ("C-GET", status.C_GET),
    ("C-MOVE", status.C_MOVE),
)
COPIED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Patient", attributes.PATIENT),
    ("Clinical Trial", attributes.CLINICAL_TRIAL),
    ("Study", attributes.STUDY),
    ("De-identification", attributes.DEIDENTIFICATION),
    ("Series, Frame of Reference", attributes.SERIES),
    ("Acquisition, Image Plane", attributes.ACQUISITION),
    ("Contrast/Bolus", attributes.CONTRAST),
    ("MR Image", attributes.MR),
)
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[scp]", SCPSettings),
    ("[[sources]]", SourceSettings),
    ("[[destinations]]", DestinationSettings),
    ("[fetch]", FetchSettings),
    ("[completion]", CompletionSettings),
    ("[report]", ReportSettings),
    ("[output]", OutputSettings),
)
SOP_CLASSES: tuple[Literal["mr", "sc", "legacy_enhanced"], ...] = get_args(
    OutputSettings.model_fields["sop_class"].annotation
)


def statement(settings: Settings) -> dict[str, Any]:
    """Everything the statement says, as plain data. `settings` are those of a site, or the defaults."""
    made = {kind: _samples(settings, kind) for kind in SOP_CLASSES}
    samples = {f'[output] sop_class = "{kind}"': tuple(one.images for one in pair) for kind, pair in made.items()}
    samples["with the images"] = tuple(one.documents for one in made[SOP_CLASSES[0]])
    sent = [instance for pair in samples.values() for instance in pair[0]]
    return {
        "schema": SCHEMA,
        "product": "DiffMSR node",
        "version": __version__,
        "application_entity": {
            "ae_title": settings.scp.ae_title,
            "host": settings.scp.host,
            "port": settings.scp.port,
            "implementation_class_uid": IMPLEMENTATION_CLASS_UID,
            "implementation_version_name": IMPLEMENTATION_VERSION_NAME,
            "max_pdu": settings.scp.max_pdu,
            "max_associations": settings.scp.max_associations,
            "acse_timeout_s": settings.scp.acse_timeout_s,
            "dimse_timeout_s": settings.scp.dimse_timeout_s,
            "network_timeout_s": settings.scp.network_timeout_s,
            "require_called_ae_title": settings.scp.require_called_ae_title,
            "calling_ae_titles": [source.ae_title for source in settings.sources],
            "tls": settings.scp.tls is not None,
        },
        "accepted": [
            {
                **_uid(context.abstract_syntax),
                "transfer_syntaxes": [_uid(syntax) for syntax in context.transfer_syntax],
                "role": "SCP, SCU by role selection" if context.scp_role else "SCP",
            }
            for context in supported_contexts()
        ],
        "proposed": [
            _activity("Verify a destination", ECHO_CONTEXTS, "SCU"),
            _activity("Send derived objects", storage_contexts(sent), "SCU"),
            _activity("Ask a destination for storage commitment", commitment_messages.CONTEXTS, "SCU"),
            _activity("Report storage commitment to a source", commitment_messages.CONTEXTS, "SCP, by role selection"),
            _activity("Query a PACS", FIND_CONTEXTS, "SCU"),
            _activity("Retrieve from a PACS by C-GET", [c for c in GET_CONTEXTS if c[0] == GET], "SCU"),
            _activity(
                "Retrieve from a PACS by C-GET: what it sends", [c for c in GET_CONTEXTS if c[0] != GET],
                "SCP, by role selection",
            ),
            _activity("Retrieve from a PACS by C-MOVE", MOVE_CONTEXTS, "SCU"),
        ],
        "query": {"level": "SERIES", "matching": ["StudyInstanceUID", "Modality"], "returned": list(RETURN_KEYS)},
        "answered": {service: [_answer(one) for one in codes] for service, codes in ANSWERS},
        "understood": {service: [_meaning(one) for one in table] for service, table in UNDERSTOOD},
        "required_of_received": [k for k in IDENTIFYING_TAGS if k.endswith("UID")],
        "copied": {module: list(keywords) for module, keywords in COPIED},
        "derived": [
            {"made": when, "objects": _objects(*pair)} for when, pair in samples.items()
        ],
        "transfer_syntaxes_of_derived": {name: _uid(uid) for name, uid in TRANSFER_SYNTAXES.items()},
        "configuration": {section: _defaults(model) for section, model in SECTIONS},
    }  # fmt: skip


# ---------------------------------------------------------------------- the tables, as data


def _uid(uid: str | None) -> dict[str, str]:
    return {"uid": str(uid), "name": UID(uid or "").name}


def _activity(name: str, contexts: Iterable[tuple[str, str]], role: str) -> dict[str, Any]:
    """One presentation context a transfer syntax, as `associate` proposes them."""
    by_abstract: dict[str, list[dict[str, str]]] = {}
    for abstract_syntax, transfer_syntax in contexts:
        by_abstract.setdefault(abstract_syntax, []).append(_uid(transfer_syntax))
    listed = [{**_uid(abstract), "transfer_syntaxes": syntaxes} for abstract, syntaxes in by_abstract.items()]
    return {"activity": name, "role": role, "contexts": listed}


def _answer(answer: Answer) -> dict[str, str]:
    return {"code": f"0x{answer.value:04X}", "meaning": answer.words}


def _meaning(meaning: Meaning) -> dict[str, str]:
    return {"code": meaning.codes, "meaning": meaning.words, "behaviour": meaning.verdict.value}


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Key to default; "required" for a key without one."""
    fields = model.model_fields
    return {
        key: "required" if field.default is PydanticUndefined else to_jsonable_python(field.default)
        for key, field in fields.items()
    }


def _samples(settings: Settings, sop_class: Literal["mr", "sc", "legacy_enhanced"]) -> tuple[Encoded, ...]:
    """What is made of two results that have nothing in common, so that what both say is said of every result."""
    output = settings.output.model_copy(update={"sop_class": sop_class, "presentation_state": True})
    return tuple(encode(*_result(n), output, settings.report, number) for n, number in ((1, 9001), (2, 9102)))


def _result(n: int) -> tuple[Result, list[Dataset]]:
    """A result, and the headers of its sources, that differ in everything with `n`."""

    def header(series: int, number: int) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.Modality = MRImageStorage, "MR"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.{n}", f"1.2.{n}.{series}"
        ds.SOPInstanceUID = f"1.2.{n}.{series}.{number}"
        ds.FrameOfReferenceUID, ds.SeriesDescription = f"1.2.{n}.9", f"series {n}"
        ds.SeriesNumber, ds.InstanceNumber = str(n), str(number)
        ds.Rows = ds.Columns = 4 * n
        ds.WindowCenter, ds.WindowWidth = str(100 + n), str(300 + n)
        ds.BurnedInAnnotation = "NO" if n == 1 else "YES"
        if n == 2:
            ds.LossyImageCompression, ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = (
                "01",
                10,
                "ISO_15444_1",
            )
        ds.ScanningSequence, ds.SequenceVariant = "SE", "NONE"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient, ds.PixelSpacing = [n, n, 5 * n * number], [n, n]
        ds.SliceThickness = str(n)
        return ds

    numbers = range(n, 2 * n + 1)
    targets, references = [header(1, i) for i in numbers], [header(2, i) for i in numbers]
    turned = 0.1 if n == 1 else 1.5
    result = Result(
        pixels=np.random.default_rng(n).random((n + 1, 16 * n, 12 * n), dtype=np.float32) * 1000 * n,
        positions=np.array([[n, n, 5.0 * n * i] for i in numbers]),
        orientation=((float(np.cos(turned)), float(np.sin(turned)), 0.0), (0.0, 0.0, -1.0)),
        spacing=(0.25 * n, 0.3 * n),
        source_uids=[ds.SOPInstanceUID for ds in targets],
        reference_uids=[[ds.SOPInstanceUID] for ds in references],
        model_name=f"model{n}",
        model_version=str(n),
        weights_sha256=f"{n:064x}",
        scale=4,
        parameters={"precision": f"p{n}"},
        warnings=[],
    )
    return result, [*targets, *references]


def _objects(first: Sequence[Dataset], second: Sequence[Dataset]) -> list[dict[str, Any]]:
    """For each SOP class, what the node itself writes: every attribute that is not merely copied."""
    copied = {keyword for _, keywords in COPIED for keyword in keywords}
    others = {str(instance.SOPClassUID): instance for instance in second}
    objects = {}
    for instance in first:
        if str(instance.SOPClassUID) not in objects:
            other = others[str(instance.SOPClassUID)]
            either = {e.tag: e for e in (*other, *instance)}
            written = [either[tag] for tag in sorted(either) if either[tag].keyword not in copied]
            objects[str(instance.SOPClassUID)] = {
                **_uid(instance.SOPClassUID),
                "written": [
                    {
                        "tag": str(e.tag).upper(),
                        "name": e.name,
                        "vr": str(e.VR),
                        "value": _fixed(e.tag, instance, other),
                    }
                    for e in written
                ],
            }
    return list(objects.values())


def _fixed(tag: BaseTag, one: Dataset, other: Dataset) -> str:
    """The value where it is the same in every object, of a code sequence the codes; else nothing."""
    if tag not in one or tag not in other or one[tag].value != other[tag].value:
        return ""
    element = one[tag]
    if element.VR == "SQ":
        codes = [i for i in element.value if "CodeValue" in i]
        return "; ".join(f"({i.CodeValue}, {i.CodingSchemeDesignator}, {i.CodeMeaning})" for i in codes)
    if element.is_empty:
        return "empty"
    values = element.value if element.VM > 1 else [element.value]
    return "\\".join(str(UID(v).name if element.VR == "UI" else v) for v in values)


# ---------------------------------------------------------------------- the words around them


def markdown(facts: dict[str, Any]) -> str:
    """The statement as a document, in the structure of PS3.2 annex A."""
    lines = ["", *_lines(facts)]
    return "\n".join(line for before, line in pairwise(lines) if before or line).strip() + "\n"


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    ae = facts["application_entity"]
    yield f"# DICOM conformance statement: {facts['product']} {facts['version']}"
    yield from _paragraph(
        "For research use only. Printed by `diffmsr-node conformance` from the tables the node runs on; with a site's "
        "configuration it states what that site does.",
    )
    yield "## 1 Conformance statement overview"
    yield from _paragraph(
        "The node receives MR series, super-resolves low-resolution T2 series guided by a T1 series of the same study, "
        "and sends what it made back as derived series of that study. It is one application entity.",
    )
    yield from _table(("Network service, SOP class", "as SCU", "as SCP"), _overview(facts))
    yield from _paragraph("It reads and writes no media (PS3.10, PS3.11).")
    yield "## 2 Introduction"
    yield from _paragraph(
        "For administrators of PACS and scanners who connect the node. A statement of conformance does not guarantee "
        "that two systems work together: try them before clinical data depends on it. Terms are those of PS3.2 to "
        "PS3.8. AE: application entity; PDU: protocol data unit; SCU, SCP: service class user, provider.",
    )
    yield "## 3 Networking"
    yield "### 3.1 Implementation model"
    yield from _paragraph(
        "Instances come in by C-STORE, pushed by a source or sent by a PACS in answer to C-GET or C-MOVE. When the "
        "series of a study are complete they are matched; a reference that lacks is asked of the PACS of `[fetch]`, "
        "where there is one. A result is encoded and sent to every destination until each instance is accepted, and "
        "committed where that is configured. An instance is acknowledged only when its file and its record would "
        "survive a loss of power. Its data set is stored byte for byte as received: level 2 (full) storage conformance.",
        "The node is no archive: it keeps what it received until an administrator removes it, and does not offer query "
        "or retrieval.",
    )
    yield "### 3.2 Application entity specification"
    yield "#### 3.2.1 Association policies"
    yield from _table(("Policy", "Value"), _policies(ae))
    yield "#### 3.2.2 Association initiation"
    yield from _paragraph(
        "Each transfer syntax is proposed in a presentation context of its own, so that the peer cannot choose within "
        "one. Association set-up and every answer are awaited for `timeout_s` of the peer. An association that breaks "
        "is taken up again for what is unanswered; after three that broke without any answer the attempt ends, and is "
        "repeated with doubling delays (`initial_delay_s`, `max_delay_s`, `max_attempts`). What went wrong is logged "
        "and shown in one line: who, what happened, what to check.",
    )
    for activity in facts["proposed"]:
        yield f"##### {activity['activity']}"
        yield from _contexts([{**context, "role": activity["role"]} for context in activity["contexts"]])
    yield "##### Behaviour"
    yield from _paragraph(
        "Sending: a derived instance goes out as it is kept (`[output] transfer_syntax`) where the peer takes it, else "
        "uncompressed. One that is refused holds up no other; a refusal is believed when it was repeated three times.",
        "Storage commitment: asked for all instances once they are accepted, in a transaction of its own each time. The "
        f"report is awaited on the same association for {SAME_ASSOCIATION_S:g} s, then, for `commitment_timeout_s`, on "
        "any association that the destination opens. Instances that are reported as failed are sent again. With "
        '`commitment_fallback = "find"` a C-FIND at IMAGE level that lists every instance is accepted instead.',
        f"Query: at {facts['query']['level']} level, matching on {_names(facts['query']['matching'])}; asked for are "
        f"{_names(facts['query']['returned'])}. No relational queries, no extended negotiation.",
        "Retrieval: single series, by C-GET or by C-MOVE to our own AE title.",
    )
    yield "##### Status codes of peers, and what the node does"
    yield from _paragraph(
        "*accepted*: done. *retry*: tried again later. *refused*: asking the same again is taken to be of no use. A "
        "status that is not listed is treated as *retry*.",
    )
    for service, rows in facts["understood"].items():
        yield from _paragraph(f"**{service}**")
        yield from _table(("Status", "Meaning", "Behaviour"), ((r["code"], r["meaning"], r["behaviour"]) for r in rows))
    yield "#### 3.2.3 Association acceptance"
    yield from _paragraph(
        "Of the transfer syntaxes that the peer proposes in a context, the first of this order is accepted.",
    )
    yield from _contexts(facts["accepted"])
    yield "##### Behaviour"
    yield from _paragraph(
        f"C-STORE: an instance needs {_names(facts['required_of_received'])}. The same instance again is success, and "
        "stored once; other content under a known UID is refused. What is not MR, or is of no use, is kept all the "
        "same, and never processed.",
        "Storage commitment: what is asked is looked for in the record and in the file (SHA-256 of the data set), and "
        f"reported on the same association when it is still open after {GRACE_S:g} s, else on one to `[[sources]]` host "
        f"and port, tried {ATTEMPTS} times, about a day. An N-EVENT-REPORT for a transaction of ours is taken on any "
        "association, with or without role selection.",
    )
    yield "##### Status codes of the node"
    for service, rows in facts["answered"].items():
        yield from _paragraph(f"**{service}**")
        yield from _table(("Status", "Meaning"), ((r["code"], r["meaning"]) for r in rows))
    yield "### 3.3 Network interfaces"
    yield from _paragraph("DICOM upper layer over TCP/IP (PS3.8), IPv4 or IPv6 as the address of `[scp] host` says.")
    yield "### 3.4 Configuration"
    yield from _paragraph("Every key and its reason: `config/node.toml`. Defaults:")
    for section, keys in facts["configuration"].items():
        yield from _paragraph(f"**{section}**")
        yield from _table(("Key", "Default"), ((f"`{k}`", _default(v)) for k, v in keys.items()))
    yield "## 4 Media interchange"
    yield from _paragraph("None.")
    yield "## 5 Support of character sets"
    yield from _paragraph(
        "Every character set of PS3.3 C.12.1.1.2 is received, stored and sent on as it is. Derived objects carry the "
        "SpecificCharacterSet of their target. What the node adds is in the basic repertoire, ISO-IR 6.",
    )
    yield "## 6 Security"
    yield from _paragraph(
        "TLS in both directions by configuration (PS3.15 annex B, BCP 195: the versions and cipher suites that the "
        "OpenSSL of the platform allows), with certificates of both sides: as SCP a peer's is demanded with `ca_file`, "
        "as SCU the peer's is always verified, its host name included. AE titles and addresses of sources are checked "
        "where they are configured. No user identity negotiation. Logs hold UIDs, paths and numbers, no patient data.",
    )
    yield "## 7 Annexes"
    yield "### 7.1 Derived objects"
    yield from _paragraph(
        "`[output] sop_class` chooses the kind of the images; a report goes with them (`[report] sop_class`), and a mark "
        "over them (`[output] presentation_state`). All carry the patient and study of their target, so that the PACS files "
        "them there, and are marked as derived, by artificial intelligence, for research. UIDs depend on the content "
        "alone: the same sources, weights and settings give the same bytes.",
        "Kept as " + ", ".join(
            f"{uid['name']} (`{name}`)" for name, uid in facts["transfer_syntaxes_of_derived"].items()
        ) + ".",
        "Copied from the target. Patient, Clinical Trial and Study as they stand; of the others what conforms, and "
        "empty what is required but missing. A Secondary Capture goes without the last two modules.",
    )  # fmt: skip
    yield from _table(("Module", "Attributes"), ((m, _names(k)) for m, k in facts["copied"].items()))
    for kind in facts["derived"]:
        for written in kind["objects"]:
            yield f"#### {kind['made']}: {written['name']}, {written['uid']}"
            yield from _paragraph("Written by the node; a value where it is the same in every object.")
            rows = ((r["tag"], r["name"], r["vr"], r["value"]) for r in written["written"])
            yield from _table(("Tag", "Attribute", "VR", "Value"), rows)
    yield "### 7.2 Extensions, specialisations, privatisations"
    yield from _paragraph(
        "Secondary Capture is a standard extended SOP class: it keeps the plane of the MR image (PS3.4 B.4.1). No "
        "private attributes, SOP classes or transfer syntaxes.",
    )


def _overview(facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    services: dict[str, set[str]] = {}
    for context in facts["accepted"]:
        services.setdefault(context["name"], set()).add("SCP")
    for activity in facts["proposed"]:
        for context in activity["contexts"]:
            services.setdefault(context["name"], set()).add(activity["role"][:3])
    for name, roles in services.items():
        yield name, "yes" if "SCU" in roles else "no", "yes" if "SCP" in roles else "no"


def _policies(ae: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "AE title", f"{ae['ae_title']} (`[scp] ae_title`), in both directions"
    yield "Listening", f"{ae['host']}:{ae['port']}, {'TLS' if ae['tls'] else 'without TLS'}"
    yield "Application context name", f"{_APPLICATION_CONTEXT} (PS3.7 A.2.1)"
    yield "Implementation class UID", ae["implementation_class_uid"]
    yield "Implementation version name", ae["implementation_version_name"]
    yield "Maximum PDU size received", f"{ae['max_pdu'] or 'unlimited'} bytes (`[scp] max_pdu`)"
    yield "Associations accepted at a time", f"{ae['max_associations']}; more are rejected, transiently"
    yield "Associations initiated at a time", "one an activity: sending, committing, fetching"
    yield "Asynchronous operations", "none: one operation at a time"
    yield "Called AE title", "must be ours" if ae["require_called_ae_title"] else "any"
    named = ", ".join(ae["calling_ae_titles"])
    yield "Calling AE title", f"{named}, and peers that answer to what we asked" if named else "any"
    yield (
        "Timeouts as SCP",
        (
            f"association set-up {ae['acse_timeout_s']:g} s, between messages {ae['dimse_timeout_s']:g} s, "
            f"idle {ae['network_timeout_s']:g} s; then the association is aborted"
        ),
    )


_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


def _contexts(contexts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Abstract syntaxes with their role, then the transfer syntaxes they share, in the order of preference."""
    by_syntaxes: dict[str, list[dict[str, Any]]] = {}
    for context in contexts:
        by_syntaxes.setdefault(json.dumps(context["transfer_syntaxes"]), []).append(context)
    for syntaxes, sharing in by_syntaxes.items():
        yield from _table(("Abstract syntax", "UID", "Role"), ((c["name"], c["uid"], c["role"]) for c in sharing))
        yield from _table(("Transfer syntax", "UID"), ((s["name"], s["uid"]) for s in json.loads(syntaxes)))


def _names(keywords: Iterable[str]) -> str:
    return ", ".join(f"{dictionary_description(tag)} {_tag(tag)}" for tag in map(_known_tag, keywords))


def _known_tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _default(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case str() if value != "required":
            return f'"{value}"'
    return str(value)


def _paragraph(*texts: str) -> Iterator[str]:
    yield ""
    for text in texts:
        yield text
        yield ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""
