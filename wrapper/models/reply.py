"""How do the events of a model's stream become one reply?

The events are those of Bedrock ConverseStream, which every Strands model speaks. Providers take liberties with them:
no block indexes, blocks that interleave or are never stopped, tool arguments that are not JSON, identifiers that are
missing or repeated, no usage. Nothing of that may get lost on the way to the planner.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import JsonValue

from blackboard.types import Usage
from wrapper.binary import pack
from wrapper.models.estimate import estimate_content

if TYPE_CHECKING:
    from strands.types.content import Message

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SHOWN_CHARACTERS = 2000
"""How much of malformed arguments is shown back to the model."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call of a reply.

    ``input`` is None exactly when ``error`` says why the call cannot be carried out; ``raw`` is what the model wrote.
    ``id`` is unique in the conversation, made up when the provider gave none or repeated one.
    """

    id: str
    name: str
    input: dict[str, JsonValue] | None
    raw: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply of a model.

    ``message`` is the assistant message in Bedrock shape, safe to store as JSON and legal to send back: a call that was
    malformed is kept in it under a legal name with its text as input. Its content is empty when the model said nothing,
    and such a message must not be appended to a conversation. ``stop_reason`` is ``tool_use`` whenever there are tool
    calls. ``redacted_request`` is the text a guardrail wants to see in place of the user's last message.
    """

    message: Message
    text: str
    tool_uses: tuple[ToolUse, ...]
    stop_reason: str
    usage: Usage
    redacted_request: str | None = None


@dataclass(slots=True)
class _Block:
    kind: Literal["text", "tool", "reasoning"]
    parts: list[str] = field(default_factory=list[str])
    id: str = ""
    name: str = ""
    signature: str = ""
    redacted: bytes = b""


