"""The spans of a fabrication: one for each stage that ended and each request to a model, within its attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import taxshop
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from blackboard import tracing
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.types import Status
from fabricator import Fabricator
from fabricator.pipeline import STAGES
from registry import Registry


async def test_stages_and_requests_are_within_the_attempt_and_quote_nothing(
    redis_board: Board, registry: Registry, isolation: Any, post: Callable[..., Awaitable[Claim]]
) -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    specs = [taxshop.spec(properties=[taxshop.CLOSE])]
    claim, model = await post("add_tax"), taxshop.script(taxshop.WRONG, taxshop.RIGHT, specs=specs)
    tracing.use(provider)
    try:
        with tracing.attempt(redis_board.source, claim):
            done = await Fabricator(registry, isolation, model).handle(Attempt(redis_board, claim))
    finally:
        tracing.use(None)
    assert done.status is Status.SUCCEEDED
    *spans, attempt = kept.get_finished_spans()
    assert attempt.name == "fabricate"
    assert {each.parent.span_id for each in spans if each.parent} == {attempt.context.span_id}
    assert [each.name for each in spans if each.name.startswith("chat ")] == [f"chat {model.label}"] * 3
    passed = [
        each.name
        for each in spans
        if each.name.startswith("fabricate ") and each.status.status_code is StatusCode.UNSET
    ]
    assert [name.removeprefix("fabricate ") for name in dict.fromkeys(passed)] == [
        stage for stage in STAGES if stage != "taint"
    ]
    failed = [each for each in spans if each.status.status_code is StatusCode.ERROR]
    assert [dict(each.attributes or {}) for each in failed] == [
        {"arbiter.stage": "exam_public", "arbiter.round": 0, "arbiter.outcome": "failed"}
    ]
    assert all(each.start_time <= each.end_time for each in spans)  # type: ignore[operator]
    assert not [each for each in spans if "tax" in each.to_json()]
