"""Spans of OpenTelemetry, where this process makes any; elsewhere every call here does nothing, and nothing is imported for it.

All spans of a run are in one trace, whichever process makes them, because its id and that of the span of the whole run are
derived from the run's id: nothing is stored or passed on. That span is made in the end, by the process that ends the run. A span
tells names, ids, numbers and kinds of errors; never a text of a request, a model or a task.

Spans are made by the process that holds a task, never by generated code. What goes wrong in making one is told in the log once,
and nothing else comes of it.

Source: W3C Trace Context; OpenTelemetry semantic conventions for generative AI (names that begin with ``gen_ai.``).
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from blackboard.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context

    from blackboard.claims import Claim

log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | Sequence[str]]

_EXPORTERS = {"otlp": {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NAMES = {"step": "plan", "fabrication": "fabricate"}
_WELL = ("succeeded", "given_back")


_given: ContextVar[tuple[int, int] | None] = ContextVar("arbiter_span_ids", default=None)
"""Trace and span of the one span whose ids are not random, while it is begun."""


class _Making:
    """What makes the spans of this process."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            def generate_trace_id(self) -> int:
                given = _given.get()
                return given[0] if given else super().generate_trace_id()

            def generate_span_id(self) -> int:
                given = _given.get()
                return given[1] if given else super().generate_span_id()

        self.provider, self.told = provider, False
        self.exact = hasattr(provider, "id_generator")
        """Whether a span can be given its ids; else that of a run is one within it."""
        if not self.exact:
            self.tracer: trace.Tracer = provider.get_tracer("arbiter")
            return
        usual = provider.id_generator
        try:
            provider.id_generator = Ids()  # a tracer keeps the one it was made with
            self.tracer = provider.get_tracer("arbiter")
        finally:
            provider.id_generator = usual


_making: _Making | None = None


def start() -> None:
    """Make spans from now on, if the program has set a tracer provider or the ``OTEL_*`` variables ask for it.

    Raises:
        MissingExtra: the exporter that they name is not installed.
        BadInput: they name one, or a protocol, that there is not. Where they name none, and only where to send, the log has it.
    """
    if _making is not None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    if (known := sys.modules.get("opentelemetry.trace")) is not None:
        provider = known.get_tracer_provider()
        if not isinstance(provider, known.ProxyTracerProvider):
            use(provider)
            return
    asked = os.environ.get("OTEL_TRACES_EXPORTER")
    if asked == "none" or not (asked or any(os.environ.get(name) for name in _ENDPOINTS)):
        return
    try:
        use(_provider([_exporter(name.strip()) for name in (asked or "otlp").split(",")]))
    except (BadInput, MissingExtra) as error:
        if asked:
            raise
        log.warning("no traces are sent: %s", error)  # the endpoint may be meant for other programs of this machine


def use(provider: trace.TracerProvider | None) -> None:
    """Make spans with this provider; None makes none."""
    global _making
    _making = None if provider is None else _Making(provider)


def _provider(exporters: Sequence[Any]) -> trace.TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    # It is not set for the whole program: agents of Strands tell their prompts to a provider that is.
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "arbiter"}))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str) -> Any:
    from importlib.metadata import entry_points

    wanted = name
    if name in _EXPORTERS:
        protocols = _EXPORTERS[name]
        variable = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
        if not os.environ.get(variable):
            variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
        protocol = os.environ.get(variable) or "http/protobuf"
        if protocol not in protocols:
            raise BadInput(variable, protocol, f"Write one of: {', '.join(protocols)}.")
        wanted = protocols[protocol]
    found = [*entry_points(group="opentelemetry_traces_exporter", name=wanted)]
    if found:
        return found[0].load()()
    if wanted == "otlp_proto_http":
        raise MissingExtra("Sending traces needs the exporter: pip install 'arbiter[otel]'")
    raise BadInput("OTEL_TRACES_EXPORTER", name, f"No exporter {wanted!r} is installed. Write otlp, console or none.")


class Span:
    """A span that is current within ``with``; one without ``made`` does nothing."""

    __slots__ = ("_made", "_token")

    def __init__(self, made: trace.Span | None) -> None:
        self._made, self._token = made, None

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""
        if self._made is not None:
            self._made.set_attributes(dict(attributes))

    def failed(self, kind: str = "") -> None:
        """It ended badly, with an error of this kind if there is one."""
        if self._made is not None:
            from opentelemetry.trace import StatusCode

            self._made.set_status(StatusCode.ERROR)
            if kind:
                self._made.set_attribute("error.type", kind)

    def ended(self, outcome: str) -> None:
        """An attempt, or a run, came to this."""
        self.set({"arbiter.outcome": outcome})
        if outcome not in _WELL:
            self.failed()

    def __enter__(self) -> Self:
        if self._made is not None:
            from opentelemetry import context, trace

            self._token: Any = context.attach(trace.set_span_in_context(self._made))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._made is None:
            return
        from opentelemetry import context

        context.detach(self._token)
        if isinstance(error, Exception):
            self.failed(type(error).__name__)
        _guarded(self._made.end)


NONE = Span(None)
"""The one that does nothing."""


def span(name: str, attributes: Attributes | None = None, *, outwards: bool = False) -> Span:
    """A span within the current one; none where there is no current one.

    Args:
        outwards: it is a request to another system.
    """
    making = _making
    if making is None or not _inside():
        return NONE
    return _started(lambda: making.tracer.start_span(name, kind=_kind(outwards), attributes=dict(attributes or {})))


