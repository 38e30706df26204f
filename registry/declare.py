"""Declaring capabilities that live in the embedding program: typed functions, Strands agents and Strands tools.

    @capability
    def add(a: int, b: int) -> int:
        '''Add two numbers.'''
        return a + b

``add`` is now a :class:`Capability`: called, it does what the function did; its ``manifest`` came from the hints and
the docstring. Work for it waits in the lane ``local.add``, which only programs that declared it serve.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from pydantic import JsonValue

from blackboard.approval import Approval
from blackboard.errors import BadInput
from blackboard.taint import Taint, given
from blackboard.triggers import Trigger
from blackboard.types import RetryPolicy, Usage
from registry import strands_tools
from registry.grants import Grants
from registry.manifest import EVERY_TENANT, LOCAL, CapabilityLimits, Example, Manifest
from registry.signature import Signature, caller_namespace, plain
from registry.threads import Unstoppable

P = ParamSpec("P")
R = TypeVar("R")

Effects = Literal["pure", "reads", "writes", "irreversible"]

_COMPLETE = ("end_turn", "stop_sequence")
_ONCE = RetryPolicy(max_attempts=1)
_MOST_NAME = 64 - len(LOCAL)


class Capability(Generic[P, R]):
    """A function or an agent of this program with the manifest it is registered under. Callable like the original.

    Attributes:
        manifest: what the registry stores.
        function: the original function; for an agent, an async one from a prompt to the answer's text.
        agent: the Strands agent, or None.
        sources: where its results come from beside its input.
        callback: whether each attempt has a token that ends it from outside.
    """

    callback = False

    def __init__(
        self,
        function: Callable[P, R],
        signature: Signature,
        manifest: Manifest,
        agent: Any = None,
        sources: Taint = (),
        callback: bool = False,
    ) -> None:
        self.manifest = manifest
        self.callback = callback
        self.function = function
        self.agent = agent
        self.sources = sources
        self._signature = signature
        self._calls = Unstoppable()
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<capability {self.manifest.name}: {self.manifest.kind}>"

    def arguments(self, value: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Keyword arguments for a JSON input, converted to the annotated types.

        Raises:
            BadInput: a value does not fit its parameter.
        """
        return self._signature.arguments(value)

    def result(self, value: object) -> JsonValue:
        """A return value as JSON.

        Raises:
            ResultNotJson: JSON cannot carry it.
        """
        return self._signature.result(value)

    async def invoke(self, value: Mapping[str, JsonValue]) -> tuple[JsonValue, Usage]:
        """Call it with a JSON input: a sync function in a thread, an async one here, an agent with its tokens counted.

        Returns:
            The result as JSON and what the call consumed.

        Raises:
            BadInput: the input does not fit.
            ResultNotJson: JSON cannot carry the result.
            StillRunning: earlier calls were given up and have not returned.
            Exception: whatever the function raises.
        """
        arguments = self.arguments(value)
        started = time.monotonic()
        usage = Usage()
        if self.agent is not None:
            returned, usage = await _ask(self.agent, **arguments)
        elif not self.in_thread:
            returned = await cast(Awaitable[object], self._call(arguments))
        else:
            returned = await self._calls.run(lambda: self._call(arguments))
            if inspect.isawaitable(returned):
                returned = await returned
        seconds = round(time.monotonic() - started, 6)
        return self.result(returned), usage + Usage(seconds=seconds)

    @property
    def in_thread(self) -> bool:
        """Whether :meth:`invoke` calls it in a thread, which nobody can stop."""
        return self.agent is None and not inspect.iscoroutinefunction(inspect.unwrap(self.function))

    def _call(self, arguments: Mapping[str, Any]) -> Any:
        return cast(Callable[..., Any], self.function)(**arguments)


@overload
def capability(
    target: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects = "pure",
    retry: RetryPolicy | None = None,
    examples: Sequence[Example | Mapping[str, Any]] = (),
    limits: CapabilityLimits | None = None,
    grants: Grants | None = None,
    tenant: str = EVERY_TENANT,
    triggers: Sequence[Trigger | Mapping[str, Any]] = (),
    approval: Approval | Mapping[str, Any] | bool | None = None,
    sources: Sequence[str] = (),
    callback: bool = False,
) -> Capability[P, R]: ...


