"""A2A agents as peers: asked by message, and followed to the end when a task comes of it.

Source: Agent2Agent Protocol 1.0; the official ``a2a-sdk`` speaks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pydantic import JsonValue

from blackboard.errors import BadInput, MissingExtra
from registry.peers import Listing, lane
from registry.peers.a2a import listing
from registry.peers.mcp import Effects
from wrapper.context import current_task
from wrapper.failing import PeerLost, PeerUnavailable, Permanent, RetryLater
from wrapper.models.failures import retry_after
from wrapper.peers.bounded import HEADERS, bounding
from wrapper.peers.peer import (
    ANSWER_SECONDS,
    CALL_SECONDS,
    REFRESH_SECONDS,
    PeerFailed,
    checked_seconds,
    checked_url,
    filled,
)
from wrapper.reporting import Reporter
from wrapper.secrets import Secrets

if TYPE_CHECKING:
    import httpx
    from a2a.client import Client
    from a2a.types import AgentCard, Task

log = logging.getLogger(__name__)

CARD_PATH = "/.well-known/agent-card.json"
CARD_BYTES = 1 << 20
POLL_SECONDS = (0.2, 5.0)
"""First and longest wait before a task is looked at again that cannot be listened to."""
WORDS = 2000
_STOP_SECONDS = 2.0
_NAMESPACE = uuid.UUID("6f7d6a0e-5d0c-4b39-9df1-7d1b8a3c5a52")
"""For ids of messages: the same task always sends the same one."""


@dataclass(frozen=True, kw_only=True)
class A2aPeer:
    """An A2A agent whose skills are capabilities here, called ``<name>_<skill>``.

    Args:
        name: of the agent here: a lower-case letter, then lower-case letters, digits and ``_``, at most 32.
        url: of its server; the card is asked for at ``/.well-known/agent-card.json`` below it. Or the card's own address.
        headers: sent with every request; values may have ``{{secret:HANDLE}}`` in them. The card may name no other server than
            the one it comes from.
        skills: offer only these, by id. Default: all.
        effects: what asking it does: an agent's card does not say.
        tenant: who may use them; ``*`` is everybody.
        refresh_seconds, answer_seconds, call_seconds: as for :class:`~wrapper.peers.mcp.McpPeer`.

    Raises:
        BadInput: a malformed name or URL, or a number out of its range.
        MissingExtra: ``arbiter[a2a]`` is not installed.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    skills: Sequence[str] | None = None
    effects: Effects = "writes"
    tenant: str = "*"
    refresh_seconds: float = REFRESH_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    call_seconds: float = CALL_SECONDS

    def __post_init__(self) -> None:
        if find_spec("a2a") is None:
            raise MissingExtra("an A2A peer needs a2a-sdk: pip install 'arbiter[a2a]'")
        lane(self.kind, self.name)
        checked_url(self.url, self.headers)
        if self.effects not in ("pure", "reads", "writes", "irreversible"):
            raise BadInput("peer.effects", self.effects, "Use one of pure, reads, writes, irreversible.")
        checked_seconds("refresh_seconds", self.refresh_seconds)
        checked_seconds("answer_seconds", self.answer_seconds, 600)
        checked_seconds("call_seconds", self.call_seconds)

    @property
    def kind(self) -> str:
        return "a2a"

    @property
    def open_seconds(self) -> float:
        return self.answer_seconds

    @property
    def card_url(self) -> str:
        """Where the card is."""
        return self.url if urlsplit(self.url).path.endswith(".json") else self.url.rstrip("/") + CARD_PATH

    @contextlib.asynccontextmanager
    async def open(self, secrets: Secrets) -> AsyncGenerator[A2aSession]:
        """A client for it; whether it answers shows when it is asked for its card."""
        import httpx

        # Redirects are not followed: a header with a secret goes where it was meant to go.
        async with httpx.AsyncClient(
            headers=HEADERS | filled(self.headers, secrets),
            timeout=httpx.Timeout(self.answer_seconds, read=None),
            event_hooks={"response": [bounding(httpx)]},
        ) as http:
            yield A2aSession(self, http)


