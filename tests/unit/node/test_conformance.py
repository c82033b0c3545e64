"""The conformance statement says what the node does: it is generated, current, and holds on the wire."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE

from node.archive.facade import Archive
from node.config.settings import SCPSettings, Settings, SourceSettings
from node.conformance.facts import Statement, statement
from node.conformance.markdown import markdown
from node.receive.commitment_scp import Commitments
from node.receive.policy import configured_callers
from node.receive.server import Receiver
from node.receive.store import Store
from node.tracker.database import Database
from node.tracker.handle import Tracker
from tests.conftest import free_port

DOCUMENT = Path(__file__).parents[3] / "docs" / "conformance.md"


@pytest.fixture(scope="module")
def facts() -> Statement:
    return statement(Settings())


def test_the_document_is_what_the_command_prints(facts: Statement) -> None:
    message = "bring it up to date: diffmsr-node conformance > docs/conformance.md (without a node.toml)"
    assert DOCUMENT.read_text() == markdown(facts), message


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    tracker = Tracker(database)
    settings = SCPSettings(host="127.0.0.1", port=free_port())
    archive = Archive.in_folder(tmp_path)
    sources = [SourceSettings(name="peer", ae_title="PEER")]
    commitments = Commitments(tracker, archive, sources, "DIFFMSR")
    receiver = Receiver(settings, configured_callers(sources), Store(archive, tracker, 10), commitments)
    receiver.start()
    yield receiver.port
    receiver.stop(1)
    database.dispose()


def test_what_it_says_is_accepted_is_accepted_and_nothing_else(facts: Statement, port: int) -> None:
    for context in facts.accepted:
        stated = {(context.uid, syntax.uid) for syntax in context.transfer_syntaxes}
        ae = AE("PEER")
        for abstract_syntax, transfer_syntax in [*sorted(stated), ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.2")]:
            ae.add_requested_context(abstract_syntax, transfer_syntax)
        association = ae.associate("127.0.0.1", port)
        accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        association.release()
        assert accepted == stated


def test_it_calls_itself_what_it_says(facts: Statement, port: int) -> None:
    ae = AE("PEER")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port)
    answer = association.acceptor
    identity = {
        "implementation_class_uid": str(answer.implementation_class_uid),
        "implementation_version_name": answer.implementation_version_name,
        "max_pdu": answer.maximum_length,
    }
    association.release()
    assert identity.items() <= facts.application_entity.model_dump().items()


def test_of_several_syntaxes_the_first_of_its_list_is_taken(facts: Statement, port: int) -> None:
    (context,) = [c for c in facts.accepted if c.name == "MR Image Storage"]
    syntaxes = [s.uid for s in context.transfer_syntaxes]
    ae = AE("PEER")
    ae.add_requested_context(context.uid, list(reversed(syntaxes)))
    association = ae.associate("127.0.0.1", port)
    (accepted,) = association.accepted_contexts
    association.release()
    assert accepted.transfer_syntax == [UID(syntaxes[0])]


def test_the_marks_of_derived_objects_are_stated(facts: Statement) -> None:
    mr = facts.derived[0].objects[0]
    assert mr.name == "MR Image Storage"
    values = {row.name: row.value for row in mr.written}
    assert values["Image Type"] == "DERIVED\\SECONDARY\\OTHER\\AI\\SUPERRES"
    assert values["Content Qualification"] == "RESEARCH"
    assert "Artificial Intelligence" in values["Derivation Code Sequence"]
    assert values["SOP Instance UID"] == values["Rows"] == values["Window Center"] == "", "not the same in every object"


def test_a_site_states_what_it_does() -> None:
    settings = Settings.model_validate(
        {"scp": {"ae_title": "SITE", "port": 104}, "output": {"transfer_syntax": "rle", "synthetic_data": False}}
    )
    site = statement(settings)
    (sending,) = [one for one in site.proposed if one.activity == "Send derived objects"]
    assert sending.contexts[0].transfer_syntaxes[0].name == "RLE Lossless"
    assert not [row for row in site.derived[0].objects[0].written if row.name == "Synthetic Data"]
    assert "| AE title | SITE" in markdown(site)
