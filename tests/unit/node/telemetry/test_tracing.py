"""A trace per study, with a span for each attempt, whoever makes it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from node.config.settings import Settings, TracingSettings
from node.telemetry import tracing
from node.tracker import queue
from node.tracker.database import Database
from node.tracker.handle import Tracker
from node.tracker.outcomes import Done, NewJob, Retry
from node.tracker.states import Kind
from node.tracker.worker import attempt


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "_tracer", None)  # and off again when the test ends
    tracing.trace_by(SimpleSpanProcessor(kept), "DIFFMSR")
    yield kept


def test_every_attempt_at_a_study_is_a_span_of_one_trace(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tracker.sqlite3'}")
    database.upgrade()
    tracker = Tracker(database)
    for key, study in (("a", "1.2.3"), ("b", "1.2.3"), ("c", "9.9")):
        queue.enqueue(tracker, NewJob(Kind.INFER, key, study, {}, 3), "test")
    for outcome in (Done("made"), Retry("the PACS is down", 5), Done("made")):
        claim = queue.claim(tracker, Kind.INFER, "host/infer/1")
        assert claim is not None
        attempt(tracker, claim, lambda lease, outcome=outcome: outcome, threading.Event(), 0)  # type: ignore[misc]
    with tracing.span("receive", "1.2.3", 10**18, instances=17, source="MR1"):
        pass
    spans = exporter.get_finished_spans()

    def trace_of(span: ReadableSpan) -> int:
        assert span.context is not None
        return span.context.trace_id

    assert [span.name for span in spans] == ["infer", "infer", "infer", "receive"]
    assert [trace_of(span) for span in spans] == [tracing.trace_id(s) for s in ("1.2.3", "1.2.3", "9.9", "1.2.3")]
    states = [dict(span.attributes or {})["diffmsr.state"] for span in spans[:3]]
    assert states == ["done", "retry-wait", "done"]
    assert "the PACS is down" not in str([span.to_json() for span in spans]), "no text of an error"
    assert spans[3].start_time == 10**18
    assert len({span.context.span_id for span in spans if span.context}) == 4


def test_tracing_is_off_unless_it_is_configured() -> None:
    assert Settings().tracing is None
    tracing.trace_to_collector(None, "DIFFMSR")
    with tracing.span("infer", "1.2.3") as note:
        note("state", "done")
    with pytest.raises(ValueError, match="endpoint"):
        TracingSettings(endpoint="collector:4318")
