"""A model that plays a script: for tests, examples and demonstrations without an account.

It follows the streaming contract of Strands models exactly, so that everything above it runs as it would with a real
one. What it says depends on the conversation alone, never on how often this process asked: a process that is killed and
started again continues the same script.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel
from strands.models import Model

from blackboard.errors import ArbiterError, BadInput
from wrapper.models import script as scripts
from wrapper.models.estimate import estimate_content, estimate_request
from wrapper.models.script import Block, Say, Scene, Turn, Use
from wrapper.models.template import conversation_data, first_user_text, render

if TYPE_CHECKING:
    from strands.types.content import Messages, SystemContentBlock
    from strands.types.streaming import StreamEvent
    from strands.types.tools import ToolChoice, ToolSpec

T = TypeVar("T", bound=BaseModel)

_MOST_CHUNKS = 16


class ScriptExhausted(ArbiterError):
    """The script has no scene for a request, or no turn left in its scene.

    ``scene`` is the scene's name, or None when none fitted; ``turn`` counts from 0.
    """

    def __init__(self, label: str, scene: str | None, turn: int, last: str) -> None:
        shown = last if len(last) <= 300 else last[:297] + "..."
        what = f"{scene} has no turn {turn}" if scene else "no scene fits this request"
        super().__init__(f"{label}: {what}. Last user message: {shown!r}. Add it to the script.")
        self.scene, self.turn, self.last_user_message = scene, turn, last


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One request a scripted model was asked, as it arrived, and the scene and turn that answered it."""

    messages: Messages
    tool_specs: list[ToolSpec]
    system_prompt: str
    tool_choice: ToolChoice | None
    scene: str | None
    turn: int


