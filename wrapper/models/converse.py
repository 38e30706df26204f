"""One question to a model, one whole reply. Which layer repeats a call that failed is said here, and is one for each error.

A cut or empty reply is repeated here. What else passes (throttling, 5xx, lost connections, time-outs) is repeated here
for callers that have nowhere else to wait, and by the task for those that run as one (``durable``).

Strands' ``Agent`` retries throttling and nothing else, reads a cut stream as an empty final answer and turns malformed
tool arguments into ``{}``. The planner therefore consumes ``Model.stream`` directly through :func:`converse`. Clients
underneath must not retry on their own, or attempts multiply: :func:`wrapper.models.resolve` builds them that way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from blackboard import current, timings, tracing
from blackboard.budgets import Paced
from blackboard.errors import ArbiterError, BadInput
from blackboard.types import Usage
from wrapper.binary import unpack
from wrapper.models.describe import describe, provider_of
from wrapper.models.estimate import estimate_request
from wrapper.models.failures import (
    ContextOverflow,
    ModelCallFailed,
    ModelTransient,
    ReplyTruncated,
    StreamCut,
    diagnose,
)
from wrapper.models.reply import Reply, ReplyBuilder

if TYPE_CHECKING:
    from strands.models import Model
    from strands.types.content import Message, Messages
    from strands.types.tools import ToolChoice, ToolSpec

LONGEST_WAIT_SECONDS = 60.0
"""A provider that asks for a longer wait than this (``Retry-After``) ends the call: nobody gains by holding a task."""

_backoff = wait_random_exponential(multiplier=0.5, max=20)


async def converse(
    model: Model,
    messages: Sequence[Message],
    *,
    tools: Sequence[ToolSpec] = (),
    system: str | None = None,
    tool_choice: ToolChoice | None = None,
    timeout_seconds: float = 120.0,
    attempts: int = 4,
    durable: bool = False,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Reply:
    """Ask a model once and return its whole reply, repeating the call while the provider is at fault.

    Throttling, 408, 424, 429, 5xx, timeouts, lost connections and cut or damaged streams are tried again with full
    jitter between growing bounds (0.5 s doubling to 20 s), after the ``Retry-After`` of the provider when it sent one.

    Args:
        model: any Strands model.
        messages: the conversation in Bedrock shape, oldest first; not modified. Only ``role`` and ``content`` are sent.
        tools: specifications of the tools offered, in Bedrock's inner ``toolSpec`` shape.
        system: system prompt.
        tool_choice: which tool must be used, if any, in Bedrock shape.
        timeout_seconds: bound of one attempt, from request to last event.
        attempts: how often the call is tried at most, at least 1.
        durable: the caller is a task that is tried again on the board's own timer, which outlives this process: only
            cut, damaged and empty replies are repeated here, whatever else passes is raised at once.
        sleep: awaited with the seconds between attempts; tests pass their own.

    Returns:
        The reply. Its usage includes attempts that had begun to answer before they failed, and is marked as estimated
        when a provider did not report it.

    Raises:
        BadInput: the conversation is empty or not in Bedrock shape, or ``attempts`` or ``timeout_seconds`` is not positive.
        ReplyTruncated: the model reached its output limit; the partial reply is attached. Not tried again.
        ContextOverflow: the conversation does not fit the model. Not tried again.
        StreamCut: the stream ended early, or brought an empty reply that consumed nothing, in every attempt.
        ModelTransient: any other transient failure that lasted for every attempt.
        ModelCallFailed: the provider refused for good (credentials, validation, unknown model). All of these are
            :class:`~blackboard.errors.ModelUnavailable`.
    """
    _check(messages)
    if attempts < 1:
        raise BadInput("attempts", attempts, "Use 1 or more.")
    if timeout_seconds <= 0:
        raise BadInput("timeout_seconds", timeout_seconds, "Use a positive number of seconds.")
    call = _Call(model, messages, list(tools), system, tool_choice, timeout_seconds)
    retrying = AsyncRetrying(
        stop=stop_after_attempt(attempts),
        retry=retry_if_exception(_cut if durable else _worth_repeating),
        wait=_wait,
        sleep=sleep,
        reraise=True,
    )
    return await retrying(call.attempt)


def _check(messages: Sequence[object]) -> None:
    """Refuse what is not a conversation: it may come from generated code."""
    if not messages:
        raise BadInput("messages", [], "Pass at least one user message.")
    for index, item in enumerate(messages):
        message = _mapping(item)
        content: object = message.get("content")
        if message.get("role") not in ("user", "assistant") or not isinstance(content, list):
            remedy = 'Write {"role": "user" or "assistant", "content": [blocks]}.'
            raise BadInput(f"messages[{index}]", item, remedy)
        for position, block in enumerate(cast("list[object]", content)):
            known = _mapping(block)
            if not known or ("toolUse" in known and not _mapping(known["toolUse"]).get("toolUseId")):
                remedy = 'Write a content block such as {"text": …}; a toolUse needs its toolUseId.'
                raise BadInput(f"messages[{index}].content[{position}]", block, remedy)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, ModelTransient) and (error.retry_after or 0.0) <= LONGEST_WAIT_SECONDS


def _cut(error: BaseException) -> bool:
    return isinstance(error, StreamCut)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ModelTransient) else None
    return (asked or 0.0) + _backoff(state)


class _Call:
    """One call of :func:`converse`: counts its attempts and what they consumed."""

    def __init__(
        self,
        model: Model,
        messages: Sequence[Message],
        tools: list[ToolSpec],
        system: str | None,
        tool_choice: ToolChoice | None,
        timeout_seconds: float,
    ) -> None:
        self.model, self.messages, self.tools = model, messages, tools
        self.system, self.tool_choice, self.timeout_seconds = system, tool_choice, timeout_seconds
        self.tried = 0
        self.spent = Usage()

    async def attempt(self) -> Reply:
        provider, name = provider_of(self.model)
        attributes = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": name,
            "gen_ai.request.stream": True,
        }  # fmt: skip
        with tracing.span(f"chat {name}", attributes, outwards=True) as span:
            return await self._attempt(span)

    async def _attempt(self, span: tracing.Span) -> Reply:
        self.tried += 1
        builder = ReplyBuilder()
        began = time.monotonic()
        failure: Exception | None = None
        outcome = "stopped"
        try:
            await self._receive(builder)
            outcome = "failed" if builder.fault() else "succeeded"
        except Paced as error:  # nothing was asked
            failure, outcome = error, ""
        except ArbiterError:
            # There is no budget for it, or a scripted or recorded model objects to the request itself: nothing was asked.
            outcome = ""
            raise
        except Exception as error:
            failure = error
            outcome = "succeeded" if self._complete_despite(error, builder) else "failed"
        finally:
            seconds = time.monotonic() - began
            if builder.started:
                used = builder.usage(self._estimate_input, seconds)
                self.spent += used
                span.set(
                    {"gen_ai.usage.input_tokens": used.input_tokens, "gen_ai.usage.output_tokens": used.output_tokens}
                )
            if outcome:
                claim = current.claim.get()
                timings.MODEL_CALLS.observe(seconds, claim.kind if claim else "", describe(self.model), outcome)
        if failure is not None and not self._complete_despite(failure, builder):
            raise self._failed(failure) from failure
        if builder.stop_reason:
            span.set({"gen_ai.response.finish_reasons": [builder.stop_reason]})
        return self._whole(builder)

    async def _receive(self, builder: ReplyBuilder) -> None:
        # The event tells a model that reads in another thread to stop when this attempt is over, however it ended.
        over = threading.Event()
        sent = cast("Messages", [{"role": m["role"], "content": unpack(m["content"])} for m in self.messages])
        try:
            async with asyncio.timeout(self.timeout_seconds):
                events = aiter(
                    self.model.stream(
                        sent, self.tools or None, self.system, tool_choice=self.tool_choice, cancel_signal=over
                    )
                )
                try:
                    async for event in events:
                        builder.add(cast("Mapping[str, Any]", event))
                finally:
                    close = getattr(events, "aclose", None)
                    if close is not None:
                        await close()
        finally:
            over.set()

    @staticmethod
    def _complete_despite(failure: Exception, builder: ReplyBuilder) -> bool:
        """True when only the metadata after a complete message was lost: asking again would pay for it twice.

        A guardrail announces its redactions in that metadata, so its replies do not count as complete without it.
        """
        return builder.fault() is None and builder.stop_reason != "guardrail_intervened" and diagnose(failure).transient

    def _failed(self, error: Exception) -> ModelCallFailed:
        verdict = diagnose(error)
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, TimeoutError) and not error.args:
            said = f"no whole reply within {self.timeout_seconds:g} s"
        elif type(error).__name__ not in said:
            said = f"{type(error).__name__}: {said}"
        message = self._line(said, verdict.remedy)
        if verdict.overflow:
            return ContextOverflow(message, code=verdict.code, attempts=self.tried, usage=self.spent)
        if verdict.transient:
            return ModelTransient(
                message,
                code=verdict.code,
                attempts=self.tried,
                usage=self.spent,
                retry_after=verdict.retry_after,
            )
        return ModelCallFailed(message, code=verdict.code, attempts=self.tried, usage=self.spent)

    def _whole(self, builder: ReplyBuilder) -> Reply:
        fault = builder.fault()
        if fault is not None:
            message = self._line(fault, "The connection to the provider is unreliable; try again.")
            raise StreamCut(message, code="cut", attempts=self.tried, usage=self.spent)
        if builder.stop_reason == "model_context_window_exceeded":
            message = self._line("the context window was exceeded", "Shorten the request or use a larger model.")
            raise ContextOverflow(message, code="context_overflow", attempts=self.tried, usage=self.spent)
        blocks = [block for message in self.messages for block in message["content"]]
        reply = builder.build(
            self.spent,
            turn=sum(message["role"] == "assistant" for message in self.messages),
            taken={block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block},
        )
        if reply.stop_reason == "max_tokens":
            message = self._line("the reply reached the output limit", "Raise max_tokens, or ask for less at once.")
            raise ReplyTruncated(message, reply=reply, attempts=self.tried)
        return reply

    def _estimate_input(self) -> int:
        return estimate_request(cast("Sequence[Mapping[str, Any]]", self.messages), self.tools, self.system)

    def _line(self, said: str, remedy: str) -> str:
        tries = f" (after {self.tried} attempts)" if self.tried > 1 else ""
        return f"{describe(self.model)}: {said.rstrip('.')}{tries}. {remedy}"
