"""Requests from an SQS queue: a message is deleted once its run is durable, and never before.

A message that comes twice is one run, by the identity of the event in it or else of the message. What can never be accepted stays
in the queue, whose redrive policy moves it. While the board refuses for the time being, nothing more is received, and what was
received is held: so nobody's messages use up the receives after which they would be moved.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

from redis.exceptions import RedisError

from arbiter.aws.envelopes import request_of, sources_of
from blackboard.destinations import intake
from blackboard.errors import ArbiterError, BadInput, Conflict, QuotaExceeded
from blackboard.types import Record
from wrapper.aws_clients import AwsUnavailable, Clients

log = logging.getLogger(__name__)

POLL_SECONDS = 20
"""How long a poll waits for a message; the longest there is."""
BATCH = 10
LONGEST_WAIT_SECONDS = 300.0
"""Longest time until what the board refused is offered to it again."""
MARGIN_SECONDS = 30
"""How much longer than that it is held."""
LEAVE_SECONDS = 3.0
"""How long a process that stops tries to give back what it received."""

Message = dict[str, Any]


class Submit(Protocol):
    """As :meth:`arbiter.client.Client.submit`."""

    async def __call__(
        self, request: Any, *, idempotency_key: str | None, tenant: str | None, sources: tuple[str, ...]
    ) -> str: ...


class QueueState(Record):
    """How this process fares with a queue, since it was started."""

    url: str
    name: str
    tenant: str | None = None
    """Whose the requests are; None: the process's own tenant's."""
    accepted: int = 0
    """Messages that became a run, or were one already, and were deleted."""
    refused: int = 0
    """How often a message was received that can never be accepted."""
    held: int = 0
    """Messages that wait here because the board refuses for the time being."""
    last_error: str | None = None
    """What was wrong last: with the queue, the board or a message."""


class Receiver:
    """Receives from one queue.

    Args:
        given: ``URL`` of the queue, or ``TENANT=URL``.
        submit: accepts a request.
        sleep: waits for so many seconds.

    Raises:
        BadInput: no URL of a queue, or no tenant.
    """

    def __init__(
        self, given: str, submit: Submit, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        tenant, self._place = intake(given)
        self._submit, self._sleep = submit, sleep
        self._clients = Clients()
        self._identity: str | None = None
        self.state = QueueState(url=self._place.address, name=self._place.name, tenant=tenant)

    async def look(self) -> str:
        """What the queue is like, in a line.

        Raises:
            AwsUnavailable: it cannot be reached.
        """
        wanted = ["QueueArn", "ApproximateNumberOfMessages", "RedrivePolicy"]
        found = (await self._ask("get_queue_attributes", AttributeNames=wanted)).get("Attributes", {})
        self._identity = found["QueueArn"]
        policy = (
            "" if "RedrivePolicy" in found else "; no redrive policy: what cannot be accepted comes again and again"
        )
        whose = f" for {self.state.tenant}" if self.state.tenant else ""
        return f"{self._place.name}{whose}: about {found.get('ApproximateNumberOfMessages', '?')} messages{policy}"

    async def said(self) -> str:
        """The same, or why it cannot be reached."""
        try:
            return await self.look()
        except AwsUnavailable as error:
            return f"{self._place.name}: cannot be reached: {error} It is asked again."

    async def run(self) -> None:
        """Receive, until cancelled; then give back what was not accepted."""
        failed = 0
        while True:
            try:
                if self._identity is None:
                    await self.look()
                messages = await self._received()
            except AwsUnavailable as error:
                self._told(str(error))
                failed += 1
                await self._sleep(_jitter(failed))
                continue
            failed = 0
            await self._taken(messages)

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _received(self) -> list[Message]:
        """The next messages; those that come when this was cancelled go back."""

        def back(answer: Message) -> None:
            with suppress(AwsUnavailable):
                self._clients.ask("sqs", self._place.region, "change_message_visibility_batch",
                                  **self._visibility(answer.get("Messages", ()), 0))  # fmt: skip

        answer = await self._ask("receive_message", late=back, MaxNumberOfMessages=BATCH, WaitTimeSeconds=POLL_SECONDS)
        return answer.get("Messages", [])

    async def _taken(self, messages: list[Message]) -> None:
        """Submit what the messages ask for until each is accepted, or refused for good."""
        done: list[Message] = []
        left = list(messages)
        try:
            attempt = 0
            while left:
                wait = await self._accepted(left[0], done)
                if wait is None:
                    left.pop(0)
                    attempt = 0
                    continue
                attempt += 1
                await self._deleted(done)
                wait = min(wait or _jitter(attempt), LONGEST_WAIT_SECONDS)
                left = await self._hidden(left, math.ceil(wait) + MARGIN_SECONDS)
                self._now(held=len(left))
                await self._sleep(wait)
            await self._deleted(done)
        except asyncio.CancelledError:
            with suppress(TimeoutError, AwsUnavailable):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._deleted(done)
                    await self._hidden(left, 0)
            raise
        finally:
            self._now(held=0)

    async def _accepted(self, message: Message, done: list[Message]) -> float | None:
        """Submit what one message asks for. Returns in how many seconds to try again, 0: soon; None: it is over."""
        id = message["MessageId"]
        try:
            request = request_of(message.get("Body", ""))
            key = None if isinstance(request, dict) and "specversion" in request else f"{self._identity}\0{id}"
            sources = sources_of(request, self._place.name)
            await self._submit(request, idempotency_key=key, tenant=self.state.tenant, sources=sources)
        except (BadInput, Conflict) as error:
            said = f"message {id} can never be accepted and is left to the redrive policy of the queue: {error}"
            self._now(refused=self.state.refused + 1)
            self._told(said)
            return None
        except (ArbiterError, RedisError) as error:
            said = f"message {id} is not accepted yet: {error}"
            if said != self.state.last_error:  # once, however often it is tried
                self._told(said)
            return error.retry_after_seconds if isinstance(error, QuotaExceeded) else 0.0
        done.append(message)
        return None

    async def _deleted(self, done: list[Message]) -> None:
        """Delete messages. One that is not comes again, finds its run, and is deleted then."""
        if not done:
            return
        entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(done)]
        try:
            failed = (await self._ask("delete_message_batch", Entries=entries)).get("Failed", ())
        except AwsUnavailable as error:
            self._told(f"accepted and not deleted, so it comes again: {error}")
            return
        finally:
            done.clear()
        self._now(accepted=self.state.accepted + len(entries) - len(failed))
        for one in failed:
            self._told(f"accepted and not deleted, so it comes again: {one['Code']}")

    async def _hidden(self, messages: list[Message], seconds: int) -> list[Message]:
        """Hide messages for so long from now on; returns those that still are this process's."""
        if not messages:
            return []
        try:
            failed = (await self._ask("change_message_visibility_batch", **self._visibility(messages, seconds))).get(
                "Failed", ()
            )
        except AwsUnavailable as error:
            self._told(str(error))
            return messages  # others may get them as well, and find their runs
        lost = {int(one["Id"]) for one in failed}
        return [one for at, one in enumerate(messages) if at not in lost]

    def _visibility(self, messages: Any, seconds: int) -> dict[str, Any]:
        return {
            "QueueUrl": self._place.address,
            "Entries": [
                {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": seconds}
                for at, one in enumerate(messages)
            ],
        }

    async def _ask(self, operation: str, **given: Any) -> Message:
        given = {"QueueUrl": self._place.address, **given}
        return await self._clients.call(self._place.service, self._place.region, operation, **given)

    def _now(self, **changed: Any) -> None:
        self.state = self.state.model_copy(update=changed)

    def _told(self, error: str) -> None:
        log.warning("queue %s: %s", self._place.name, error)
        self._now(last_error=error)


def _jitter(attempt: int) -> float:
    # Full jitter: Brooker, "Exponential Backoff And Jitter".
    return random.uniform(0, min(60.0, 2.0 ** min(attempt, 20)))
