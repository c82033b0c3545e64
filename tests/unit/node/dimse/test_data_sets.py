"""The data sets of storage commitment are read as they were written, and every status code has a meaning."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pynetdicom.dsutils import decode, encode

from node.dimse import status
from node.dimse.commitment_messages import ReferencedInstance, Report, read_report, read_request, report, request
from node.dimse.status import Verdict, meaning, words

uids = st.lists(st.integers(0, 99999), min_size=2, max_size=8).map(lambda parts: ".".join(map(str, parts)))
instances = st.builds(ReferencedInstance, uids, uids)


def over_the_wire(ds: Dataset, implicit: bool) -> Dataset:
    raw = encode(ds, implicit, True)
    assert raw is not None
    return decode(BytesIO(raw), implicit, True)


@given(uids, st.lists(instances, min_size=1, unique=True), st.booleans())
def test_a_request_is_read_as_it_was_written(
    transaction: str, wanted: list[ReferencedInstance], implicit: bool
) -> None:
    assert read_request(over_the_wire(request(transaction, wanted), implicit)) == (transaction, wanted)


@given(uids, st.lists(instances), st.dictionaries(instances, st.integers(1, 0xFFFF)), st.booleans())
def test_a_report_is_read_as_it_was_written(
    transaction: str, committed: list[ReferencedInstance], failed: dict[ReferencedInstance, int], implicit: bool
) -> None:
    said = Report(transaction, committed, failed)
    assert read_report(over_the_wire(report(said), implicit)) == said
    assert said.event_type == (2 if failed else 1)


@pytest.mark.parametrize("transaction", ["", "../x", "1..2", "1" * 65])
@pytest.mark.parametrize("sop_uid", ["1.2", "", "../x"])
def test_malformed_uids_are_refused(transaction: str, sop_uid: str) -> None:
    with pytest.raises(ValueError, match="well-formed"):
        read_request(request(transaction, [ReferencedInstance("1.2", sop_uid)]))
    with pytest.raises(ValueError, match="well-formed"):
        read_report(report(Report(transaction, [ReferencedInstance("1.2", sop_uid)])))


@given(
    st.sampled_from([status.C_STORE, status.N_ACTION, status.C_FIND, status.C_GET, status.C_MOVE]),
    st.integers(0, 0xFFFF),
)
def test_every_status_has_a_meaning_and_only_known_ones_end_the_trying(
    table: tuple[status.Meaning, ...], code: int
) -> None:
    found = meaning(table, code)
    assert found.first <= code <= found.last
    assert words(table, code) == f"0x{code:04X} ({found.words})"
    if found not in table:
        assert found.verdict is Verdict.RETRY