class A2aSession:
    """An agent that is asked.

    Args:
        peer: which one.
        http: sends the peer's headers.
    """

    def __init__(self, peer: A2aPeer, http: httpx.AsyncClient) -> None:
        self._peer, self._http = peer, http
        self._card: AgentCard | None = None

    async def offers(self) -> Listing:
        from a2a.client.card_resolver import parse_agent_card

        answer = await self._http.get(self._peer.card_url, timeout=self._peer.answer_seconds)
        if answer.status_code != 200:
            raise PeerUnavailable(0, f"it answered {answer.status_code} for its card at {self._peer.card_url}")
        if len(answer.content) > CARD_BYTES:
            raise PeerUnavailable(0, f"its card is larger than {CARD_BYTES:,} bytes")
        found: object = json.loads(answer.content)
        if not isinstance(found, dict):
            raise PeerUnavailable(0, "its card is no JSON object")
        said = cast("dict[str, Any]", found)
        peer = self._peer
        offered = listing(
            peer.name, said, tenant=peer.tenant, effects=peer.effects, seconds=peer.call_seconds, only=peer.skills
        )
        card = parse_agent_card(said)
        here = [each for each in card.supported_interfaces if _same_server(each.url, peer.card_url)]
        if not here:
            raise PeerUnavailable(0, "its card names no address on the server it comes from")
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(here)
        self._card = card
        return offered

    async def changed(self) -> None:
        """A card does not say when it changes."""
        await asyncio.Event().wait()

    async def call(self, tool: str, given: Mapping[str, JsonValue], report: Reporter | None) -> JsonValue:
        import httpx
        from a2a.client import ClientConfig, ClientFactory
        from a2a.utils.errors import A2AError

        assert self._card is not None, "offers() comes first"
        # An agent without streams answers with the task at once, so that it is known what to stop.
        config = ClientConfig(
            httpx_client=self._http, supported_protocol_bindings=["JSONRPC", "HTTP+JSON"],
            polling=not self._card.capabilities.streaming,
        )  # fmt: skip
        conversation = _Conversation(ClientFactory(config).create(self._card), report)
        try:
            return await conversation.ask(tool, given)
        except httpx.ConnectError as error:
            raise PeerUnavailable(0, _short(error)) from error
        except (httpx.TransportError, httpx.StreamError, OSError) as error:
            raise PeerLost(f"the connection broke: {_short(error)}") from error
        except A2AError as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                raise PeerUnavailable(0, _short(error)) from error
            if isinstance(error.__cause__, httpx.TransportError | httpx.StreamError):
                raise PeerLost(f"the connection broke: {_short(error)}") from error
            refused = error.__cause__
            if isinstance(refused, httpx.HTTPStatusError) and (wait := retry_after(refused)) is not None:
                raise RetryLater(wait, f"the agent answered {refused.response.status_code}: ask later") from error
            raise PeerFailed(f"{type(error).__name__}: {_short(error)}") from error
        except asyncio.CancelledError:
            await conversation.stop()
            raise


