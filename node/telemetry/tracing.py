"""OpenTelemetry traces, one per study: a span for what was received on an association, and one for each attempt at a job, in
whichever process. Off unless [tracing] is set.

The trace ID is computed from the study instance UID, so processes and hosts need not tell each other. Spans hold the study's
UID, job numbers, states and names of the configuration, never text of a header or a peer.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from node.config.settings import TracingSettings
from node.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

Note = Callable[[str, str | int], None]
"""Adds an attribute to a span."""

_trace_id: ContextVar[int] = ContextVar("trace_id")
_tracer: "Tracer | None" = None


def trace_to_collector(settings: TracingSettings | None, node: str) -> None:
    """Send spans to a collector by OTLP over HTTP, in the background; None switches tracing off. `node` names this one.
    ConfigError when the extra is not installed."""
    if settings is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise ConfigError("[tracing] needs OpenTelemetry: pip install 'diffmsr-node[otel]'") from None
    trace_by(BatchSpanProcessor(OTLPSpanExporter(f"{settings.endpoint.rstrip('/')}/v1/traces")), node)


def trace_by(processor: "SpanProcessor", node: str) -> None:
    """Give spans to a processor."""
    global _tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class OfStudies(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _trace_id.get(0) or super().generate_trace_id()

    resource = Resource.create({"service.name": "diffmsr-node", "service.instance.id": node})
    provider = TracerProvider(resource=resource, id_generator=OfStudies())
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("diffmsr-node")


@contextmanager
def span(name: str, study_uid: str, started_ns: int | None = None, **attributes: str | int) -> Iterator[Note]:
    """A span of the trace of a study, for as long as the block takes; what is given to the function that it yields is added.
    `started_ns` is when it began, since 1970, if that was earlier. Does nothing while tracing is off."""
    if _tracer is None:
        yield lambda name, value: None
        return
    token = _trace_id.set(trace_id(study_uid))
    try:
        known: dict[str, Any] = {f"diffmsr.{key}": value for key, value in attributes.items()}
        with _tracer.start_as_current_span(
            name, start_time=started_ns, attributes=known | {"diffmsr.study": study_uid}, record_exception=False
        ) as made:
            yield lambda key, value: made.set_attribute(f"diffmsr.{key}", value)
    finally:
        _trace_id.reset(token)


def trace_id(study_uid: str) -> int:
    """The ID of the trace of a study, 128 bits."""
    return int.from_bytes(hashlib.sha256(study_uid.encode()).digest()[:16])
