"""What may stand in a script of a :class:`~wrapper.models.scripted.ScriptedModel`?

A script is a list of scenes, a scene a list of turns, a turn what the model says when it is asked for the n-th time in
one conversation. As a JSON file::

    {"label": "orders",
     "scenes": [{"system": "regular expression searched in the system prompt, optional",
                 "match": "regular expression searched in the first user message, optional",
                 "turns": ["text with {{ results.fries.price }}",
                           {"tool": "fries", "input": {"size": "{{ request.size }}"}},
                           [{"text": "two calls"}, {"tool": "a", "input": {}}, {"tool": "b", "input": {}}],
                           {"code_file": "cheesecake.py"},
                           {"text_file": "notes.txt"}]}]}

Files are named relative to the script and sent as they are; everything else may hold expressions (see
:mod:`wrapper.models.template`). The first scene that fits a request plays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from blackboard import strict_json
from blackboard.errors import BadInput
from wrapper.models import template

if TYPE_CHECKING:
    from strands.types.content import Messages
    from strands.types.tools import ToolSpec

Turn = Any
"""``"text"`` | ``{"text": …}`` | ``{"tool": name, "input": {…}, "id"?: …}`` | ``{"text_file": …}`` |
``{"code_file": …}`` | a list of those; in Python also an exception or ``callable(messages, tool_specs) -> turn``."""

_FORMS = (
    'Use a text, {"text": …}, {"tool": name, "input": {…}}, {"text_file": path}, {"code_file": path} or a list of them.'
)


@dataclass(frozen=True, slots=True)
class Say:
    """A block of text; a verbatim one is not searched for expressions."""

    text: str
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """A tool call. ``input`` is an object, or a string that is one expression which yields an object."""

    tool: str
    input: JsonValue
    id: str | None = None


Block = Say | Use
PythonTurn = Exception | Callable[["Messages", "list[ToolSpec]"], Turn]


@dataclass(frozen=True, slots=True)
class Scene:
    """Turns for the requests that fit both patterns; a missing pattern fits everything."""

    name: str
    turns: tuple[tuple[Block, ...] | PythonTurn, ...]
    system: re.Pattern[str] | None = None
    match: re.Pattern[str] | None = None

    def fits(self, system_prompt: str, request: str) -> bool:
        """True when this scene plays for a request with this system prompt and first user message."""
        return (self.system is None or self.system.search(system_prompt) is not None) and (
            self.match is None or self.match.search(request) is not None
        )


@dataclass(frozen=True, slots=True)
class Script:
    """A checked script. ``origin`` says where it came from, for people."""

    scenes: tuple[Scene, ...]
    origin: str
    label: str | None = None


def load(path: str | Path) -> Script:
    """Read and check a script file.

    Raises:
        BadInput: the file is missing, is not JSON, or holds something that is not part of a script.
    """
    file = Path(path)
    try:
        raw = strict_json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput("script", str(path), f"It cannot be read: {error.strerror}. Name an existing file.") from error
    except ValueError as error:
        raise BadInput("script", str(path), f"It is not strict JSON: {error}.") from error
    if not isinstance(raw, dict) or not isinstance(cast("dict[str, Any]", raw).get("scenes"), list):
        raise BadInput("script", str(path), 'Write an object with "scenes", a list of {"turns": […]}.')
    document = cast("dict[str, Any]", raw)
    _only(document, {"label", "scenes"}, "script")
    label = document.get("label")
    return Script(parse(document["scenes"], file.parent).scenes, str(path), None if label is None else str(label))


def parse(raw: Sequence[Any], folder: Path | None = None, origin: str = "inline script") -> Script:
    """Check a list of scenes, or a list of turns, which is one scene for every request.

    Raises:
        BadInput: naming the place in the script.
    """
    items = list(raw)
    if not items:
        raise BadInput("script", items, "Give it at least one turn.")
    scenes = all(isinstance(item, Mapping) and "turns" in item for item in items)
    listed: list[Any] = items if scenes else [{"turns": items}]
    return Script(tuple(_scene(item, number, folder) for number, item in enumerate(listed)), origin)


def _only(raw: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(set(raw) - allowed)
    if unknown:
        raise BadInput(where, unknown[0], f"Known keys here: {', '.join(sorted(allowed))}.")


def _scene(raw: Mapping[str, Any], number: int, folder: Path | None) -> Scene:
    where = f"scenes[{number}]"
    _only(raw, {"name", "system", "match", "turns"}, where)
    turns = raw["turns"]
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise BadInput(f"{where}.turns", cast("object", turns), "Write a list with at least one turn.")
    return Scene(
        name=str(raw.get("name") or where),
        turns=tuple(
            parse_turn(turn, f"{where}.turns[{index}]", folder)
            for index, turn in enumerate(cast("Sequence[Any]", turns))
        ),
        system=_pattern(raw.get("system"), f"{where}.system"),
        match=_pattern(raw.get("match"), f"{where}.match"),
    )


def _pattern(raw: object, where: str) -> re.Pattern[str] | None:
    if raw is None:
        return None
    try:
        return re.compile(str(raw), re.DOTALL)
    except re.error as error:
        raise BadInput(where, raw, f"It is not a regular expression: {error}.") from error


def parse_turn(raw: Turn, where: str, folder: Path | None = None) -> tuple[Block, ...] | PythonTurn:
    """Check one turn; ``where`` names it in errors."""
    if isinstance(raw, Exception) or callable(raw):
        return cast("PythonTurn", raw)
    if isinstance(raw, list | tuple):
        blocks = tuple(
            _block(item, f"{where}[{index}]", folder) for index, item in enumerate(cast("Sequence[Any]", raw))
        )
        if not blocks:
            raise BadInput(where, cast("object", raw), _FORMS)
        return blocks
    return (_block(raw, where, folder),)


def _block(raw: Any, where: str, folder: Path | None) -> Block:
    if isinstance(raw, str):
        raw = {"text": raw}
    if not isinstance(raw, Mapping):
        raise BadInput(where, raw, _FORMS)
    block = cast("Mapping[str, Any]", raw)
    if "tool" in block:
        _only(block, {"tool", "input", "id"}, where)
        given = block.get("input", {})
        if not isinstance(given, dict | str):
            raise BadInput(f"{where}.input", given, "Write an object, or one {{ expression }} that yields an object.")
        checked = cast("JsonValue", given)
        _checked(checked, f"{where}.input")
        return Use(str(block["tool"]), checked, None if block.get("id") is None else str(block["id"]))
    for key in ("text", "text_file", "code_file"):
        if isinstance(block.get(key), str):
            _only(block, {key}, where)
            return _say(key, block[key], where, folder)
    raise BadInput(where, dict(block), _FORMS)


def _say(key: str, value: str, where: str, folder: Path | None) -> Say:
    if key == "text":
        _checked(value, where)
        return Say(value)
    file = (folder or Path()) / value
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}.{key}", value, f"{file} cannot be read as text: {error}.") from error
    if key == "code_file":
        content = "```python\n" + content.rstrip("\n") + "\n```"
    return Say(content, verbatim=True)


def _checked(value: JsonValue, where: str) -> None:
    try:
        template.check(value)
    except BadInput as error:
        raise BadInput(where, error.value, error.remedy) from error
