"""This board as an A2A agent, asked by the protocol's own client and by another board."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.helpers import new_data_part, new_text_part
from a2a.types import CancelTaskRequest, GetTaskRequest, Message, Role, SendMessageRequest, Task, TaskState
from a2a.utils.errors import A2AError
from google.protobuf.json_format import MessageToDict
from peer_support import Turned, followed
from test_export_mcp import add, gate, secret_recipe, shout

from arbiter import A2aPeer, Arbiter, ScriptedModel
from arbiter.http.server import Api
from blackboard.board import Board
from blackboard.testing import RedisServer
from blackboard.tokens import Tokens
from wrapper.secrets import Secrets


class Site:
    """An Arbiter that is an agent, and clients of it."""

    def __init__(self, arbiter: Arbiter, url: str, local: str) -> None:
        self.arbiter, self.url, self.local = arbiter, url, local

    @contextlib.asynccontextmanager
    async def client(self, token: str | None = None, *, streaming: bool = True) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {token or self.local}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as http:
            card = await A2ACardResolver(http, self.url).get_agent_card()
            yield ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)


def message(skill: str | None = None, text: str = "", data: Any = None, id: str = "m1") -> SendMessageRequest:
    parts = [new_text_part(text)] if text else []
    if data is not None or not text:
        parts.append(new_data_part(data or {}))
    said = Message(message_id=id, role=Role.ROLE_USER, parts=parts, metadata={"skill": skill} if skill else None)
    return SendMessageRequest(message=said)


async def ending(client: Client, request: SendMessageRequest) -> Task:
    """The task as it is when its stream is over."""
    task_id = ""
    async for answer in client.send_message(request):
        task_id = task_id or (answer.task.id if answer.HasField("task") else answer.status_update.task_id)
    return await client.get_task(GetTaskRequest(id=task_id))


def words(task: Task) -> str:
    return "\n".join(part.text for part in task.status.message.parts)


@pytest.fixture
async def site(redis_server: RedisServer, board_name: str, tmp_path: Path) -> AsyncIterator[Site]:
    model = ScriptedModel(["The answer is 42."])
    async with Arbiter(
        redis_server.url, model, board=board_name, data_dir=tmp_path, roles=("arbiter",), grace_seconds=0.2,
        capabilities=[add, shout, secret_recipe, gate], lease_seconds=1.5,
    ) as arbiter:  # fmt: skip
        api = Api("127.0.0.1:0", data_dir=tmp_path, exports=["a2a"])

        async def ready() -> str | None:
            return None

        await api.start(arbiter, ready)
        try:
            yield Site(arbiter, f"{api.address}/a2a", (tmp_path / "http" / "token").read_text().strip())
        finally:
            await api.close()


async def test_capabilities_are_skills_and_a_message_is_a_run(site: Site) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {site.local}"}) as http:
        card = await A2ACardResolver(http, site.url).get_agent_card()
        assert [skill.id for skill in card.skills] == ["request", "add", "gate", "shout"]
        assert card.supported_interfaces[0].url == site.url
    async with site.client() as client:
        added = await ending(client, message("add", data={"a": 2, "b": 3}))
        assert added.status.state == TaskState.TASK_STATE_COMPLETED
        assert MessageToDict(added.artifacts[0].parts[0].data) == {"sum": 5}
        loud = await ending(client, message("shout", "hello", id="m2"))
        assert loud.artifacts[0].parts[0].text == "HELLO"
        planned = await ending(client, message(text="What is the answer?", id="m3"))
        assert planned.artifacts[0].parts[0].text == "The answer is 42."
    assert len(await site.arbiter.runs()) == 3


async def test_what_fails_or_does_not_fit_says_so(site: Site) -> None:
    async with site.client() as client:
        for number, (request, state, said) in enumerate(
            [
                (message("shout", data={"text": ""}), TaskState.TASK_STATE_FAILED, "ValueError: nothing to say"),
                (message("add", data={"a": 1}), TaskState.TASK_STATE_REJECTED, "call.input"),
                (message("add", "two and three"), TaskState.TASK_STATE_REJECTED, "Give the input of add as data"),
                (message("fly", "up"), TaskState.TASK_STATE_REJECTED, "There is no such skill here"),
                (message("secret_recipe"), TaskState.TASK_STATE_REJECTED, "There is no such skill here"),
            ]
        ):
            request.message.message_id = f"m{number}"
            ended = await ending(client, request)
            assert ended.status.state == state
            assert said in words(ended)


async def test_a_message_that_comes_twice_is_one_run(site: Site) -> None:
    async with site.client() as client:
        for _ in range(2):
            again = await ending(client, message("add", data={"a": 2, "b": 3}))
            assert again.status.state == TaskState.TASK_STATE_COMPLETED
    assert len(await site.arbiter.runs()) == 1


async def test_a_task_that_is_cancelled_there_is_cancelled_here(site: Site) -> None:
    async with site.client() as client:
        async with asyncio.timeout(30):
            answers: Any = client.send_message(message("gate"))
            task_id = (await anext(answers)).task.id
            while not (runs := await site.arbiter.runs()):  # its task is told of first, and nothing more until it ends
                await asyncio.sleep(0.01)
            await answers.aclose()
        cancelled = await client.cancel_task(CancelTaskRequest(id=task_id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
    assert (await site.arbiter.result(runs[0].id, timeout=60)).status == "cancelled"


async def test_a_token_sees_its_own_tenant_and_tasks(site: Site) -> None:
    tokens = Tokens(site.arbiter.board.catalog)
    scopes = ["runs:write", "capabilities:read"]
    acme, _ = await tokens.create("acme", scopes, tenant="acme")
    other, _ = await tokens.create("other", scopes)
    async with site.client(acme) as client:
        told = await ending(client, message("secret_recipe"))
        assert told.artifacts[0].parts[0].text == "salt"
    async with site.client(other) as client:
        with pytest.raises(A2AError):
            await client.get_task(GetTaskRequest(id=told.id))
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{site.url}/.well-known/agent-card.json")).status_code == 401
        assert (await http.post(site.url, json={})).status_code == 401
        few, _ = await tokens.create("few", ["capabilities:read"])
        assert (await http.post(site.url, json={}, headers={"Authorization": f"Bearer {few}"})).status_code == 403


async def test_a_board_can_be_anothers_peer(site: Site, redis_board: Board) -> None:
    peer = A2aPeer(name="other", url=site.url, headers={"Authorization": "Bearer {{secret:other}}"})
    secrets = Secrets({"other": site.local})
    async with followed(redis_board, peer, clock=Turned(), secrets=secrets) as (follower, functions):
        assert follower.trouble is None
        assert sorted(functions) == ["other_add", "other_gate", "other_request", "other_shout"]
        found, _ = await functions["other_add"].invoke({"message": "add", "data": {"a": 2, "b": 3}})
        assert found == {"sum": 5}
        answer, _ = await functions["other_request"].invoke({"message": "What is the answer?"})
        assert answer == "The answer is 42."
