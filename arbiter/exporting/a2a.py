"""This board as an A2A agent: its capabilities are the skills, a message is a run.

A message that names a skill, ``{"skill": …}`` in its metadata, calls that capability with its data, or with its text where the
input is one text. A message in words alone is a request for the arbiter, which plans it, unless only some capabilities are
offered. Tasks are those of this process: another daemon of the board does not know them, and after a restart they are gone;
the runs behind them are durable, and the same message sent again finds its run.

Source: Agent2Agent Protocol 1.0; the official ``a2a-sdk`` speaks it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from a2a.auth.user import User
from a2a.helpers import new_data_part, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.server.routes import ServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityScheme,
    Task,
    TaskState,
    TaskStatus,
)
from google.protobuf.json_format import MessageToDict
from pydantic import JsonValue

from arbiter.exporting.carrying import MOST, Caller, Offered, trouble
from blackboard import strict_json
from blackboard.errors import ArbiterError, BadInput
from registry import Manifest, Version
from registry.peers.a2a import skill_of
from wrapper.peers.a2a import whole

if TYPE_CHECKING:
    from a2a.server.events import EventQueue
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

NAME = "arbiter"
TASKS = 1000
"""Tasks that are remembered here; the oldest go first."""
_CALLER = "arbiter_caller"


def card(versions: Sequence[Version], url: str, *, plans: bool) -> dict[str, Any]:
    """The agent's card as JSON.

    Args:
        versions: the capabilities it offers; at most 64 are named.
        url: where messages go.
        plans: whether it takes requests in words.
    """
    skills = [AgentSkill(**cast("dict[str, Any]", skill_of(each.manifest))) for each in versions[:MOST]]
    if plans:
        said = "Plan a request in plain words, carry it out with the skills there are, and answer."
        skills.insert(0, AgentSkill(id="request", name="request", description=said, tags=["plan"]))
    return agent_card_to_dict(_card(skills, url))


def _card(skills: Sequence[AgentSkill], url: str) -> AgentCard:
    return AgentCard(
        name=NAME, description="Plans requests and carries them out with the capabilities of a board.", version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True), default_input_modes=["text/plain", "application/json"],
        default_output_modes=["application/json", "text/plain"], skills=skills,
        security_schemes={"token": SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer"))},
    )  # fmt: skip


class A2aExport:
    """The capabilities of a board as an A2A agent.

    Args:
        offered: what is offered.
        plans: take requests in words as well.
    """

    def __init__(self, offered: Offered, *, plans: bool) -> None:
        self._offered, self.plans = offered, plans
        self._handler = DefaultRequestHandler(
            agent_executor=_Runs(offered, plans), task_store=(store := InMemoryTaskStore()),
            # What it is asked about itself is answered by card(); this says only that it streams.
            agent_card=_card([AgentSkill(id="request", name="request", description="See the card.", tags=["plan"])], "/"),
        )  # fmt: skip
        cast("_Runs", self._handler.agent_executor).store = store
        self._dispatcher = JsonRpcDispatcher(self._handler, _Callers())

    async def card(self, caller: Caller, url: str) -> dict[str, Any]:
        """The card as this caller sees it."""
        return card(await self._offered.versions(caller), url, plans=self.plans)

    async def answer(self, request: Request, caller: Caller) -> Response:
        """Answer a request of the protocol."""
        request.scope[_CALLER] = caller
        return await self._dispatcher.handle_requests(request)

    async def close(self) -> None:
        """End what is answered. Runs go on: a message sent again finds its own."""
        await self._handler.aclose()
        await self._offered.settled()


class _Asker(User):
    """Whose tasks are seen: those of the same tenant and token."""

    def __init__(self, caller: Caller) -> None:
        self._name = json.dumps([caller.tenant, *caller.sources])

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name


class _Callers(ServerCallContextBuilder):
    """Who asks, as it was found out before the request got here; nothing of it comes from the request itself."""

    def build(self, request: Request) -> ServerCallContext:
        caller: Caller = request.scope[_CALLER]
        return ServerCallContext(user=_Asker(caller), state={_CALLER: caller, "headers": dict(request.headers)})


class _Runs(AgentExecutor):
    """Carries messages out as runs."""

    def __init__(self, offered: Offered, plans: bool) -> None:
        self._offered, self._plans = offered, plans
        self.store: InMemoryTaskStore | None = None
        self._runs: dict[str, str] = {}
        self._kept: deque[tuple[str, ServerCallContext]] = deque()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id, message = context.task_id, context.context_id, context.message
        assert task_id is not None
        assert context_id is not None
        assert message is not None
        caller: Caller = context.call_context.state[_CALLER]
        submitted = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=task_id, context_id=context_id, status=submitted, history=[message]))
        work = TaskUpdater(event_queue, task_id, context_id)
        await work.start_work()

        async def report(progress: float, total: float | None, said: str | None) -> None:
            words = said or (f"{progress:g} of {total:g}" if total is not None else f"{progress:g}")
            await work.start_work(work.new_agent_message([new_text_part(words)]))

        # The id of a message is its identity: one that is delivered twice is one run.
        key = f"a2a:{message.message_id}" if message.message_id else None
        try:
            wanted = await self._wanted(caller, message)
            if isinstance(wanted, str):
                result = await self._offered.plan(
                    caller, wanted, key=key, accepted=lambda run: self._note(task_id, run)
                )
            else:
                name, given = wanted
                result = await self._offered.carry_out(
                    caller, name, given, key=key, report=report, accepted=lambda run: self._note(task_id, run)
                )
        except BadInput as error:
            await work.reject(work.new_agent_message([new_text_part(str(error))]))
            return
        except ArbiterError as error:
            await work.failed(work.new_agent_message([new_text_part(str(error))]))
            return
        finally:
            await self._forget(task_id, context.call_context)
        if (why := trouble(result)) is not None:
            if result.status == "cancelled":
                await work.cancel(work.new_agent_message([new_text_part(why)]))
            else:
                await work.failed(work.new_agent_message([new_text_part(why)]))
            return
        value: JsonValue = result.data if isinstance(wanted, tuple) else result.answer
        await work.add_artifact([new_text_part(value) if isinstance(value, str) else new_data_part(value)])
        await work.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        task_id, context_id = context.task_id, context.context_id
        assert task_id is not None
        assert context_id is not None
        if (run_id := self._runs.get(task_id)) is not None:
            await self._offered.client.cancel(run_id, "cancelled over a2a")
        await TaskUpdater(event_queue, task_id, context_id).cancel()

    def _note(self, task_id: str, run_id: str) -> None:
        self._runs[task_id] = run_id

    async def _forget(self, task_id: str, asked: ServerCallContext) -> None:
        """Remember only the latest tasks."""
        self._kept.append((task_id, asked))
        while len(self._kept) > TASKS:
            old, whose = self._kept.popleft()
            self._runs.pop(old, None)
            if self.store is not None:
                try:
                    await self.store.delete(old, whose)
                except Exception as error:  # the library's store: what it keeps too long is memory and no more
                    log.warning("task %s of an a2a caller is still remembered: %s", old, error)

    async def _wanted(self, caller: Caller, message: Any) -> tuple[str, dict[str, JsonValue]] | str:
        """What a message asks for: a capability and its input, or a request in words.

        Raises:
            BadInput: it cannot be told, or is not offered.
        """
        metadata = MessageToDict(message.metadata)
        text = "\n".join(part.text for part in message.parts if part.WhichOneof("content") == "text").strip()
        data = [whole(MessageToDict(part.data)) for part in message.parts if part.WhichOneof("content") == "data"]
        skill = metadata.get("skill")
        if skill is None or (skill == "request" and self._plans):
            if not self._plans or not text:
                raise BadInput("message.metadata.skill", skill, "Name a skill of the card, and give its input as data.")
            return text
        version = await self._offered.find(caller, str(skill))
        if version is None:
            raise BadInput("message.metadata.skill", skill, "There is no such skill here, or it cannot be had now.")
        return version.name, _given(version.manifest, text, data)


def _given(manifest: Manifest, text: str, data: Sequence[Any]) -> dict[str, JsonValue]:
    """The input of a call: the message's data, its text where that is JSON, or where the input is one text."""
    if data and isinstance(data[0], dict):
        return cast("dict[str, JsonValue]", data[0])
    if text.startswith("{"):
        with contextlib.suppress(ValueError):
            return cast("dict[str, JsonValue]", strict_json.loads(text))
    properties = manifest.input_schema.get("properties")
    required = manifest.input_schema.get("required") or []
    if isinstance(properties, Mapping) and isinstance(required, list) and text:
        names = [str(each) for each in required] or list(properties)
        if len(names) == 1 and cast("Mapping[str, Any]", properties.get(names[0]) or {}).get("type") == "string":
            return {names[0]: text}
    if not required and not text:
        return {}
    raise BadInput(
        "message.parts", text, f"Give the input of {manifest.name} as data: {json.dumps(manifest.input_schema)}"
    )
