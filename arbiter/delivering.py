"""Sends the events of webhooks as CloudEvents, until each was taken or is too old: over HTTP, signed as Standard Webhooks says,
or to a bus or queue of AWS, many at a time.

Every process that plans does this; those of a board share the events of a webhook. Each webhook is sent to on its own, so
that one whose receiver is slow or dead holds up no other.

Sources: CloudEvents 1.0, HTTP protocol binding, structured mode; Standard Webhooks specification 1.0.0.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import itertools
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from redis.exceptions import RedisError

from blackboard import events
from blackboard.board import Board
from blackboard.ending import end
from blackboard.errors import ArbiterError, BadInput, Conflict, UnknownRecord
from blackboard.events import Event
from blackboard.subscriptions import Subscriber
from blackboard.webhooks import Webhook, Webhooks

if TYPE_CHECKING:
    from arbiter.aws.sending import Sender
    from wrapper.addresses import Network
    from wrapper.secrets import Secrets

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often a process looks which webhooks there are."""
ANSWER_SECONDS = 15.0
"""How long a receiver has for its answer."""
LEASE_SECONDS = 60.0
AT_ONCE = 10
"""Most events that go to a bus or queue in one request."""
LONGEST_WAIT_SECONDS = 600.0
"""Longest time between two attempts, also where a receiver asks for a longer one."""
_RENEW_SECONDS = 15.0
_GONE = 410
_NEVER = (400, 413, 415, 422)
"""Answers that say something about the event, which will not change."""


class Sent(NamedTuple):
    """What became of one attempt."""

    status: int | None
    """Of the answer; None where there was none."""
    error: str | None
    """None: it was taken."""
    never: bool = False
    """It will not be taken later either."""
    after: float | None = None
    """Seconds that the receiver asks to wait."""


