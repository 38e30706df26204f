"""A real A2A agent for tests, made with the protocol's own library: it answers, works, fails, asks back and can be stopped."""

from __future__ import annotations

import asyncio
from typing import Any

from a2a.helpers import new_data_part, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Role,
    Task,
    TaskState,
    TaskStatus,
)
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Kitchen(AgentExecutor):
    """Cooks, by what it is told."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.refusals: list[Response] = []
        """What the next messages are answered with instead."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        words = context.get_user_input()
        self.asked.append({"id": message.message_id, "words": words, **MessageToDict(message.metadata)})
        if words == "hello":
            await event_queue.enqueue_event(new_text_message("Good day.", role=Role.ROLE_AGENT))
            return
        assert context.task_id is not None
        assert context.context_id is not None
        await event_queue.enqueue_event(
            Task(
                id=context.task_id, context_id=context.context_id,
                status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED), history=[message],
            )
        )  # fmt: skip
        work = TaskUpdater(event_queue, context.task_id, context.context_id)
        await work.start_work(work.new_agent_message([new_text_part("the oven is hot")]))
        match words:
            case "burn":
                await work.failed(work.new_agent_message([new_text_part("it burnt")]))
            case "what?":
                await work.requires_input(work.new_agent_message([new_text_part("which sauce?")]))
            case "poison":
                await work.reject(work.new_agent_message([new_text_part("never")]))
            case "simmer":
                await asyncio.sleep(3600)
            case _:
                data = [MessageToDict(part.data) for part in message.parts if part.WhichOneof("content") == "data"]
                await work.add_artifact([new_data_part({"dish": words, "with": data, "minutes": 12})])
                await work.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        self.stopped.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def card(url: str, *, streaming: bool = True, skills: tuple[str, ...] = ("cook", "Clean Up")) -> AgentCard:
    return AgentCard(
        name="kitchen", description="A kitchen.", version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=streaming), default_input_modes=["text/plain"],
        default_output_modes=["application/json"],
        skills=[
            AgentSkill(id=each, name=each, description=f"Can {each}.", tags=["food"], examples=[f"{each} fries"])
            for each in skills
        ],
    )  # fmt: skip


class Door:
    """Refuses messages as the kitchen says."""

    def __init__(self, app: ASGIApp, kitchen: Kitchen) -> None:
        self.app, self.kitchen = app, kitchen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and self.kitchen.refusals:
            await self.kitchen.refusals.pop(0)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def app(made: AgentCard, kitchen: Kitchen) -> Starlette:
    handler = DefaultRequestHandler(agent_executor=kitchen, task_store=InMemoryTaskStore(), agent_card=made)
    routes = [*create_agent_card_routes(made), *create_jsonrpc_routes(handler, "/")]
    return Starlette(routes=routes, middleware=[Middleware(Door, kitchen)])