class _Conversation:
    """One message to an agent, and what comes of it.

    Args:
        client: of the agent.
        report: is told what the agent says while it works.
    """

    def __init__(self, client: Client, report: Reporter | None) -> None:
        self._client, self._report = client, report
        self._task: str | None = None
        self._steps = 0

    async def ask(self, skill: str, given: Mapping[str, JsonValue]) -> JsonValue:
        """Send it and wait for the end."""
        from a2a.types import GetTaskRequest, Message

        async for answer in self._client.send_message(self._request(skill, given)):
            match answer.WhichOneof("payload"):
                case "message":
                    message: Message = answer.message
                    return _result(message.parts)
                case "task":
                    self._task = answer.task.id
                    await self._told(answer.task.status.message)
                    if _over(answer.task):
                        return _ending(answer.task)
                case "status_update":
                    self._task = answer.status_update.task_id or self._task
                    await self._told(answer.status_update.status.message)
                case _:
                    continue
        if self._task is None:
            raise PeerFailed("the agent gave no answer")
        wait, longest = POLL_SECONDS
        while True:
            # Streams end early, and agents without streams answer at once: what counts is what the task says.
            task = await self._client.get_task(GetTaskRequest(id=self._task))
            if _over(task):
                return _ending(task)
            await self._told(task.status.message)
            await asyncio.sleep(wait)
            wait = min(2 * wait, longest)

    async def stop(self) -> None:
        """Have the agent stop, within two seconds; nobody waits for its answer."""
        from a2a.types import CancelTaskRequest

        if self._task is None:
            return
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._client.cancel_task(CancelTaskRequest(id=self._task))
        except Exception as error:
            log.info("task %s of an agent may go on: %s", self._task, error)

    def _request(self, skill: str, given: Mapping[str, JsonValue]) -> Any:
        from a2a.helpers import new_data_part, new_text_part
        from a2a.types import Message, Role, SendMessageConfiguration, SendMessageRequest

        task = current_task()
        parts = [new_text_part(str(given["message"]))]
        if "data" in given:
            parts.append(new_data_part(given["data"]))
        key = str(uuid.uuid4()) if task is None else str(uuid.uuid5(_NAMESPACE, task.idempotency_key))
        metadata: dict[str, Any] = {"skill": skill}
        if task is not None:
            metadata["dev.arbiter/idempotency-key"] = task.idempotency_key
        # The same in every attempt at the task: an agent that knows the message does not begin again.
        message = Message(message_id=key, role=Role.ROLE_USER, parts=parts, metadata=metadata)
        return SendMessageRequest(
            message=message,
            configuration=SendMessageConfiguration(accepted_output_modes=["application/json", "text/plain"]),
        )

    async def _told(self, message: Any) -> None:
        said = _text(message.parts) if message is not None else ""
        if said and self._report is not None:
            self._steps += 1
            await self._report(float(self._steps), None, said)


def _over(task: Task) -> bool:
    from a2a.types import TaskState

    return task.status.state not in (
        TaskState.TASK_STATE_UNSPECIFIED,
        TaskState.TASK_STATE_SUBMITTED,
        TaskState.TASK_STATE_WORKING,
    )


def _ending(task: Task) -> JsonValue:
    """What a task that is over comes to.

    Raises:
        PeerFailed: it failed, or was cancelled there.
        Permanent: it was rejected, or wants something nobody here can give.
    """
    from a2a.types import TaskState

    said = _text(task.status.message.parts)[:WORDS]
    match task.status.state:
        case TaskState.TASK_STATE_COMPLETED:
            parts = [part for artifact in task.artifacts for part in artifact.parts]
            return _result(parts or task.status.message.parts)
        case TaskState.TASK_STATE_FAILED:
            raise PeerFailed(said or "the agent says that it failed, and no more")
        case TaskState.TASK_STATE_CANCELED:
            raise PeerFailed(f"the agent's task was cancelled there. {said}".strip())
        case TaskState.TASK_STATE_REJECTED:
            raise Permanent(f"The agent does not do that. {said}".strip())
        case _:
            raise Permanent(f"The agent asks for more, and nobody is there to answer: {said or 'it does not say what'}")


def _result(parts: Any) -> JsonValue:
    """Data where there is only data, text where there is only text, else all parts."""
    from google.protobuf.json_format import MessageToDict

    listed = list(parts)
    kinds = {part.WhichOneof("content") for part in listed}
    if kinds == {"data"}:
        values = [whole(MessageToDict(part.data)) for part in listed]
        return values[0] if len(values) == 1 else values
    if kinds <= {"text"}:
        return _text(listed)
    return {"parts": [whole(MessageToDict(part)) for part in listed]}


def whole(value: Any) -> Any:
    """Numbers as they were: the protocol's values know only floating point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [whole(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _text(parts: Any) -> str:
    return "\n".join(part.text for part in parts if part.WhichOneof("content") == "text")


def _same_server(url: str, card: str) -> bool:
    one, other = urlsplit(url), urlsplit(card)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def _short(error: BaseException) -> str:
    return str(error)[:WORDS]