@overload
def capability(
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects = "pure",
    retry: RetryPolicy | None = None,
    examples: Sequence[Example | Mapping[str, Any]] = (),
    limits: CapabilityLimits | None = None,
    grants: Grants | None = None,
    tenant: str = EVERY_TENANT,
    triggers: Sequence[Trigger | Mapping[str, Any]] = (),
    approval: Approval | Mapping[str, Any] | bool | None = None,
    sources: Sequence[str] = (),
    callback: bool = False,
) -> Callable[[Callable[P, R]], Capability[P, R]]: ...


def capability(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effects: Effects = "pure",
    retry: RetryPolicy | None = None,
    examples: Sequence[Example | Mapping[str, Any]] = (),
    limits: CapabilityLimits | None = None,
    grants: Grants | None = None,
    tenant: str = EVERY_TENANT,
    triggers: Sequence[Trigger | Mapping[str, Any]] = (),
    approval: Approval | Mapping[str, Any] | bool | None = None,
    sources: Sequence[str] = (),
    callback: bool = False,
) -> Any:
    """Make a capability of a typed function, of a Strands agent or of a Strands tool; also usable as a decorator, with or
    without options.

    Args:
        target: the function (sync or async), the agent, or the tool: what ``strands.tool`` makes of a function, or any other
            object of Strands that is a tool. A tool is taken at the word of its specification.
        name: default: the function's, the agent's or the tool's own name.
        description: what it does and when to use it. Default: the docstring, or what the agent or tool says of itself.
        effects: what running it does to the world: ``pure``, ``reads``, ``writes`` or ``irreversible``.
        retry: when a failed attempt is tried again. Default: three attempts, one for ``irreversible``.
        examples: calls that show what it is for.
        limits, grants: bounds and permissions of one attempt.
        tenant: who may use it; ``*`` is everybody.
        triggers: what it waits for on the board of a run: see ``docs/agenda.md``.
        approval: a person is asked before each task of it is done: True, or an :class:`~blackboard.approval.Approval` that says
            who, how long, and what silence means. See ``docs/approvals.md``.
        sources: where its results come from beside its input, such as ``("mail:inbox",)``: what a function of this program
            reaches, nobody else sees. See ``docs/taint.md``.
        callback: a function whose answer may come from outside: each attempt at it has a token, ``current_task().token``, and may
            raise ``Later``. See ``docs/callbacks.md``.

    Returns:
        The :class:`Capability`, or a decorator when called without a target.

    Raises:
        BadInput: the function's parameters cannot be described, or the manifest or a source is invalid.
    """
    options = functools.partial(
        _declare,
        name=name,
        description=description,
        effects=effects,
        retry=retry or (_ONCE if effects == "irreversible" else RetryPolicy()),
        examples=examples,
        limits=limits or CapabilityLimits(),
        grants=grants,
        tenant=tenant,
        triggers=tuple(triggers),
        approval=Approval.of(approval),
        sources=given(sources) if sources else (),
        callback=callback,
    )
    if target is not None:
        return options(target, namespace=caller_namespace(1))

    def decorate(decorated: Any) -> Any:
        return options(decorated, namespace=caller_namespace(1))

    return decorate


def _declare(target: Any, namespace: Mapping[str, Any], **options: Any) -> Capability[..., Any]:
    if isinstance(target, Capability):
        raise BadInput("capability", cast(object, target), "It is a capability already; declare it once.")
    tool = strands_tools.as_tool(target)
    agent = target if _is_agent(target) else None
    callback = bool(options.pop("callback"))
    if callback and (tool is not None or agent is not None):
        raise BadInput(
            "callback", callback, "Declare a function of yours with it; what an agent or a tool says is its answer."
        )
    if tool is not None:
        return _of_tool(tool, options)
    function = _prompt_function(agent) if agent is not None else target
    signature = Signature(function, namespace)
    sources: Taint = options.pop("sources")
    name = options.pop("name") or _own_name(target, agent)
    if len(name) > _MOST_NAME:
        raise BadInput("name", name, f"Use at most {_MOST_NAME} characters; its lane '{LOCAL}<name>' has 64.")
    description = options.pop("description") or (
        (getattr(agent, "description", None) or "") if agent is not None else signature.description
    )
    if not description.strip():
        where = "description" if agent is not None else f"{name}.description"
        raise BadInput(where, description, "Write a docstring or pass description=; the planner chooses by it.")
    grants = options.pop("grants") or Grants(model=agent is not None)
    manifest = Manifest.of(
        {
            "name": name,
            "description": description.strip(),
            "input_schema": signature.input_schema,
            "output_schema": signature.output_schema,
            "action": f"{LOCAL}{name}",
            "kind": "function" if agent is None else "agent",
            "grants": grants,
            "provenance": _origin(target),
            **options,
        }
    )
    return Capability(function, signature, manifest, agent, sources, callback)


