"""Generated conversations of the upper layer: what a peer sends, step by step, and what the standard lets the node answer.

A walk over the acceptor's states of PS3.8 table 9-10: awaiting a request, established, ended. Each step is valid, cut,
reordered, oversized, damaged or slow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from hypothesis import strategies as st

from tests.hostile.test_messages import BROKEN, NEVER_ACCEPTED
from tests.hostile.test_requests import MALFORMED
from tests.hostile.wire import (
    ABORT,
    AC,
    DATA,
    EXPLICIT,
    IMPLICIT,
    MR,
    RELEASE_RP,
    RELEASE_RQ,
    RJ,
    RQ,
    VERIFICATION,
    associate_body,
    data_set,
    echo_command,
    item,
    pdu,
    pdv,
    store_command,
)

ROOT = "1.2.826.50"


class Then(Enum):
    """What comes after a step's answers."""

    GO_ON = "the conversation goes on"
    NODE_CLOSES = "the node closes the connection"
    PEER_LEAVES = "the peer leaves, whatever the node would say"


@dataclass(frozen=True)
class Step:
    """What is sent, and what has to come: for each answer the PDU types and, for responses, the statuses that may come."""

    name: str
    sends: bytes
    answers: Sequence[frozenset[int]] = ()
    statuses: frozenset[int] = frozenset()
    then: Then = Then.GO_ON
    stores: tuple[str, bytes] | None = None
    """SOP instance UID and data set that must be kept once the answer is success."""


@dataclass
class Conversation:
    steps: list[Step] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    """Where what is sent is cut into pieces: TCP is free to deliver it so."""