class Delivery:
    """Sends what the webhooks of a board are to be sent.

    Args:
        secrets: where values of handles come from; asked when one is needed.
        private: networks that are allowed although they are not public.
        authorities: file with certificates that are trusted besides the public ones.
        now: seconds since the epoch.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        board: Board,
        secrets: Callable[[], Secrets],
        private: Sequence[Network] = (),
        authorities: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._board, self._webhooks = board, Webhooks(board)
        self._secrets, self._private, self._authorities = secrets, private, authorities
        self._now, self._sleep = now, sleep
        self._sender: Sender | None = None
        self._fine: set[str] = set()
        """Webhooks whose latest sending succeeded, and that is told."""

    async def run(self) -> None:
        """Send, until cancelled."""
        going: dict[str, tuple[Webhook, asyncio.Task[None]]] = {}
        try:
            while True:
                try:
                    found = [one.webhook for one in await self._webhooks.list() if one.disabled is None]
                except (ArbiterError, RedisError) as error:
                    log.error("webhooks were not looked at: %s", error)
                else:
                    there = {one.name: one for one in found}
                    over = [name for name, (one, task) in going.items() if task.done() or there.get(name) != one]
                    await end([going.pop(name)[1] for name in over])
                    for name, one in there.items():
                        if name not in going:
                            task = asyncio.create_task(self._kept(one), name=f"webhook {name}")
                            going[name] = one, task
                await asyncio.sleep(LOOK_SECONDS * self._board.random.uniform(0.8, 1.2))
        finally:
            await end([task for _, task in going.values()])

    async def test(self, webhook: Webhook) -> Sent:
        """Send one event that tells of nothing, once."""
        id = f"webhook/{webhook.name}/{token_hex(8)}"
        event = Event(
            id=id, source=self._board.source, type=f"{events.PREFIX}webhook.test{events.SUFFIX}", subject=id,
            time=datetime.fromtimestamp(self._now(), UTC), sequence="0", partitionkey=id, data={"webhook": webhook.name},
        )  # fmt: skip
        (sent,) = await self._attempts(webhook, [event])
        return sent

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _kept(self, webhook: Webhook) -> None:
        try:
            await self._deliver(webhook)
        except UnknownRecord:  # it was changed; the next look tells
            return
        except Conflict:
            await self._webhooks.mend(webhook)
        except (ArbiterError, RedisError) as error:
            log.error("webhook %s: %s", webhook.name, error)
        except Exception:
            log.exception("webhook %s failed and is started again", webhook.name)

    async def _deliver(self, webhook: Webhook) -> None:
        terms = webhook.subscription
        self._fine.discard(webhook.name)  # how it fared with others is not known
        async with self._board.subscribe(
            terms.name, kinds=terms.kinds, tenant=terms.tenant, lease_seconds=LEASE_SECONDS
        ) as subscriber:
            while await self._taken(webhook, await subscriber.several(AT_ONCE if webhook.aws else 1), subscriber):
                pass

    async def _taken(self, webhook: Webhook, batch: Sequence[Event], subscriber: Subscriber) -> bool:
        """Send events until that is over for each. False: nothing more is sent."""
        left = list(batch)
        for attempt in itertools.count():
            answers = list(zip(left, await self._attempts(webhook, left), strict=True))
            left = list[Event]()
            after, error = 0.0, None
            for event, sent in answers:
                if sent.error is None:
                    continue
                log.warning("webhook %s did not take %s: %s", webhook.name, event.id, sent.error)
                if sent.status == _GONE:
                    await self._webhooks.disable(webhook, sent.error, f"{os.getpid()}@{socket.gethostname()}")
                    return False
                error = sent.error
                if sent.never or self._now() - event.time.timestamp() >= webhook.age_seconds:
                    log.error("webhook %s: %s is given up: %s", webhook.name, event.id, sent.error)
                    await self._webhooks.failed(webhook, sent.error, event.id)
                else:
                    left.append(event)
                    after = max(after, sent.after or 0.0)
            if error is not None:
                self._fine.discard(webhook.name)
            elif webhook.name not in self._fine:
                await self._webhooks.failed(webhook, None)
                self._fine.add(webhook.name)
            if not left:
                return True
            if not attempt:
                await self._webhooks.failed(webhook, error)
            # Full jitter: Brooker, "Exponential Backoff And Jitter".
            wait = self._board.random.uniform(0, min(LONGEST_WAIT_SECONDS, 2.0 ** min(attempt, 20)))
            if not await self._waited(subscriber, max(wait, min(after, LONGEST_WAIT_SECONDS))):
                return True  # another process has them by now
        raise AssertionError

    async def _waited(self, subscriber: Subscriber, seconds: float) -> bool:
        """Wait without losing what is held; whether it still is."""
        while seconds > 0:
            part = min(seconds, _RENEW_SECONDS)
            await self._sleep(part)
            seconds -= part
            if not await subscriber.renew():
                return False
        return True

    async def _attempts(self, webhook: Webhook, batch: Sequence[Event]) -> list[Sent]:
        if webhook.aws is None:
            return [await self._attempt(webhook, event) for event in batch]
        if self._sender is None:
            from arbiter.aws.sending import Sender

            self._sender = Sender()
        return [Sent(None, error, never) for error, never in await self._sender.send(webhook.aws, batch)]

    async def _attempt(self, webhook: Webhook, event: Event) -> Sent:
        from registry import Grants
        from wrapper.fetching import Fetcher
        from wrapper.isolation import BrokerError
        from wrapper.models.failures import seconds_after
        from wrapper.targets import target_of

        body = event.model_dump_json().encode()
        try:
            secrets = self._secrets()
            headers = signed(_key(secrets, webhook.secret), event.id, int(self._now()), body)
            grants = Grants(http_hosts=(target_of(webhook.url).place,), http_methods=("POST",))
            fetcher = Fetcher(grants, secrets, self._private, ANSWER_SECONDS, self._authorities)
            answer: Any = await fetcher.fetch({
                "url": webhook.url, "method": "POST", "body": base64.b64encode(body).decode(),
                "headers": {**headers, "content-type": "application/cloudevents+json; charset=UTF-8"},
            })  # fmt: skip
        except BrokerError as error:
            return Sent(None, f"{error.type}: {error.message}"[:500], never=error.type == "limit")
        except BadInput as error:
            return Sent(None, str(error)[:500])
        status = cast(int, answer["status"])
        if 200 <= status < 300:
            return Sent(status, None)
        said = {name.lower(): value for name, value in answer["headers"]}
        return Sent(status, f"it answered {status}", status in _NEVER, seconds_after(said.get("retry-after", "")))


def signed(key: bytes, id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers that let a receiver tell that a message is ours, whole and new.

    Source: Standard Webhooks specification 1.0.0, with a symmetric key.
    """
    digest = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secrets: Secrets, handle: str | None) -> bytes:
    value = secrets.get(handle) if handle is not None else None
    if value is None:
        raise BadInput("secret", handle, "This process has no such secret; see docs/grants.md.")
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise BadInput("secret", handle, "Its value must be whsec_ and the base64 of 24 to 64 bytes.")
    return key