def _of_tool(tool: Any, options: dict[str, Any]) -> Capability[..., Any]:
    said = strands_tools.specification(tool)
    sources: Taint = options.pop("sources")
    name = options.pop("name") or said.name
    description = options.pop("description") or said.description
    manifest = Manifest.of(
        {
            "name": name,
            "description": description,
            "input_schema": said.input_schema,
            "output_schema": said.output_schema,
            "action": f"{LOCAL}{name}",
            "kind": "function",
            "grants": options.pop("grants") or Grants(),
            "provenance": {**_origin(tool), "tool": said.own_name},
            **options,
        }
    )
    return _ToolCapability(tool, manifest, sources)


class _ToolCapability(Capability[..., Any]):
    """A Strands tool; called, it does what the tool does when it is called."""

    def __init__(self, tool: Any, manifest: Manifest, sources: Taint) -> None:
        self.manifest, self.function, self.agent, self.sources = manifest, tool, None, sources
        self._calls = Unstoppable()
        functools.update_wrapper(self, tool)

    def arguments(self, value: Mapping[str, JsonValue]) -> dict[str, Any]:
        return dict(value)

    def result(self, value: object) -> JsonValue:
        return plain(value)

    async def invoke(self, value: Mapping[str, JsonValue]) -> tuple[JsonValue, Usage]:
        started = time.monotonic()
        if strands_tools.blocks(self.function):
            returned = plain(await self._calls.run(lambda: strands_tools.run_here(self.function, value)))
        else:
            returned = plain(await strands_tools.run(self.function, value))
        return returned, Usage(seconds=round(time.monotonic() - started, 6))

    @property
    def in_thread(self) -> bool:
        # A sync function is run in one; what another tool does underneath is its own business.
        return True


def _own_name(target: Any, agent: Any) -> str:
    own = getattr(agent, "name", "") if agent is not None else getattr(target, "__name__", "")
    if agent is not None:
        return "_".join(str(own).lower().replace("-", " ").split())
    if not own or own == "<lambda>":
        raise BadInput("name", target, "It has no name of its own; pass name=.")
    return str(own)


def _origin(target: Any) -> dict[str, JsonValue]:
    holder: Any = target if hasattr(target, "__qualname__") else cast(Any, type(target))
    return {
        "module": str(getattr(holder, "__module__", "")),
        "qualname": str(getattr(holder, "__qualname__", "")),
    }


def _is_agent(target: object) -> bool:
    """Whether this is a Strands agent; nobody can hold one before Strands was imported."""
    module = sys.modules.get("strands.agent.agent")
    return module is not None and isinstance(target, module.Agent)


def _prompt_function(agent: Any) -> Callable[..., Awaitable[str]]:
    async def ask(prompt: str) -> str:
        return (await _ask(agent, prompt))[0]

    ask.__name__ = ask.__qualname__ = str(getattr(agent, "name", "agent"))
    return ask


_locks: WeakKeyDictionary[Any, tuple[asyncio.AbstractEventLoop, asyncio.Lock, Any]] = WeakKeyDictionary()


async def _ask(agent: Any, prompt: str) -> tuple[str, Usage]:
    """One question to an agent as it was when it was first asked.

    An agent remembers its conversation and refuses a second call while one runs. A capability must do neither: what one
    run asked must not colour, or leak into, the answer to another. So calls queue, and each starts from the same state.
    An answer that was cut off is an error: a broken stream looks like a short or empty one.
    """
    loop = asyncio.get_running_loop()
    held = _locks.get(agent)
    if held is None or held[0] is not loop:
        snapshot = held[2] if held is not None else agent.take_snapshot(preset="session")
        held = (loop, asyncio.Lock(), snapshot)
        _locks[agent] = held
    async with held[1]:
        before = dict(cast(Mapping[str, int], agent.event_loop_metrics.accumulated_usage))
        try:
            answer = await agent.invoke_async(prompt)
        finally:
            agent.load_snapshot(held[2])
        after = cast(Mapping[str, int], agent.event_loop_metrics.accumulated_usage)
    used = {key: int(after.get(key, 0)) - int(before.get(key, 0)) for key in ("inputTokens", "outputTokens")}
    text = str(answer).strip()
    if not text or (answer.stop_reason not in _COMPLETE and answer.structured_output is None):
        raise RuntimeError(f"The agent gave no complete answer; it stopped with {answer.stop_reason!r}.")
    return text, Usage(input_tokens=used["inputTokens"], output_tokens=used["outputTokens"])