def past(name: str, seconds: float, attributes: Attributes, *, failed: bool = False) -> None:
    """A span within the current one that ends now and began so many seconds ago."""
    making = _making
    if making is None or not _inside():
        return
    begun = time.time_ns() - round(seconds * 1e9)
    with _started(lambda: making.tracer.start_span(name, attributes=dict(attributes), start_time=begun)) as made:
        if failed:
            made.failed()


def note(attributes: Attributes) -> None:
    """Say more about the current span."""
    if _making is not None:
        from opentelemetry import trace

        Span(trace.get_current_span()).set(attributes)


def attempt(board: str, claim: Claim) -> Span:
    """The span of an attempt, in the trace of its run.

    Args:
        board: its source, which tells runs of several boards apart.
    """
    making = _making
    if making is None:
        return NONE
    attributes: dict[str, str | int] = {
        "arbiter.run.id": claim.run_id, "arbiter.task.id": claim.task_id, "arbiter.task.kind": claim.kind,
        "arbiter.attempt": claim.attempt, "arbiter.round": claim.round, "arbiter.tenant": claim.tenant,
        "gen_ai.conversation.id": claim.run_id,
    }  # fmt: skip
    name = _NAMES.get(claim.kind, claim.kind)
    if claim.kind == "capability":
        name = f"execute_tool {claim.capability}"
        attributes |= {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": claim.capability,
            "gen_ai.tool.call.id": claim.tool_use_id,
        }  # fmt: skip
    within = _within_run(making, board, claim.run_id)
    return _started(lambda: making.tracer.start_span(name, context=within, attributes=attributes))


def run(board: str, run_id: str, kind: str, seconds: float, status: str) -> None:
    """The span of a whole run that ended now, so many seconds after it was accepted."""
    making = _making
    if making is None:
        return
    from opentelemetry.context import Context

    begun = time.time_ns() - round(seconds * 1e9)
    within = Context() if making.exact else _within_run(making, board, run_id)
    attributes = {
        "arbiter.run.id": run_id, "arbiter.run.kind": kind, "arbiter.outcome": status,
        "gen_ai.operation.name": "invoke_workflow", "gen_ai.conversation.id": run_id,
    }  # fmt: skip

    token = _given.set(ids(board, run_id))
    try:
        made = _started(lambda: making.tracer.start_span("run", within, attributes=attributes, start_time=begun))
    finally:
        _given.reset(token)
    with made:
        made.ended(status)


def submitted(board: str, run_id: str, traceparent: str | None = None) -> None:
    """A span for the acceptance of a run, in the trace of whoever submitted it, that leads to the run's own.

    Args:
        traceparent: of that trace, in the form of W3C. Default: the current span; without either there is none.
    """
    making = _making
    if making is None:
        return
    from opentelemetry import trace

    context = _carried(traceparent) if traceparent and not _inside() else None
    if not trace.get_current_span(context).get_span_context().is_valid:
        return
    link = trace.Link(trace.get_current_span(_within_run(making, board, run_id)).get_span_context())
    attributes = {"arbiter.run.id": run_id, "gen_ai.conversation.id": run_id}
    kind = trace.SpanKind.PRODUCER
    with _started(lambda: making.tracer.start_span("submit", context, kind, attributes, [link])):
        pass


class Caller:
    """Within ``with``, the span that a ``traceparent`` names is the current one."""

    def __init__(self, traceparent: str | None) -> None:
        self._traceparent = traceparent if _making is not None else None
        self._token: Any = None

    def __enter__(self) -> None:
        if self._traceparent:
            from opentelemetry import context

            self._token = context.attach(_carried(self._traceparent))

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            from opentelemetry import context

            context.detach(self._token)


def ids(board: str, run_id: str) -> tuple[int, int]:
    """Of a run, the trace and the span of the whole."""
    digest = hashlib.sha256(f"{board}\0{run_id}".encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def current() -> dict[str, str]:
    """``trace_id`` and ``span_id`` of the current span, for a log; empty without one."""
    if _making is None:
        return {}
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(found.trace_id), "span_id": trace.format_span_id(found.span_id)}


def _inside() -> bool:
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().is_valid


def _carried(traceparent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _within_run(making: _Making, board: str, run_id: str) -> Context:
    """The context of the whole run's span, sampled as every process would decide about it."""
    from opentelemetry import trace
    from opentelemetry.context import Context

    trace_id, span_id = ids(board, run_id)
    sampler = getattr(making.provider, "sampler", None)
    sampled = sampler is None or sampler.should_sample(Context(), trace_id, "run").decision.is_sampled()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    found = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(found), Context())


def _kind(outwards: bool) -> trace.SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind.CLIENT if outwards else SpanKind.INTERNAL


def _started(start: Callable[[], trace.Span]) -> Span:
    return Span(_guarded(start))


def _guarded(call: Callable[[], Any]) -> Any:
    """Tracing is not what anybody came for: what goes wrong there is told once and passed over."""
    try:
        return call()
    except Exception as error:
        if _making is not None and not _making.told:
            _making.told = True
            log.warning("spans are lost: %s: %s", type(error).__name__, error)
        return None
