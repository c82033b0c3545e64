"""Everything the DICOM conformance statement (PS3.2) says, as plain data, from the tables that the code runs on:
presentation contexts, status codes, settings, and the derived objects themselves."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python
from pydicom.uid import UID

from node import __version__
from node.config.settings import (
    AcquisitionSettings,
    CompletionSettings,
    DestinationSettings,
    FetchSettings,
    OutputSettings,
    ReportSettings,
    SCPSettings,
    Settings,
    SourceSettings,
)
from node.conformance.samples import COPIED, SOP_CLASSES, samples, written_attributes
from node.deliver.scu import ECHO_CONTEXTS, storage_contexts
from node.dicom.acquisition import ATTRIBUTES
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES
from node.dimse import commitment_messages, status
from node.dimse.associations import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dimse.query import FIND_CONTEXTS
from node.dimse.status import Answer, Meaning
from node.receive.contexts import supported_contexts
from node.receive.fetch import GET, GET_CONTEXTS, MOVE_CONTEXTS, RETURN_KEYS
from node.receive.store import IDENTIFYING_TAGS

STATEMENT_SCHEMA = 1

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
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("[scp]", SCPSettings),
    ("[[sources]]", SourceSettings),
    ("[[destinations]]", DestinationSettings),
    ("[fetch]", FetchSettings),
    ("[completion]", CompletionSettings),
    ("[acquisition]", AcquisitionSettings),
    ("[report]", ReportSettings),
    ("[output]", OutputSettings),
)


def statement(settings: Settings) -> dict[str, Any]:
    """Everything the statement says, as plain data. `settings` are those of a site, or the defaults."""
    made = {kind: samples(settings, kind) for kind in SOP_CLASSES}
    made_of = {f'[output] sop_class = "{kind}"': tuple(one.images for one in pair) for kind, pair in made.items()}
    made_of["with the images"] = tuple(one.documents for one in made[SOP_CLASSES[0]])
    sent = [instance for pair in made_of.values() for instance in pair[0]]
    return {
        "schema": STATEMENT_SCHEMA,
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
                "Retrieve from a PACS by C-GET: instances that the PACS sends", [c for c in GET_CONTEXTS if c[0] != GET],
                "SCP, by role selection",
            ),
            _activity("Retrieve from a PACS by C-MOVE", MOVE_CONTEXTS, "SCU"),
        ],
        "query": {"level": "SERIES", "matching": ["StudyInstanceUID", "Modality"], "returned": list(RETURN_KEYS)},
        "answered": {service: [_answer(one) for one in codes] for service, codes in ANSWERS},
        "understood": {service: [_meaning(one) for one in table] for service, table in UNDERSTOOD},
        "required_of_received": [k for k in IDENTIFYING_TAGS if k.endswith("UID")],
        "read_of_acquisitions": list(ATTRIBUTES),
        "copied": {module: list(keywords) for module, keywords in COPIED},
        "derived": [
            {"made": when, "objects": written_attributes(*pair)} for when, pair in made_of.items()
        ],
        "transfer_syntaxes_of_derived": {name: _uid(uid) for name, uid in TRANSFER_SYNTAXES.items()},
        "configuration": {section: _defaults(model) for section, model in SECTIONS},
    }  # fmt: skip


def _uid(uid: str | None) -> dict[str, str]:
    return {"uid": str(uid), "name": UID(uid or "").name}


def _activity(name: str, contexts: Iterable[tuple[str, str]], role: str) -> dict[str, Any]:
    """One presentation context per transfer syntax, as `associate` proposes them."""
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
    """Key to default; "required" for a key without a default."""
    fields = model.model_fields
    return {
        key: "required" if field.default is PydanticUndefined else to_jsonable_python(field.default)
        for key, field in fields.items()
    }
