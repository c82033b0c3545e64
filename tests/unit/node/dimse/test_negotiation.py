"""Our A-ASSOCIATE against pynetdicom's: the same requests are read, and the same contexts and roles come out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import build_context, build_role
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import negotiate_as_acceptor

from node.dimse.negotiation import (
    ContextResult,
    MalformedError,
    Proposal,
    Request,
    decode_request,
    encode_accept,
    encode_request,
    negotiate,
)
from node.receive.contexts import BOTH_ROLES, COMMITMENT, SUPPORTED, supported_contexts

SOP_CLASSES = [*SUPPORTED, "1.2.840.10008.5.1.4.1.1.2", "1.2.3"]
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.3.4"]
proposals = st.dictionaries(
    st.integers(0, 127).map(lambda n: 2 * n + 1),
    st.tuples(st.sampled_from(SOP_CLASSES), st.lists(st.sampled_from(SYNTAXES), min_size=1, max_size=5, unique=True)),
    min_size=1,
    max_size=12,
)
roles = st.dictionaries(
    st.sampled_from([COMMITMENT, "1.2.840.10008.5.1.4.1.1.4"]), st.tuples(st.booleans(), st.booleans()), max_size=2
)


def _theirs(proposed: dict[int, tuple[str, list[str]]], selected: dict[str, tuple[bool, bool]]) -> A_ASSOCIATE:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MR1", "DIFFMSR"
    length, class_uid, version = (
        MaximumLengthNotification(), ImplementationClassUIDNotification(), ImplementationVersionNameNotification(),
    )  # fmt: skip
    length.maximum_length_received = 12345
    class_uid.implementation_class_uid = "1.2.3.4"
    version.implementation_version_name = "TEST_1"
    items: list[Any] = [length, class_uid, version]
    items += [build_role(uid, scu_role=scu, scp_role=scp) for uid, (scu, scp) in selected.items() if scu or scp]
    primitive.user_information = items
    contexts = []
    for number, (abstract_syntax, syntaxes) in proposed.items():
        context = build_context(abstract_syntax, [*syntaxes])
        context.context_id = number
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    return primitive


@given(proposals, roles)
@settings(max_examples=60, deadline=None)
def test_it_reads_and_chooses_as_pynetdicom_does(
    proposed: dict[int, tuple[str, list[str]]], selected: dict[str, tuple[bool, bool]]
) -> None:
    primitive = _theirs(proposed, selected)
    written = A_ASSOCIATE_RQ()
    written.from_primitive(primitive)
    request = decode_request(written.encode()[6:])
    assert (request.called, request.calling, request.max_length) == ("DIFFMSR", "MR1", 12345)
    assert (request.implementation_class_uid, request.implementation_version) == ("1.2.3.4", "TEST_1")
    given_roles = {uid: some for uid, some in selected.items() if any(some)}
    assert request.roles == given_roles

    ours = negotiate(request, SUPPORTED, BOTH_ROLES)
    theirs, granted = negotiate_as_acceptor(
        primitive.presentation_context_definition_list, supported_contexts(), given_roles
    )
    expected = [(c.context_id, c.abstract_syntax, c.result, c.transfer_syntax[0]) for c in theirs]
    assert sorted((c.context_id, c.abstract_syntax, c.result) for c in ours) == [one[:3] for one in expected]
    accepted = {c.context_id: c.transfer_syntax for c in ours if c.result is ContextResult.ACCEPTED}
    assert accepted == {number: syntax for number, _, result, syntax in expected if result == 0}

    answer = A_ASSOCIATE_AC()
    answer.decode(encode_accept(request, ours, 65536, ("1.2.3", "OURS"), BOTH_ROLES))
    read = answer.to_primitive()
    results = {c.context_id: c.result for c in read.presentation_context_definition_results_list}
    assert results == {number: result for number, _, result, _ in expected}
    answered = {
        item.sop_class_uid: (item.scu_role, item.scp_role) for item in answer.user_information.role_selection.values()
    }
    assert answered == {item.sop_class_uid: (item.scu_role, item.scp_role) for item in granted}
    assert read.maximum_length_received == 65536


@given(proposals)
@settings(max_examples=30, deadline=None)
def test_pynetdicom_reads_the_requests_we_write(proposed: dict[int, tuple[str, list[str]]]) -> None:
    request = Request(
        called="DIFFMSR",
        calling="MR1",
        proposals=tuple(Proposal(number, uid, tuple(syntaxes)) for number, (uid, syntaxes) in proposed.items()),
        max_length=16384,
        implementation_class_uid="1.2.3",
        implementation_version="OURS",
        roles={COMMITMENT: (True, False)},
    )
    encoded = encode_request(request)
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(encoded)
    read = {
        context.context_id: (str(context.abstract_syntax), [str(syntax) for syntax in context.transfer_syntax])
        for context in theirs.to_primitive().presentation_context_definition_list
    }
    assert read == proposed
    again = decode_request(encoded[6:])
    assert again.proposals == request.proposals and again.roles == request.roles


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_malformed(body: bytes) -> None:
    for prefix in (b"", b"\0\1\0\0" + b"A" * 32 + bytes(32)):
        try:
            decode_request(prefix + body)
        except MalformedError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize("raw", [b"\x1b[2J", b"M\xfcller", b"A\\B", b""])
def test_a_title_that_is_none_can_be_told_and_shown(raw: bytes) -> None:
    title = decode_request(b"\0\1\0\0" + b"A".ljust(16) + raw.ljust(16) + bytes(32)).calling
    assert title.isprintable() and (not title or "\\" in title)
