"""Everything the DICOM conformance statement (PS3.2) says, from the tables that the code runs on:
presentation contexts, status codes, settings, and the derived objects themselves."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined, to_jsonable_python
from pydicom import Dataset
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
from node.conformance.samples import COPIED, SOP_CLASSES, Fact, WrittenObject, samples, written_attributes
from node.deliver.scu import ECHO_CONTEXTS, storage_contexts
from node.dicom.acquisition import ATTRIBUTES
from node.dicom.part10 import Named
from node.dicom.transfer_syntax import TRANSFER_SYNTAXES
from node.dimse import commitment_messages, status
from node.dimse.associations import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.dimse.query import FIND_CONTEXTS
from node.dimse.status import Answer, Meaning
from node.receive.contexts import supported_contexts
from node.receive.fetch import GET, GET_CONTEXTS, MOVE_CONTEXTS, RETURN_KEYS
from node.receive.scan import IDENTIFYING_TAGS

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


class NamedUID(Fact):
    uid: str
    name: str


class StatedContext(NamedUID):
    """An abstract syntax, our role, and the transfer syntaxes in the order of preference."""

    transfer_syntaxes: tuple[NamedUID, ...]
    role: str


class Activity(Fact):
    """What the node associates for, with what it proposes then."""

    activity: str
    role: str
    contexts: tuple[StatedContext, ...]


class ApplicationEntity(Fact):
    ae_title: str
    host: str
    port: int
    implementation_class_uid: str
    implementation_version_name: str
    max_pdu: int
    max_associations: int
    acse_timeout_s: float
    dimse_timeout_s: float
    network_timeout_s: float
    require_called_ae_title: bool
    calling_ae_titles: tuple[str, ...]
    tls: bool


class QueryFacts(Fact):
    level: str
    matching: tuple[str, ...]
    returned: tuple[str, ...]


class AnswerCode(Fact):
    code: str
    meaning: str


class UnderstoodCode(AnswerCode):
    behaviour: str


class DerivedObjects(Fact):
    """Objects of one SOP class setting."""

    made: str
    objects: tuple[WrittenObject, ...]


class Statement(Fact):
    schema_: int = Field(STATEMENT_SCHEMA, serialization_alias="schema")
    product: str = "DiffMSR node"
    version: str = __version__
    application_entity: ApplicationEntity
    accepted: tuple[StatedContext, ...]
    proposed: tuple[Activity, ...]
    query: QueryFacts
    answered: dict[str, tuple[AnswerCode, ...]]
    """By service."""
    understood: dict[str, tuple[UnderstoodCode, ...]]
    """By service."""
    required_of_received: tuple[str, ...]
    read_of_acquisitions: tuple[str, ...]
    copied: dict[str, tuple[str, ...]]
    """Keywords by module."""
    derived: tuple[DerivedObjects, ...]
    transfer_syntaxes_of_derived: dict[str, NamedUID]
    """By the name that the configuration gives them."""
    configuration: dict[str, dict[str, Any]]
    """Section to key to default; "required" for a key without a default."""

    def to_json(self) -> dict[str, Any]:
        """For `conformance --json`."""
        return self.model_dump(mode="json", by_alias=True)


def statement(settings: Settings) -> Statement:
    """Everything the statement says. `settings` are those of a site, or the defaults."""
    made = {kind: samples(settings, kind) for kind in SOP_CLASSES}
    made_of = {f'[output] sop_class = "{kind}"': tuple(one.images for one in pair) for kind, pair in made.items()}
    made_of["with the images"] = tuple(one.documents for one in made[SOP_CLASSES[0]])
    sent = [instance for pair in made_of.values() for instance in pair[0]]
    return Statement(
        application_entity=_application_entity(settings),
        accepted=tuple(
            StatedContext(
                **_uid(context.abstract_syntax).model_dump(),
                transfer_syntaxes=tuple(_uid(syntax) for syntax in context.transfer_syntax),
                role="SCP, SCU by role selection" if context.scp_role else "SCP",
            )
            for context in supported_contexts()
        ),
        proposed=(
            _activity("Verify a destination", ECHO_CONTEXTS, "SCU"),
            _activity("Send derived objects", storage_contexts(map(_named, sent)), "SCU"),
            _activity("Ask a destination for storage commitment", commitment_messages.CONTEXTS, "SCU"),
            _activity("Report storage commitment to a source", commitment_messages.CONTEXTS, "SCP, by role selection"),
            _activity("Query a PACS", FIND_CONTEXTS, "SCU"),
            _activity("Retrieve from a PACS by C-GET", [c for c in GET_CONTEXTS if c[0] == GET], "SCU"),
            _activity(
                "Retrieve from a PACS by C-GET: instances that the PACS sends", [c for c in GET_CONTEXTS if c[0] != GET],
                "SCP, by role selection",
            ),
            _activity("Retrieve from a PACS by C-MOVE", MOVE_CONTEXTS, "SCU"),
        ),
        query=QueryFacts(level="SERIES", matching=("StudyInstanceUID", "Modality"), returned=tuple(RETURN_KEYS)),
        answered={service: tuple(_answer(one) for one in codes) for service, codes in ANSWERS},
        understood={service: tuple(_meaning(one) for one in table) for service, table in UNDERSTOOD},
        required_of_received=tuple(k for k in IDENTIFYING_TAGS if k.endswith("UID")),
        read_of_acquisitions=tuple(ATTRIBUTES),
        copied=dict(COPIED),
        derived=tuple(DerivedObjects(made=when, objects=tuple(written_attributes(*pair))) for when, pair in made_of.items()),
        transfer_syntaxes_of_derived={name: _uid(uid) for name, uid in TRANSFER_SYNTAXES.items()},
        configuration={section: _defaults(model) for section, model in SECTIONS},
    )  # fmt: skip


def _application_entity(settings: Settings) -> ApplicationEntity:
    scp = settings.scp
    return ApplicationEntity(
        ae_title=scp.ae_title,
        host=scp.host,
        port=scp.port,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        max_pdu=scp.max_pdu,
        max_associations=scp.max_associations,
        acse_timeout_s=scp.acse_timeout_s,
        dimse_timeout_s=scp.dimse_timeout_s,
        network_timeout_s=scp.network_timeout_s,
        require_called_ae_title=scp.require_called_ae_title,
        calling_ae_titles=tuple(source.ae_title for source in settings.sources),
        tls=scp.tls is not None,
    )


def _named(instance: Dataset) -> Named:
    return Named(instance.SOPClassUID, instance.SOPInstanceUID, instance.file_meta.TransferSyntaxUID)


def _uid(uid: str | None) -> NamedUID:
    return NamedUID(uid=str(uid), name=UID(uid or "").name)


def _activity(name: str, contexts: Iterable[tuple[str, str]], role: str) -> Activity:
    """One presentation context per transfer syntax, as `associate` proposes them."""
    by_abstract: dict[str, list[NamedUID]] = {}
    for abstract_syntax, transfer_syntax in contexts:
        by_abstract.setdefault(abstract_syntax, []).append(_uid(transfer_syntax))
    listed = (
        StatedContext(**_uid(abstract).model_dump(), transfer_syntaxes=tuple(syntaxes), role=role)
        for abstract, syntaxes in by_abstract.items()
    )
    return Activity(activity=name, role=role, contexts=tuple(listed))


def _answer(answer: Answer) -> AnswerCode:
    return AnswerCode(code=f"0x{answer.value:04X}", meaning=answer.words)


def _meaning(meaning: Meaning) -> UnderstoodCode:
    return UnderstoodCode(code=meaning.codes, meaning=meaning.words, behaviour=meaning.verdict.value)


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Key to default; "required" for a key without a default."""
    fields = model.model_fields
    return {
        key: "required" if field.default is PydanticUndefined else to_jsonable_python(field.default)
        for key, field in fields.items()
    }
