"""Archived events given again: to this board as new runs, or to a bus.

Replayed events keep their identity, so whoever drops duplicates by ``source`` and ``id`` sees each once; one that was replayed
under a name carries it as the CloudEvents extension ``replayof``.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

from pydantic import JsonValue, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.errors import ArbiterError, BadInput
from blackboard.events import PREFIX, SUFFIX, ReplayOf, RunAccepted, RunAcceptedData
from blackboard.refusing import refused
from blackboard.taint import of_request
from blackboard.types import Limits

Json = dict[str, JsonValue]
Send = Callable[[Sequence[Json]], Awaitable[None]]
"""Takes some events, in order; raises when it did not."""

BATCH = 50
ATTEMPTS = 5
HTTP_SECONDS = 10.0
_ACCEPTED = f"{PREFIX}{RunAccepted.kind}{SUFFIX}"


class NotDelivered(ArbiterError):
    """A target refused events or cannot be reached. Those before them were taken; replaying again repeats them.

    Attributes:
        delivered: how many were taken.
    """

    def __init__(self, message: str, delivered: int) -> None:
        super().__init__(message)
        self.delivered = delivered


class Replayed(NamedTuple):
    """What became of an event that is a request."""

    run_id: str
    event: Json


def marked(events: Iterable[Json], name: str = "") -> Iterator[Json]:
    """The events with the name of their replay."""
    return ({**event, "replayof": name} if name else event for event in events)


async def replay_to(send: Send, events: Iterable[Json], *, name: str = "", batch: int = BATCH) -> int:
    """Give events to a callable, some at a time, in order; the next only when the last were taken.

    Returns:
        How many were taken.

    Raises:
        NotDelivered: the callable raised.
    """
    count = 0
    coming = marked(events, name)
    while some := list(islice(coming, batch)):
        try:
            await send(some)
        except Exception as error:
            said = str(error) or type(error).__name__
            raise NotDelivered(
                f"{count} events were delivered; the next, {some[0]['source']} {some[0]['id']}, was not: {said}", count
            ) from error
        count += len(some)
    return count


class HttpTarget:
    """Posts events to a URL as CloudEvents: one alone in structured mode, several in a batch.

    Args:
        url: ``http://`` or ``https://``.
        headers: such as ``Authorization``.
        attempts: how often a batch is posted when the target cannot be reached, has too much to do (429) or fails (5xx).
        seconds: how long an answer is waited for.

    Source of the two forms: CloudEvents 1.0, HTTP protocol binding, 3.2 and 3.3.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        attempts: int = ATTEMPTS,
        seconds: float = HTTP_SECONDS,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput("url", url, "Use http:// or https://.")
        self._url, self._headers, self._attempts, self._seconds = url, dict(headers or {}), attempts, seconds
        self.wait: Any = wait_random_exponential(multiplier=0.5, max=10.0)
        """Time between two attempts; replace it in tests."""

    async def __call__(self, events: Sequence[Json]) -> None:
        """Post some events.

        Raises:
            OSError: they were not taken.
        """
        alone = len(events) == 1
        body = json.dumps(events[0] if alone else list(events)).encode()
        kind = "application/cloudevents+json" if alone else "application/cloudevents-batch+json"
        again = AsyncRetrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(self._attempts),
            wait=self.wait,
            reraise=True,
        )

        async def post() -> None:
            await asyncio.to_thread(self._post, body, kind)

        await again(post)

    def _post(self, body: bytes, kind: str) -> None:
        given = {**self._headers, "Content-Type": f"{kind}; charset=UTF-8"}
        request = urllib.request.Request(self._url, body, given, method="POST")
        try:
            with _opener.open(request, timeout=self._seconds):
                pass
        except urllib.error.HTTPError as error:
            with error:
                said = f"{self._url} answered {error.code} {error.reason}"
            if error.code == 429 or error.code >= 500:
                raise _Passing(said) from error
            raise OSError(said) from error
        except (OSError, urllib.error.URLError) as error:
            raise _Passing(f"{self._url} cannot be reached: {error}") from error


class _Passing(OSError):
    """Posting again may help."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and headers would go to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


async def replay_runs(
    board: Board,
    events: Iterable[Json],
    *,
    name: str = "",
    tenant: str | None = None,
    limits: Limits | None = None,
    made: Callable[[Replayed], None] = lambda _: None,
) -> int:
    """Submit the requests among archived events as new runs of this board.

    A request is what a run was accepted with (``run.accepted``), and any event that is not a board's own. A direct call is
    none: its input is in the event of its task, which the archive may not have. The event's
    identity and the replay's name are the idempotency key: replayed twice it is one run, and under another name another.
    Without a name an event that was once submitted as a request is still the run it was. Runs use the versions of now.

    Args:
        name: of the replay; in the run's log as ``replay_of``.
        tenant, limits: default: those of the archived run.
        made: told of each run.

    Returns:
        How many requests there were.

    Raises:
        BadInput: a ``run.accepted`` that is none.
        BlobMissing: a large request that is not on this board any more.
        NotDelivered: the board did not take a request; the cause says why.
    """
    count = 0
    for event in events:
        if not _is_request(event):
            continue
        identity = f"{event['source']}\0{event['id']}"
        whose, bounds, request = tenant, limits, cast(JsonValue, event)
        taint, plan = of_request(request), ()
        if event["type"] == _ACCEPTED:
            try:
                data = RunAcceptedData.model_validate(event.get("data"))
            except ValidationError as error:
                raise BadInput("event", event["id"], f"It is no {RunAccepted.kind}: {refused(error)}") from None
            if data.call is not None:
                continue
            taint, plan = data.taint, data.plan
            whose, bounds, request = tenant or data.tenant, limits or data.limits, data.request
            if (blob := Blob.of(request)) is not None:
                request = await board.load(str(event.get("partitionkey")), blob)
        origin = ReplayOf(name=name, source=str(event["source"]), id=str(event["id"]))
        try:
            run_id = await board.submit(
                request, tenant=whose or "default", limits=bounds,
                idempotency_key=f"replay\0{name}\0{identity}" if name else identity, replay_of=origin,
                taint=taint, plan=plan,
            )  # fmt: skip
        except ArbiterError as error:
            raise NotDelivered(f"{count} requests were submitted; {event['id']} was not: {error}", count) from error
        count += 1
        made(Replayed(run_id, event))
    return count


def _is_request(event: Json) -> bool:
    kind = str(event["type"])
    return kind == _ACCEPTED or not kind.startswith(PREFIX)
