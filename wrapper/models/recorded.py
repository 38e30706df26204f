"""A model that records the replies of another one and replays them, and says so loudly when a request has changed.

A recording is a JSON Lines file: a header, then one line per request with its hash, the request and the stream events.
Replies are found by the request's hash, so runs that ask concurrently replay in any order.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import BaseModel
from strands.models import Model

from blackboard.errors import ArbiterError, BadInput
from wrapper.binary import pack, unpack
from wrapper.models.describe import describe
from wrapper.models.quoting import unmarked

if TYPE_CHECKING:
    from strands.types.content import Messages, SystemContentBlock
    from strands.types.streaming import StreamEvent
    from strands.types.tools import ToolChoice, ToolSpec

T = TypeVar("T", bound=BaseModel)

_FORMAT = 1
_SHOWN_CHARACTERS = 160


class RecordingDrift(ArbiterError):
    """A request is not in the recording. The message shows where it first differs from the nearest recorded one.

    ``path`` is that place (``messages[0].content[0].text``), or None when the recording is empty.
    """

    def __init__(self, message: str, path: str | None) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class _Recorded:
    number: int
    request: dict[str, Any]
    events: list[dict[str, Any]]


class RecordedModel(Model):
    """Records a model's replies, or replays them without one.

    A request is its system prompt, messages (role and content), tool specifications (in any order) and tool choice.
    Identifiers of tool calls are replaced by their position, marks and sources of frames are left out, for they tell of the
    content and of the model; everything else about messages (tracking identifiers,
    metadata) is left out. A request recorded several times is replayed in that order, then its last reply for ever;
    which of them comes next is counted per process.

    Only complete replies are recorded: a stream that fails or is cut is passed on and leaves no line.

    Args:
        path: the recording.
        mode: ``replay`` reads it, ``record`` writes it.
        model: the model to record; required by ``record``, refused by ``replay``.
        ignore: regular expressions of text that may change between runs (dates, run identifiers). They are stored in
            the recording, so only ``record`` takes them.
        append: let ``record`` continue an existing recording; by default it refuses one.

    Raises:
        BadInput: the arguments do not fit the mode, or the file is missing, exists already or is not a recording.
    """

    def __init__(
        self,
        path: str | Path,
        mode: Literal["replay", "record"] = "replay",
        model: Model | None = None,
        *,
        ignore: Sequence[str] = (),
        append: bool = False,
    ) -> None:
        self.path, self.mode, self._model = Path(path), mode, model
        self._lock = threading.Lock()
        self._played: Counter[str] = Counter()
        self._recorded: dict[str, list[_Recorded]] = {}
        self.config: dict[str, Any] = {"model_id": "recorded"}
        if mode == "record":
            if model is None:
                raise BadInput("model", None, "Pass the model whose replies are to be recorded.")
            self._begin(ignore, append)
        elif mode == "replay":
            if model is not None or ignore:
                raise BadInput("mode", mode, 'Pass `model` and `ignore` with mode="record" only.')
            self._load()
        else:
            raise BadInput("mode", mode, 'Use "replay" or "record".')

    @property
    def label(self) -> str:
        """For people, wherever a model is named."""
        if self._model is not None:
            return f"{describe(self._model)}, recorded to {self.path}"
        return f"recorded ({self.path}) — not a real model"

    def update_config(self, **model_config: Any) -> None:
        """Configure the recorded model; when replaying, keep the values without effect."""
        if self._model is not None:
            self._model.update_config(**model_config)
        else:
            self.config.update(model_config)

    def get_config(self) -> Any:
        """Configuration of the recorded model, or of this one when replaying."""
        return self.config if self._model is None else self._model.get_config()

    def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Not recorded: only a deprecated method of ``Agent`` calls it. Pass ``structured_output_model`` instead."""
        raise BadInput(
            "structured_output", output_model.__name__, "Call the agent with structured_output_model instead."
        )

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        system_prompt_content: list[SystemContentBlock] | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Replay, or pass on and record, one reply; see ``Model.stream`` for the events.

        Raises:
            RecordingDrift: replaying, and the request is not in the recording.
        """
        system: object = system_prompt_content if system_prompt_content is not None else [{"text": system_prompt or ""}]
        request = self._canonical(messages, tool_specs or [], system, tool_choice)
        if self._model is None:
            for event in self._find(request).events:
                yield unpack(event)
                await asyncio.sleep(0)
            return
        events: list[Any] = []
        async for event in self._model.stream(
            messages,
            tool_specs,
            system_prompt,
            tool_choice=tool_choice,
            system_prompt_content=system_prompt_content,
            **kwargs,
        ):
            events.append(pack(event))
            yield event
        if any("messageStop" in event for event in events):
            self._write({"hash": _hash(request), "request": request, "events": events})

    def _begin(self, ignore: Sequence[str], append: bool) -> None:
        self._ignore = tuple(ignore)
        _patterns(self._ignore)
        if self.path.exists() and self.path.stat().st_size:
            if not append:
                raise BadInput("path", str(self.path), "It exists; delete it to record anew, or pass append=True.")
            header = self._header(self._lines())
            if tuple(header["ignore"]) != self._ignore:
                raise BadInput("ignore", list(ignore), f"This recording was begun with {header['ignore']}.")
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        model = describe(cast("Model", self._model))
        self._write({"arbiter_recording": _FORMAT, "model": model, "ignore": list(ignore)})

    def _write(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        # One appending write per line keeps lines whole when several processes record into one file.
        with self._lock:
            target = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(target, data)
            finally:
                os.close(target)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput("path", str(self.path), f"It cannot be read: {error.strerror}. Record it first.") from error
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise BadInput("path", str(self.path), f"It is not a recording: {error}.") from error

    def _header(self, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        if not lines or lines[0].get("arbiter_recording") != _FORMAT:
            raise BadInput("path", str(self.path), "It is not a recording of this version; record it again.")
        return lines[0]

    def _load(self) -> None:
        lines = self._lines()
        self._ignore = tuple(self._header(lines)["ignore"])
        for number, line in enumerate(lines[1:], start=1):
            recorded = _Recorded(number, line["request"], line["events"])
            self._recorded.setdefault(line["hash"], []).append(recorded)

    def _find(self, request: dict[str, Any]) -> _Recorded:
        key = _hash(request)
        found = self._recorded.get(key)
        if not found:
            raise self._drift(request)
        with self._lock:
            position = self._played[key]
            self._played[key] += 1
        return found[min(position, len(found) - 1)]

    def _canonical(
        self, messages: Messages, tools: list[ToolSpec], system: object, tool_choice: ToolChoice | None
    ) -> dict[str, Any]:
        identifiers: dict[str, str] = {}
        patterns = _patterns(self._ignore)
        return {
            "system": _normal(pack(system), identifiers, patterns),
            "tools": _normal(pack(sorted(tools, key=lambda tool: tool["name"])), identifiers, patterns),
            "tool_choice": pack(tool_choice),
            "messages": [
                {"role": message["role"], "content": _normal(pack(message["content"]), identifiers, patterns)}
                for message in messages
            ],
        }

    def _drift(self, request: dict[str, Any]) -> RecordingDrift:
        recorded = [entry for entries in self._recorded.values() for entry in entries]
        if not recorded:
            return RecordingDrift(f"{self.path} holds no recorded reply. Record it again.", None)
        asked = dict(_leaves(request))
        likeness, nearest = max(
            ((_likeness(asked, dict(_leaves(entry.request))), entry) for entry in recorded),
            key=lambda pair: (pair[0], -pair[1].number),
        )
        path, before, now = _first_difference(dict(_leaves(nearest.request)), asked)
        return RecordingDrift(
            f"{self.path}: this request was not recorded ({len(recorded)} others were). Nearest is number "
            f"{nearest.number}, {likeness:.0%} alike; the first difference is at {path}:\n"
            f"  recorded: {before}\n  now:      {now}\nRecord it again if the change is intended.",
            path,
        )


def _patterns(expressions: Sequence[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(expression) for expression in expressions]
    except re.error as error:
        raise BadInput("ignore", list(expressions), f"Not a regular expression: {error}.") from error


def _normal(value: Any, identifiers: dict[str, str], patterns: Sequence[re.Pattern[str]]) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {
            key: identifiers.setdefault(item, f"call {len(identifiers)}")
            if key == "toolUseId" and isinstance(item, str)
            else _normal(item, identifiers, patterns)
            for key, item in items.items()
        }
    if isinstance(value, list):
        return [_normal(item, identifiers, patterns) for item in cast("list[Any]", value)]
    if isinstance(value, str):
        value = unmarked(value)
        for pattern in patterns:
            value = pattern.sub("<ignored>", value)
    return value


def _hash(request: Mapping[str, Any]) -> str:
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in cast("dict[str, Any]", value).items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _likeness(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Share of parts that two requests have in common; unequal texts count by how much of them is equal."""
    score = 0.0
    for path in one.keys() & other.keys():
        mine, theirs = one[path], other[path]
        if mine == theirs:
            score += 1
        elif isinstance(mine, str) and isinstance(theirs, str):
            score += difflib.SequenceMatcher(None, mine[:2000], theirs[:2000]).quick_ratio() * 0.9
    return score / max(1, len(one.keys() | other.keys()))


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str]:
    for path in [*before, *(path for path in now if path not in before)]:
        if path in before and path in now and before[path] == now[path]:
            continue
        old, new = before.get(path, "(nothing)"), now.get(path, "(nothing)")
        return path or "the request", *_shown(old, new)
    return "the request", "(equal)", "(equal)"


def _shared(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _shown(old: Any, new: Any) -> tuple[str, str]:
    """Both values cut to a window that begins shortly before they part."""
    a = old if isinstance(old, str) else json.dumps(old, ensure_ascii=False)
    b = new if isinstance(new, str) else json.dumps(new, ensure_ascii=False)
    start = max(0, _shared(a, b) - 40)

    def window(text: str) -> str:
        cut = text[start : start + _SHOWN_CHARACTERS]
        return ("…" if start else "") + repr(cut)[1:-1] + ("…" if start + _SHOWN_CHARACTERS < len(text) else "")

    return window(a), window(b)
