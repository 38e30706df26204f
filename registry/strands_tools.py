"""Strands tools as capabilities: what ``strands.tool`` makes of a function, and every other object that is a tool there.

A tool is taken at the word of its specification, and run through the one method all tools have, so that a tool of a library
or with a hand-written schema works as it does in an agent. There is no agent here: a tool that wants one finds none.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry.tables import legal_name


class Specification(NamedTuple):
    """What a tool says of itself."""

    own_name: str
    name: str
    """A legal one made of it."""
    description: str
    input_schema: dict[str, JsonValue]
    output_schema: dict[str, JsonValue] | None


def as_tool(target: object) -> Any | None:
    """The target, if it is a tool of Strands; nobody can hold one before Strands was imported."""
    module = sys.modules.get("strands.types.tools")
    return target if module is not None and isinstance(target, module.AgentTool) else None


def specification(tool: Any) -> Specification:
    """What a tool says of itself.

    Raises:
        BadInput: it names no input schema, or has no usable name.
    """
    said = cast("Mapping[str, Any]", tool.tool_spec)
    own = str(said.get("name", ""))
    found = said.get("inputSchema")
    schema: Any = cast("dict[str, Any]", found).get("json", found) if isinstance(found, dict) else found
    if not isinstance(schema, dict):
        raise BadInput(f"{own}.inputSchema", schema, "Give the tool a JSON Schema of its input.")
    output: Any = said.get("outputSchema")
    if isinstance(output, dict):
        output = cast("dict[str, Any]", output).get("json", output)
    return Specification(
        own, legal_name(own), str(said.get("description", "")), cast("dict[str, JsonValue]", schema), output
    )


async def run(tool: Any, given: Mapping[str, JsonValue]) -> JsonValue:
    """Call a tool and give back what it returned.

    Raises:
        Exception: whatever it raised, or RuntimeError with the words of a result that says it failed.
    """
    last: Any = None
    use = {"toolUseId": "capability", "name": tool.tool_name, "input": dict(given)}
    async for event in tool.stream(use, {}):
        last = event
    result: Any = cast("Mapping[str, Any]", last).get("tool_result", last) if isinstance(last, Mapping) else None
    if not isinstance(result, Mapping) or "content" not in result:
        raise RuntimeError(
            f"The tool {tool.tool_name} gave no result; what interrupts an agent cannot run without one."
        )
    told = cast("Mapping[str, Any]", result)
    content = cast("list[Mapping[str, Any]]", told["content"])
    if told.get("status") == "error":
        error = getattr(cast(Any, last), "exception", None)
        raise error if isinstance(error, Exception) else RuntimeError(_text(content) or "the tool says that it failed")
    values = [block["json"] for block in content if "json" in block]
    if len(values) == 1 and len(content) == 1:
        return values[0]
    if all("text" in block for block in content):
        return _read_back(tool, _text(content))
    return cast(JsonValue, {"content": list(content)})


def blocks(tool: Any) -> bool:
    """Whether it is a sync function, which Strands runs in one of the loop's threads."""
    function = getattr(tool, "_tool_func", None)
    return callable(function) and not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function))


def run_here(tool: Any, given: Mapping[str, JsonValue]) -> JsonValue:
    """:func:`run` in this thread, for a tool that blocks it."""
    loop = _InPlace()
    try:
        return loop.run_until_complete(run(tool, given))
    finally:
        loop.close()


class _InPlace(asyncio.SelectorEventLoop):
    """A loop for one call, which has nothing to do beside."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        found: asyncio.Future[Any] = self.create_future()
        try:
            found.set_result(func(*args))
        except Exception as error:
            found.set_exception(error)
        return found


def _read_back(tool: Any, text: str) -> JsonValue:
    """What a function returned, which Strands writes as JSON unless it was a text."""
    hint = getattr(tool, "__annotations__", {}).get("return")
    if hint in (str, "str") or text[:1] not in ("{", "["):
        return text
    try:
        return cast(JsonValue, json.loads(text))
    except (ValueError, RecursionError):
        return text


def _text(content: list[Mapping[str, Any]]) -> str:
    return "\n".join(str(block["text"]) for block in content if "text" in block)
