"""The DICOM conformance statement as a document, in the structure of PS3.2 annex A. `docs/conformance.md` is what this
writes for the default settings."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from pydicom.datadict import dictionary_description, tag_for_keyword

from node.conformance.facts import ApplicationEntity, NamedUID, StatedContext, Statement
from node.deliver.commitment_scu import SAME_ASSOCIATION_S
from node.dimse.negotiation import APPLICATION_CONTEXT
from node.receive.commitment_scp import ATTEMPTS, GRACE_S


def markdown(facts: Statement) -> str:
    """The statement as a document, in the structure of PS3.2 annex A."""
    lines = ["", *_lines(facts)]
    return "\n".join(line for before, line in pairwise(lines) if before or line).strip() + "\n"


def _lines(facts: Statement) -> Iterator[str]:
    ae = facts.application_entity
    yield f"# DICOM conformance statement: {facts.product} {facts.version}"
    yield from _paragraph(
        "For research use only. `diffmsr-node conformance` prints this statement from the tables that the node runs on. "
        "With the configuration of a site it states what that site does.",
    )
    yield "## 1 Conformance statement overview"
    yield from _paragraph(
        "The node receives MR series, super-resolves low-resolution T2 series guided by a T1 series of the same study, "
        "and sends the results back as derived series of that study. It is one application entity.",
    )
    yield from _table(("Network service, SOP class", "as SCU", "as SCP"), _overview(facts))
    yield from _paragraph("It reads and writes no media (PS3.10, PS3.11).")
    yield "## 2 Introduction"
    yield from _paragraph(
        "This statement is for administrators of PACS and scanners who connect the node. It does not guarantee that two "
        "systems work together: test them before clinical data depends on them. Terms are those of PS3.2 to PS3.8. AE: "
        "application entity; PDU: protocol data unit; SCU, SCP: service class user, provider.",
    )
    yield "## 3 Networking"
    yield "### 3.1 Implementation model"
    yield from _paragraph(
        "Instances arrive by C-STORE: a source pushes them, or a PACS sends them in answer to C-GET or C-MOVE. When the "
        "series of a study are complete they are matched. A missing reference is requested from the PACS configured in "
        "`[fetch]`. A result is encoded and sent to every destination until each instance is accepted and, where "
        "configured, committed. An instance is acknowledged only when its file and its record would survive a loss of "
        "power. Its data set is stored byte for byte as received: level 2 (full) storage conformance. The exception are instances that "
        'are not MR: with `[scp] keep_other = "drop"` they are acknowledged and discarded.',
        "The node is not an archive: it keeps received instances until an administrator removes them, and it does not "
        "offer query or retrieval.",
    )
    yield "### 3.2 Application entity specification"
    yield "#### 3.2.1 Association policies"
    yield from _table(("Policy", "Value"), _policies(ae))
    yield "#### 3.2.2 Association initiation"
    yield from _paragraph(
        "Each transfer syntax is proposed in a presentation context of its own, so that the peer cannot choose within "
        "one. The node waits `timeout_s` of the peer for association set-up and for every answer. When an association "
        "breaks, a new one continues with the unanswered requests. After three associations that broke without any "
        "answer the attempt ends. It is repeated with doubling delays (`initial_delay_s`, `max_delay_s`, "
        "`max_attempts`). Each error is logged and shown in one line: the peer, what happened, what to check.",
    )
    for activity in facts.proposed:
        yield f"##### {activity.activity}"
        yield from _contexts(activity.contexts)
    yield "##### Behaviour"
    yield from _paragraph(
        "Sending: a derived instance is sent in its stored transfer syntax (`[output] transfer_syntax`) where the peer "
        "accepts it, else uncompressed. A refused instance does not delay the others. A refusal is final after it was "
        "repeated three times.",
        "A result that replaces one which was delivered before is a series of its own. With `[output] rejection_note` it is "
        "accompanied by a Key Object Selection Document (1.2.840.10008.5.1.4.1.1.88.59, title 113001 or 113037) that lists the "
        "images of the replaced series (IHE RAD IOCM). Its SOP class is proposed only then.",
        "Storage commitment: requested for all instances once they are accepted, each time in a new transaction. The "
        f"node waits for the report on the same association for {SAME_ASSOCIATION_S:g} s, then, for "
        "`commitment_timeout_s`, on any association that the destination opens. Instances that are reported as failed "
        'are sent again. With `commitment_fallback = "find"` a C-FIND at IMAGE level that lists every instance is '
        "accepted instead.",
        f"Query: at {facts.query.level} level, with the matching keys {_names(facts.query.matching)} and the "
        f"return keys {_names(facts.query.returned)}. No relational queries, no extended negotiation.",
        "Retrieval: single series, by C-GET or by C-MOVE to our own AE title.",
    )
    yield "##### Status codes of peers, and what the node does"
    yield from _paragraph(
        "*accepted*: done. *retry*: tried again later. *refused*: repeating the same request is considered useless. A "
        "status that is not listed is treated as *retry*.",
    )
    for service, rows in facts.understood.items():
        yield from _paragraph(f"**{service}**")
        yield from _table(("Status", "Meaning", "Behaviour"), ((r.code, r.meaning, r.behaviour) for r in rows))
    yield "#### 3.2.3 Association acceptance"
    yield from _paragraph(
        "Of the transfer syntaxes that the peer proposes in a context, the first one in this order is accepted.",
    )
    yield from _contexts(facts.accepted)
    yield "##### Behaviour"
    yield from _paragraph(
        f"C-STORE: an instance needs {_names(facts.required_of_received)}. When the same instance is sent again the "
        "answer is success, and it is stored once. The same "
        "pixels with corrected attributes of patient or study are kept as a new version. Other pixels under a UID of the same "
        "study are refused until an administrator drops the series (`diffmsr-node queue drop STUDY_UID`). Instances that are not MR are "
        "never processed. They are answered with success and counted, and kept only with "
        '`[scp] keep_other = "keep"`; a storage commitment for one that is not kept fails. Private SOP classes are '
        "accepted in the same way, as `[scp] private_sop_classes` says, and so are retired storage SOP classes.",
        "Acquisition of a target: besides what identifies, stacks and decodes images, the node reads "
        f"{_names(facts.read_of_acquisitions)}, and of Siemens images the protocol in CSA Series Header Info "
        "(0029,xx20), to find out how a target was acquired and to undo its resolution, filter and partial Fourier "
        "(`[acquisition]`). None of them is required.",
        "Storage commitment: the node looks for each requested instance in its record and in the file (SHA-256 of the "
        f"data set). It reports on the same association if that is still open after {GRACE_S:g} s, else on a new "
        f"association to the host and port of `[[sources]]`, which it tries {ATTEMPTS} times, about a day. An "
        "N-EVENT-REPORT for a transaction of the node is accepted on any association, with or without role selection.",
    )
    yield "##### Status codes of the node"
    for service, codes in facts.answered.items():
        yield from _paragraph(f"**{service}**")
        yield from _table(("Status", "Meaning"), ((c.code, c.meaning) for c in codes))
    yield "#### 3.2.4 DICOMweb"
    yield from _paragraph(
        "As a user agent of STOW-RS (PS3.18 10.5) the node stores derived instances at each destination with a url: one "
        "instance per request, as application/dicom within multipart/related. An instance counts as stored when "
        "ReferencedSOPSequence of the answer lists it. Otherwise the FailureReason of FailedSOPSequence is interpreted as a "
        "status of C-STORE. Every five minutes a search for one study (QIDO-RS) asks whether the server answers.",
        "As an origin server, when `[web] dicomweb` is set, the node answers QIDO-RS (PS3.18 10.6: studies, series and "
        "instances, as application/dicom+json) and WADO-RS (10.4: studies, series, instances, metadata, frames, bulk data, "
        "rendered) below /dicom-web over what it received and derived. Instances and frames are sent in the transfer "
        "syntax in which they are stored, and a request that excludes it is answered with 406. Rendered are single "
        "frames, as image/jpeg or image/png, with the parameters quality, viewport and window. Fuzzy matching is not "
        "supported. Nothing can be stored, and there are no worklist services. Access needs a log-in: a session of the "
        "page, a trusted proxy's header, or HTTP Basic.",
    )
    yield "### 3.3 Network interfaces"
    yield from _paragraph(
        "DICOM upper layer over TCP/IP (PS3.8), IPv4 or IPv6 according to the address of `[scp] host`."
    )
    yield "### 3.4 Configuration"
    yield from _paragraph("`config/node.toml` explains every key. The defaults are:")
    for section, keys in facts.configuration.items():
        yield from _paragraph(f"**{section}**")
        yield from _table(("Key", "Default"), ((f"`{k}`", _default(v)) for k, v in keys.items()))
    yield "## 4 Media interchange"
    yield from _paragraph("None.")
    yield "## 5 Support of character sets"
    yield from _paragraph(
        "Every character set of PS3.3 C.12.1.1.2 is received and stored unchanged. Derived objects carry the "
        "SpecificCharacterSet of their target. Text that the node adds is in the basic repertoire, ISO-IR 6.",
    )
    yield "## 6 Security"
    yield from _paragraph(
        "TLS in both directions by configuration (PS3.15 annex B, BCP 195: the versions and cipher suites that the "
        "OpenSSL of the platform allows), with certificates of both sides. As SCP the node demands a certificate of the "
        "peer when `ca_file` is set. As SCU it always verifies the certificate of the peer, including its host name. "
        "AE titles and addresses of sources are checked where they are configured. No user identity negotiation. Logs "
        "contain UIDs, paths and numbers, but no patient data.",
    )
    yield from _paragraph(
        "With `[audit]`, audit messages (PS3.15 A.5.1) go to a collector by syslog over TLS (PS3.15 A.6, RFC 5425), TCP, or "
        "UDP (PS3.15 A.7, RFC 5426), each at least once. They name no patient; the patient ID is in them only with "
        "`patient_id`, so by default the participant object of the patient is left out.",
    )
    yield "## 7 Annexes"
    yield "### 7.1 Derived objects"
    yield from _paragraph(
        "`[output] sop_class` chooses the SOP class of the images. A report accompanies them (`[report] sop_class`), and "
        "a presentation state can mark them (`[output] presentation_state`), and a parametric map can say how large their errors "
        "are expected to be (`[output] parametric_map`). All carry the patient and study of their "
        "target, so that the PACS files them there. All are marked as derived, by artificial intelligence, for research. "
        "UIDs depend only on the content: the same sources, weights and settings give the same bytes.",
        "Transfer syntaxes: " + ", ".join(
            f"{uid.name} (`{name}`)" for name, uid in facts.transfer_syntaxes_of_derived.items()
        ) + ".",
        "The following attributes are copied from the target. Patient, Clinical Trial and Study are copied unchanged. "
        "Of the other modules, values that conform are copied, and required attributes that are missing are written "
        "empty. A Secondary Capture does not have the last two modules.",
    )  # fmt: skip
    yield from _table(("Module", "Attributes"), ((m, _names(k)) for m, k in facts.copied.items()))
    for kind in facts.derived:
        for written in kind.objects:
            yield f"#### {kind.made}: {written.name}, {written.uid}"
            yield from _paragraph("Written by the node. A value is listed where it is the same in every object.")
            attributes = ((a.tag, a.name, a.vr, a.value) for a in written.written)
            yield from _table(("Tag", "Attribute", "VR", "Value"), attributes)
    yield "### 7.2 Extensions, specialisations, privatisations"
    yield from _paragraph(
        "Secondary Capture is a standard extended SOP class: it keeps the image plane of the MR image (PS3.4 B.4.1). No "
        "private attributes, SOP classes or transfer syntaxes.",
    )


def _overview(facts: Statement) -> Iterator[tuple[str, str, str]]:
    services: dict[str, set[str]] = {}
    for context in facts.accepted:
        services.setdefault(context.name, set()).add("SCP")
    for activity in facts.proposed:
        for context in activity.contexts:
            services.setdefault(context.name, set()).add(activity.role[:3])
    for name, roles in services.items():
        yield name, "yes" if "SCU" in roles else "no", "yes" if "SCP" in roles else "no"


def _policies(ae: ApplicationEntity) -> Iterator[tuple[str, str]]:
    yield "AE title", f"{ae.ae_title} (`[scp] ae_title`), in both directions"
    yield "Listening", f"{ae.host}:{ae.port}, {'TLS' if ae.tls else 'without TLS'}"
    yield "Application context name", f"{APPLICATION_CONTEXT} (PS3.7 A.2.1)"
    yield "Implementation class UID", ae.implementation_class_uid
    yield "Implementation version name", ae.implementation_version_name
    yield "Maximum PDU size received", f"{ae.max_pdu or 'unlimited'} bytes (`[scp] max_pdu`)"
    yield "Associations accepted at a time", f"{ae.max_associations}; further ones are rejected, transiently"
    yield "Associations initiated at a time", "one per activity: sending, committing, fetching"
    yield (
        "Asynchronous operations",
        "as SCU as many as the SCP grants, at most `[[destinations]] outstanding`; as SCP none",
    )
    yield "Called AE title", "must be ours" if ae.require_called_ae_title else "any"
    named = ", ".join(ae.calling_ae_titles)
    yield "Calling AE title", f"{named}, and peers that the node sends requests to" if named else "any"
    yield (
        "Timeouts as SCP",
        (
            f"association set-up {ae.acse_timeout_s:g} s, between messages {ae.dimse_timeout_s:g} s, "
            f"idle {ae.network_timeout_s:g} s; then the association is aborted"
        ),
    )


def _contexts(contexts: Iterable[StatedContext]) -> Iterator[str]:
    """Abstract syntaxes with their role, then the transfer syntaxes they share, in the order of preference."""
    by_syntaxes: dict[tuple[NamedUID, ...], list[StatedContext]] = {}
    for context in contexts:
        by_syntaxes.setdefault(context.transfer_syntaxes, []).append(context)
    for syntaxes, sharing in by_syntaxes.items():
        yield from _table(("Abstract syntax", "UID", "Role"), ((c.name, c.uid, c.role) for c in sharing))
        yield from _table(("Transfer syntax", "UID"), ((s.name, s.uid) for s in syntaxes))


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