class ScriptedModel(Model):
    """A Strands model that plays a script. Its ``label`` says that it is not real; show it wherever a model is named.

    The n-th assistant message of a conversation is the n-th turn of the first scene that fits. Identifiers of tool
    calls are ``tooluse_<turn>_<position>``. A conversation whose oldest messages were dropped repeats turns.

    Args:
        script: a list of turns, a list of scenes, or the path of a script file (see :mod:`wrapper.models.script`).
        label: name of the script for people; default: the one in the file.
        usage: (input, output) tokens to report for every call; default: estimated from the length of the text.
        latency_seconds: how long every call takes before its first event, default 0.
        keep_calls: how many calls ``calls`` remembers, newest last.

    Raises:
        BadInput: the script cannot be read or is not a script.
    """

    def __init__(
        self,
        script: str | Path | Sequence[Turn],
        *,
        label: str | None = None,
        usage: tuple[int, int] | None = None,
        latency_seconds: float = 0.0,
        keep_calls: int = 256,
    ) -> None:
        self._script = scripts.load(script) if isinstance(script, str | Path) else scripts.parse(script)
        self._label = label or self._script.label
        self._usage, self._latency = usage, latency_seconds
        self.config: dict[str, Any] = {"model_id": "scripted"}
        self.calls: deque[ScriptedCall] = deque(maxlen=keep_calls)

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> ScriptedModel:
        """Play the script in a file; ``options`` are those of the constructor."""
        return cls(Path(path), **options)

    @property
    def label(self) -> str:
        """For people, wherever a model is named: ``scripted (cheesecake order) — not a real model``.

        A script without a label goes by its file.
        """
        return f"scripted ({self._label or self._script.origin}) — not a real model"

    def update_config(self, **model_config: Any) -> None:
        """Keep configuration; none of it changes what is played."""
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        """The configuration; ``model_id`` is ``scripted``."""
        return self.config

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Validate the turn's tool input, or its text as JSON. Only a deprecated method of ``Agent`` calls this."""
        blocks = self._turn(prompt, [], system_prompt or "", None)
        first = blocks[0]
        if isinstance(first, Use):
            yield {"output": output_model.model_validate(first.input)}
        else:
            yield {"output": output_model.model_validate_json(first.text)}

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        system_prompt_content: list[SystemContentBlock] | None = None,
        cancel_signal: threading.Event | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Stream the turn that this conversation has come to; see ``Model.stream`` for the events.

        Raises:
            ScriptExhausted: no scene fits, or the scene has ended.
            TemplateUnresolved: an expression of the turn is null in this conversation.
            BadInput: a turn made by a callable is not a turn.
            Exception: the turn is an exception.
        """
        if system_prompt is None and system_prompt_content:
            system_prompt = "\n".join(block["text"] for block in system_prompt_content if "text" in block)
        if self._latency:
            await asyncio.sleep(self._latency)
        blocks = self._turn(messages, tool_specs or [], system_prompt or "", tool_choice)
        turn = _turn_number(messages)
        for event in self._events(blocks, turn, self._measure(blocks, messages, tool_specs or [], system_prompt)):
            if cancel_signal is not None and cancel_signal.is_set():
                return
            yield event
            await asyncio.sleep(0)

    def _turn(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec],
        system_prompt: str,
        tool_choice: ToolChoice | None,
    ) -> tuple[Block, ...]:
        history = cast("Sequence[Mapping[str, Any]]", messages)
        request, turn = first_user_text(history), _turn_number(messages)
        scene: Scene | None = next((s for s in self._script.scenes if s.fits(system_prompt, request)), None)
        name = scene.name if scene else None
        self.calls.append(ScriptedCall(list(messages), tool_specs, system_prompt, tool_choice, name, turn))
        if scene is None or turn >= len(scene.turns):
            raise ScriptExhausted(self.label, name, turn, _last_user_text(history))
        played = scene.turns[turn]
        where = f"{scene.name}.turns[{turn}]"
        while isinstance(played, Exception) or callable(played):
            if isinstance(played, Exception):
                raise played
            played = scripts.parse_turn(played(messages, tool_specs), where)
        data = conversation_data(history)
        return tuple(_rendered(block, data, f"{where}[{index}]") for index, block in enumerate(played))

    def _measure(
        self, blocks: tuple[Block, ...], messages: Messages, tool_specs: list[ToolSpec], system_prompt: str | None
    ) -> tuple[int, int]:
        if self._usage is not None:
            return self._usage
        said = [
            {"text": block.text} if isinstance(block, Say) else {"toolUse": {"name": block.tool, "input": block.input}}
            for block in blocks
        ]
        history = cast("Sequence[Mapping[str, Any]]", messages)
        return estimate_request(history, tool_specs, system_prompt), max(1, estimate_content(said))

    def _events(self, blocks: tuple[Block, ...], turn: int, usage: tuple[int, int]) -> Iterator[StreamEvent]:
        yield {"messageStart": {"role": "assistant"}}
        for position, block in enumerate(blocks):
            if isinstance(block, Say):
                yield {"contentBlockStart": {"start": {}}}
                for part in _chunks(block.text):
                    yield {"contentBlockDelta": {"delta": {"text": part}}}
            else:
                identifier = block.id or f"tooluse_{turn}_{position}"
                yield {"contentBlockStart": {"start": {"toolUse": {"toolUseId": identifier, "name": block.tool}}}}
                for part in _chunks(json.dumps(block.input, ensure_ascii=False)):
                    yield {"contentBlockDelta": {"delta": {"toolUse": {"input": part}}}}
            yield {"contentBlockStop": {}}
        calls = any(isinstance(block, Use) for block in blocks)
        yield {"messageStop": {"stopReason": "tool_use" if calls else "end_turn"}}
        given, said = usage
        counts = {"inputTokens": given, "outputTokens": said, "totalTokens": given + said}
        latency = int(self._latency * 1000)
        yield cast("StreamEvent", {"metadata": {"usage": counts, "metrics": {"latencyMs": latency}}})


def _turn_number(messages: Messages) -> int:
    return sum(message["role"] == "assistant" for message in messages)


def _last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            return "\n".join(
                str(block["text"]) if "text" in block else json.dumps(block, default=str)
                for block in message["content"]
            )
    return ""


def _rendered(block: Block, data: Mapping[str, Any], where: str) -> Block:
    if isinstance(block, Say):
        if block.verbatim:
            return block
        text = render(block.text, data)
        return Say(text if isinstance(text, str) else json.dumps(text, ensure_ascii=False))
    given = render(block.input, data)
    if not isinstance(given, dict):
        raise BadInput(f"{where}.input", given, "The expression must yield an object.")
    return Use(block.tool, given, block.id)


def _chunks(text: str) -> Iterator[str]:
    size = max(24, -(-len(text) // _MOST_CHUNKS))
    for start in range(0, len(text), size):
        yield text[start : start + size]