_ONE_OF = {name: frozenset({kind}) for name, kind in (("AC", AC), ("RP", RELEASE_RP), ("DATA", DATA), ("ABORT", ABORT))}
_TITLES = st.sampled_from([b"DIFFMSR", b"ANY-SCP", b"A", b"SIXTEEN-LETTERS!"])
_SYNTAXES = st.lists(st.sampled_from([EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.4.70", "1.2.3"]), min_size=1, max_size=4)
_OTHER_IDS = st.integers(2, 120).map(lambda n: 2 * n + 1).filter(lambda number: number != NEVER_ACCEPTED)
_OTHER_CONTEXTS = st.dictionaries(
    _OTHER_IDS,
    st.tuples(st.sampled_from([MR, "1.2.840.10008.5.1.4.1.1.2", VERIFICATION, "1.2"]), _SYNTAXES).map(
        lambda p: (p[0], *p[1])
    ),
    max_size=4,
)
_EXTRA = st.sampled_from([
    b"", item(0x55, b"HOSTILE_1"), item(0x53, b"\0\2\0\2"), item(0x54, b"\0\x07" + b"1.2.840" + b"\1\1"), item(0x99, b"?"),
    item(0x58, b"\2\0\0\3abc\0\3def"), item(0x55, b"\x1b[31m"),
])  # fmt: skip


@st.composite
def _request(draw: st.DrawFn) -> Step:
    """Whatever a peer may begin with."""
    kind = draw(st.sampled_from(["good"] * 12 + ["malformed"] * 4 + ["bytes", "cut", "early data", "abort"]))
    good = pdu(RQ, associate_body(
        draw(_TITLES), draw(_TITLES), {1: (MR, EXPLICIT), 3: (VERIFICATION, IMPLICIT)} | draw(_OTHER_CONTEXTS),
        extra=draw(_EXTRA), max_length=draw(st.sampled_from([0, 64, 16384, 1 << 20])),
    ))  # fmt: skip
    if kind == "malformed":
        name = draw(st.sampled_from(sorted(MALFORMED)))
        sent, expected, _ = MALFORMED[name]
        return Step(name, sent, [frozenset({expected.kind})], then=Then.NODE_CLOSES)
    if kind == "bytes":
        return Step("bytes", draw(st.binary(max_size=200)), then=Then.PEER_LEAVES)
    if kind == "cut":
        return Step("a cut request", good[: draw(st.integers(0, len(good) - 1))], then=Then.PEER_LEAVES)
    if kind == "early data":
        # All at once, without waiting for the acceptance: the node takes it once it has accepted.
        echo = pdu(DATA, pdv(3, echo_command(), command=True))
        return Step("early data", good + echo, [_ONE_OF["AC"], _ONE_OF["DATA"]], frozenset({0}))
    if kind == "abort":
        return Step("an abort first", pdu(ABORT, bytes(4)), then=Then.NODE_CLOSES)
    return Step("a request", good, [_ONE_OF["AC"]])


def _cut_into_pdus(draw: st.DrawFn, command: bytes, content: bytes) -> bytes:
    """A message in presentation data values, and these in PDUs, of any size."""
    ends = sorted(draw(st.lists(st.integers(0, len(content)), max_size=5)))
    values = [pdv(1, command, command=True)]
    begin = 0
    for end in [*ends, len(content)]:
        values.append(pdv(1, content[begin:end], command=False, last=end == len(content)))
        begin = end
        if end == len(content):
            break
    sent = b""
    while values:
        count = draw(st.integers(1, len(values)))
        sent += pdu(DATA, b"".join(values[:count]))
        values = values[count:]
    return sent


@st.composite
def _message(draw: st.DrawFn, next_uid: Callable[[], str], kept: dict[str, bytes]) -> Step:
    """Whatever may come within an association; `kept` is what this conversation has stored so far."""
    kind = draw(st.sampled_from(
        ["store"] * 6 + ["echo"] * 4 + ["broken"] * 3 + ["again", "other content", "damaged", "cut", "shuffled", "no UID"]
        + ["release"] * 3 + ["abort"]
    ))  # fmt: skip
    if kind in ("again", "other content") and not kept:
        kind = "echo"
    if kind == "echo":
        echo = pdu(DATA, pdv(3, echo_command(), command=True))
        return Step("an echo", echo, [_ONE_OF["DATA"]], frozenset({0}))
    if kind == "release":
        return Step("a release", pdu(RELEASE_RQ, bytes(4)), [_ONE_OF["RP"]], then=Then.NODE_CLOSES)
    if kind == "abort":
        return Step("an abort", pdu(ABORT, bytes(4)), then=Then.NODE_CLOSES)
    if kind == "broken":
        name = draw(st.sampled_from(sorted(BROKEN)))
        return Step(name, BROKEN[name][0], [_ONE_OF["ABORT"]], then=Then.NODE_CLOSES)
    if kind == "again":
        sop_uid = draw(st.sampled_from(sorted(kept)))
        sent = _cut_into_pdus(draw, store_command(sop_uid.encode()), kept[sop_uid])
        return Step("the same again", sent, [_ONE_OF["DATA"]], frozenset({0}))
    if kind == "other content":
        sop_uid = draw(st.sampled_from(sorted(kept)))
        sent = _cut_into_pdus(draw, store_command(sop_uid.encode()), kept[sop_uid][:-4] + b"\xff\xff\xff\xff")
        return Step("other content", sent, [_ONE_OF["DATA"]], frozenset({0xC111}))
    sop_uid = next_uid()
    content = data_set(sop_uid, f"{ROOT}.0", f"{ROOT}.0.1", bytes(8 * draw(st.integers(1, 40))))
    if kind == "damaged":
        at = draw(st.integers(0, min(250, len(content) - 1)))
        content = content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at + 4 :]
        sent = _cut_into_pdus(draw, store_command(sop_uid.encode()), content)
        stores = (sop_uid, content)
        return Step("a damaged data set", sent, [_ONE_OF["DATA"]], frozenset({0, 0xC000, 0xA900}), stores=stores)
    if kind == "no UID":
        sent = _cut_into_pdus(draw, store_command(draw(st.sampled_from([b"", b"1..2", b"x", b"1.2\0\0\0\0"]))), content)
        return Step("no UID", sent, [_ONE_OF["DATA"]], frozenset({0x0117, 0xA900}))
    sent = _cut_into_pdus(draw, store_command(sop_uid.encode()), content)
    if kind == "cut":
        return Step("a cut message", sent[: draw(st.integers(0, len(sent) - 1))], then=Then.PEER_LEAVES)
    if kind == "shuffled":
        values = [
            pdv(1, store_command(sop_uid.encode()), command=True),
            pdv(1, content, command=False),
            pdv(3, echo_command(), True),
        ]
        order = draw(st.permutations(values).filter(lambda some: some.index(values[1]) < some.index(values[0])))
        # An echo before what is out of turn is still answered.
        answers = [_ONE_OF["DATA"]] if order[0] == values[2] else []
        sent = b"".join(pdu(DATA, value) for value in order)
        return Step("shuffled", sent, [*answers, _ONE_OF["ABORT"]], frozenset({0}), Then.NODE_CLOSES)
    kept[sop_uid] = content
    return Step("a store", sent, [_ONE_OF["DATA"]], frozenset({0}), stores=(sop_uid, content))


@st.composite
def conversations(draw: st.DrawFn, next_uid: Callable[[], str]) -> Conversation:
    """A request and, when it is accepted, up to six messages."""
    steps = [draw(_request())]
    kept: dict[str, bytes] = {}
    while steps[-1].then is Then.GO_ON and len(steps) < draw(st.integers(2, 7)):
        steps.append(draw(_message(next_uid, kept)))
    return Conversation(steps, draw(st.lists(st.integers(1, 300), max_size=4)))


REFUSALS = frozenset({ABORT, RJ})