class ReplyBuilder:
    """Collects the events of one stream; :meth:`fault` says whether they make a whole reply, :meth:`build` makes it."""

    def __init__(self) -> None:
        self.started = False
        self.stop_reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._blocks: list[_Block] = []
        self._open: dict[tuple[int | None, str], _Block] = {}
        self._redacted_request: str | None = None
        self._redacted_reply: str | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one stream event; kinds of events that carry nothing for a reply are ignored."""
        self.started = True
        if "contentBlockStart" in event:
            self._start(event["contentBlockStart"])
        elif "contentBlockDelta" in event:
            self._delta(event["contentBlockDelta"])
        elif "contentBlockStop" in event:
            self._stop(event["contentBlockStop"].get("contentBlockIndex"))
        elif "messageStop" in event:
            self.stop_reason = str(event["messageStop"].get("stopReason") or "end_turn")
        elif "metadata" in event:
            self._usage = event["metadata"].get("usage") or self._usage
        elif "redactContent" in event:
            redaction = event["redactContent"]
            self._redacted_request = redaction.get("redactUserContentMessage", self._redacted_request)
            self._redacted_reply = redaction.get("redactAssistantContentMessage", self._redacted_reply)

    def _start(self, event: Mapping[str, Any]) -> None:
        start: Mapping[str, Any] = event.get("start") or {}
        tool: Mapping[str, Any] | None = start.get("toolUse")
        if tool is None:
            return
        block = _Block("tool", id=tool.get("toolUseId") or "", name=tool.get("name") or "")
        self._blocks.append(block)
        self._open[event.get("contentBlockIndex"), "tool"] = block

    def _block(self, index: int | None, kind: Literal["text", "tool", "reasoning"]) -> _Block:
        block = self._open.get((index, kind))
        if block is None:
            block = self._open[index, kind] = _Block(kind)
            self._blocks.append(block)
        return block

    def _delta(self, event: Mapping[str, Any]) -> None:
        delta: Mapping[str, Any] = event.get("delta") or {}
        index: int | None = event.get("contentBlockIndex")
        if delta.get("text"):
            self._block(index, "text").parts.append(delta["text"])
        if "toolUse" in delta:
            part = delta["toolUse"]
            block = self._block(index, "tool")
            block.parts.append(part.get("input") or "")
            # Some providers name the call only in a delta.
            block.id, block.name = block.id or part.get("toolUseId") or "", block.name or part.get("name") or ""
        if "reasoningContent" in delta:
            part = delta["reasoningContent"]
            block = self._block(index, "reasoning")
            block.parts.append(part.get("text") or "")
            block.signature += part.get("signature") or ""
            block.redacted += part.get("redactedContent") or b""

    def _stop(self, index: int | None) -> None:
        # Without indexes a stop ends the tool call when one is open: ollama sends calls inside an open text block.
        if index is None and (None, "tool") in self._open:
            del self._open[None, "tool"]
            return
        for key in [key for key in self._open if key[0] == index]:
            del self._open[key]

    def fault(self) -> str | None:
        """Why the events seen so far cannot be a whole reply, or None. Such a reply is worth asking for again."""
        if self.stop_reason is None:
            return "the reply was cut before its end"
        if self.stop_reason.startswith("malformed"):
            return f"the model produced an unusable reply ({self.stop_reason})"
        calls = any(block.kind == "tool" for block in self._blocks)
        if self.stop_reason == "tool_use" and not calls:
            return "the reply announced a tool call and carried none"
        ordinary = self.stop_reason in ("end_turn", "tool_use", "stop_sequence")
        if ordinary and not self._content_seen() and not self._reported():
            return "the reply was empty and consumed nothing"
        return None

    def _content_seen(self) -> bool:
        return any(block.kind != "reasoning" for block in self._blocks) or self._redacted_reply is not None

    def _reported(self) -> tuple[int, int] | None:
        """Reported (input, output) tokens. Input includes what a prompt cache served, which only the total shows."""
        output = int(self._usage.get("outputTokens") or 0)
        given = max(int(self._usage.get("inputTokens") or 0), int(self._usage.get("totalTokens") or 0) - output)
        return (given, output) if given or output else None

    def usage(self, estimate_input: Callable[[], int], seconds: float) -> Usage:
        """What this stream consumed, reported or, failing that, estimated; only then is the input looked at."""
        reported = self._reported()
        given, output = reported or (estimate_input(), estimate_content(self._content([])))
        return Usage(
            input_tokens=given,
            output_tokens=output,
            model_calls=1,
            seconds=round(seconds, 6),
            estimated=reported is None,
        )

    def _content(self, calls: list[ToolUse]) -> list[dict[str, Any]]:
        waiting = iter(calls)
        content: list[dict[str, Any]] = []
        for block in self._blocks:
            text = "".join(block.parts)
            if block.kind == "text":
                # Providers refuse a blank text block when the conversation is sent back to them.
                if text.strip():
                    content.append({"text": text})
            elif block.kind == "reasoning" and block.redacted:
                content.append({"reasoningContent": {"redactedContent": block.redacted}})
            elif block.kind == "reasoning":
                signed = {"signature": block.signature} if block.signature else {}
                content.append({"reasoningContent": {"reasoningText": {"text": text, **signed}}})
            elif (call := next(waiting, None)) is None:
                content.append({"toolUse": {"name": block.name, "input": text}})
            else:
                kept = {"malformed_call": call.error, "written": call.raw[:_SHOWN_CHARACTERS]}
                name = call.name if _TOOL_NAME.fullmatch(call.name) else "malformed_call"
                given = kept if call.input is None else call.input
                content.append({"toolUse": {"toolUseId": call.id, "name": name, "input": given}})
        return content

    def build(self, usage: Usage, *, turn: int, taken: set[str]) -> Reply:
        """Make the reply.

        Args:
            usage: what the call consumed, earlier attempts included.
            turn: number of assistant messages before this one; part of made-up identifiers.
            taken: tool use identifiers already in the conversation.
        """
        taken = set(taken)
        blocks = [] if self._redacted_reply is not None else [block for block in self._blocks if block.kind == "tool"]
        calls: list[ToolUse] = []
        for position, block in enumerate(blocks):
            calls.append(_call(block, fallback=f"tooluse_{turn}_{position}", taken=taken))
            taken.add(calls[-1].id)
        if self._redacted_reply is not None:
            content: list[dict[str, Any]] = [{"text": self._redacted_reply}]
        else:
            content = self._content(calls)
        stop = self.stop_reason or "end_turn"
        return Reply(
            message=cast("Message", pack({"role": "assistant", "content": content})),
            text="".join(str(block["text"]) for block in content if "text" in block),
            tool_uses=tuple(calls),
            stop_reason="tool_use" if calls and stop in ("end_turn", "stop_sequence") else stop,
            usage=usage,
            redacted_request=self._redacted_request,
        )


def _call(block: _Block, *, fallback: str, taken: set[str]) -> ToolUse:
    raw = "".join(block.parts)
    given, error = _arguments(raw)
    if not block.name:
        error = "The tool call has no name."
    elif not _TOOL_NAME.fullmatch(block.name):
        error = f"{block.name[:80]!r} is not a legal tool name."
    elif not block.id:
        error = error or "The tool call has no identifier."
    identifier, copies = block.id or fallback, 0
    while identifier in taken:
        # Ollama uses the tool's name as the identifier, so that two calls of one tool look like one.
        copies += 1
        identifier = f"{fallback}_{copies}" if copies > 1 else fallback
    return ToolUse(identifier, block.name or "malformed_call", None if error else given, raw, error)


def _arguments(raw: str) -> tuple[dict[str, JsonValue] | None, str | None]:
    if not raw.strip():
        return {}, None
    try:
        value = cast("JsonValue", json.loads(raw))
    except ValueError as error:
        return None, f"The arguments are not valid JSON: {error}."
    if not isinstance(value, dict):
        return None, f"The arguments must be a JSON object, not {type(value).__name__}."
    return value, None
