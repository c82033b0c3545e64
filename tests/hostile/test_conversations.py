"""Thousands of generated conversations, while a scanner is served and others hold what they can hold.

2,000 by default; `make soak` sets HOSTILE_EXAMPLES."""

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile.conftest import Node, Scanner
from tests.hostile.conversations import REFUSALS, ROOT, Conversation, Then, conversations
from tests.hostile.wire import DATA, RQ, Wire, associate_body, pdu
from tests.waiting import STUCK_S, until

POOLED = 4 * 3
"""Descriptors of connections to the tracker that stay open for the next time: four more than a single scanner needs, each with the
database, its log and the index of that."""
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "2000"))
ADDRESS = "127.0.8.1"


class Crowd:
    """Peers that hold what they can hold, and come again when they are thrown out."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._hold, args=(f"127.0.9.{n}", first), daemon=True)
            for n, first in enumerate([b"", b"\x01", pdu(RQ, b"x" * 99, length=200), b"associated", b"half"], 1)
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(STUCK_S)

    def _hold(self, address: str, first: bytes) -> None:
        while not self._done.is_set():
            try:
                with Wire(self._node.port, address=address) as wire:
                    if first in (b"associated", b"half"):
                        wire.send(pdu(RQ, associate_body()))
                        wire.receive()
                    if first != b"associated":
                        wire.send(pdu(DATA, b"", length=5000) if first == b"half" else first)
                    wire.socket.settimeout(0.5)
                    while not self._done.is_set():
                        try:
                            if not wire.socket.recv(100):
                                break
                        except TimeoutError:
                            continue
            except OSError:
                time.sleep(0.05)


class Talk:
    """Plays conversations, and keeps account of what came of them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.kept: dict[str, bytes] = {}
        self.said: Counter[str] = Counter()
        self.refusals = self.left = 0

    def play(self, conversation: Conversation) -> None:
        with Wire(self._node.port, address=ADDRESS) as wire:
            for step in conversation.steps:
                self.said[step.name] += 1
                try:
                    self._send(wire, step.sends, conversation.pieces)
                except ConnectionError:
                    assert step.then is not Then.GO_ON, f"{step.name}: the node closed the connection"
                if step.then is Then.PEER_LEAVES:  # without having read what was said to it, if anything
                    self.left += 1
                    return
                for kinds in step.answers:
                    answer = wire.receive()
                    assert answer is not None, f"{step.name}: no answer"
                    assert answer.kind in kinds, (step.name, answer)
                    self.refusals += answer.kind in REFUSALS
                    if answer.kind == DATA and answer.body[5] == 3:  # in one piece
                        assert answer.status in step.statuses, (step.name, hex(answer.status))
                        if step.stores and answer.status == 0:
                            self.kept[step.stores[0]] = step.stores[1]
                    while answer.kind == DATA and not answer.body[5] & 2:
                        more = wire.receive()
                        assert more is not None
                        answer = more
                if step.then is Then.NODE_CLOSES:
                    assert wire.closed(), step.name
                    return

    @staticmethod
    def _send(wire: Wire, data: bytes, pieces: list[int]) -> None:
        for piece in pieces:
            wire.send(data[:piece])
            data = data[piece:]
        wire.send(data)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node")
    yield node
    assert node.stop() == 0


def test_generated_conversations(watched: Node) -> None:
    node = watched
    with Scanner(node, root="1.2.826.51") as scanner:  # everything is imported and warm
        scanner.gets_through(20)
    memory, threads, descriptors = node.status("VmRSS"), node.status("Threads"), node.descriptors()
    numbers = itertools.count(10_000_000)  # all of one length: what is drawn must not depend on them
    talk = Talk(node)

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(conversations(lambda: f"{ROOT}.{next(numbers)}"))
    def converse(conversation: Conversation) -> None:
        talk.play(conversation)

    with Scanner(node, root="1.2.826.52", pause_s=0.1) as scanner, Crowd(node):
        converse()
        scanner.gets_through()
        assert node.status("VmRSS") < memory + 50_000
    scanner.lost_nothing()

    stored = node.stored(talk.kept)
    mine = {uid: content for uid, content in stored.items() if uid.startswith(f"{ROOT}.")}
    for uid, content in talk.kept.items():
        assert mine[uid].endswith(content), uid
    until(lambda: node.status("Threads") <= threads, "all threads have ended")
    until(lambda: node.descriptors() <= descriptors + POOLED + 2, "all descriptors have been given back")
    print(
        f"{EXAMPLES} conversations: {memory / 1000:.0f} MB, {threads} threads, {descriptors} descriptors before; "
        f"{node.status('VmRSS') / 1000:.0f} MB, {node.status('Threads')} threads, {node.descriptors()} descriptors after; "
        f"a scanner was associated within {scanner.slowest_s:.2f} s each time, load {os.getloadavg()[0]:.1f}"
    )
    assert node.status("VmRSS") < memory + 50_000
    log = node.raw_log()
    assert b"Traceback" not in log and b'"crashed"' not in log and b'.crashed"' not in log and b"\x1b" not in log
    refused = [e for kind in ("aborted", "rejected") for e in node.lines(f"association.{kind}", host=ADDRESS)]
    assert talk.refusals <= len(refused) <= talk.refusals + talk.left, "each refusal is one line of the log"
    assert all(line["reason"] and line["check"] for line in refused)
    assert not list((node.folder / "data" / "incoming").rglob(".part-*"))
    assert (
        min(talk.said[name] for name in ("a request", "a store", "an echo", "cut", "shuffled") if name in talk.said) > 0
    )


@given(st.data())
@settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_a_slow_peer_is_as_good_as_a_fast_one(node: Node, data: st.DataObject) -> None:
    """As long as each PDU keeps its time limit, pauses anywhere change nothing."""
    request = pdu(RQ, associate_body())
    cuts = sorted(data.draw(st.lists(st.integers(1, len(request) - 1), max_size=3, unique=True)))
    with Wire(node.port, address="127.0.8.2") as wire:
        begin = 0
        for end in [*cuts, len(request)]:
            wire.send(request[begin:end])
            begin = end
            time.sleep(0.01)
        answer = wire.receive()
        assert answer is not None and answer.kind == 2
        wire.release()
