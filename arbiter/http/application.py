"""The routes, and what all of them share: place, token and scope before anything else, problems after."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbiter.health import ANSWER_SECONDS, Check
from arbiter.http import (
    agendas,
    approvals,
    asking,
    callbacks,
    console,
    entries,
    metrics,
    operating,
    permits,
    problems,
    runs,
    schedules,
    schemas,
    standing,
    subscriptions,
    webhooks,
)
from arbiter.http.access import Access
from arbiter.http.asked import Asked
from arbiter.http.callbacks import Outside
from arbiter.http.described import Handler
from blackboard.errors import ArbiterError

if TYPE_CHECKING:
    from arbiter.sdk import Arbiter

PROBES = ("/live", "/ready")
METRICS, TOKEN, OPENAPI = "/metrics", "/v1/token", "/v1/openapi.json"
log = logging.getLogger(__name__)

Answer = Callable[[Request], Awaitable[Response]]

ROUTES: tuple[tuple[str, str, str, Handler[Asked]], ...] = (
    ("POST", "/v1/runs", "runs:write", runs.submit),
    ("GET", "/v1/runs", "runs:read", runs.listing),
    ("POST", "/v1/calls", "runs:write", runs.call),
    ("POST", "/v1/plans", "runs:write", runs.plan),
    ("GET", "/v1/runs/events", "runs:read", runs.follow_all),
    ("GET", "/v1/runs/{run}", "runs:read", runs.show),
    ("GET", "/v1/runs/{run}/events", "runs:read", runs.follow),
    ("GET", "/v1/runs/{run}/picture", "runs:read", runs.picture),
    ("POST", "/v1/runs/{run}/cancel", "runs:write", runs.cancel),
    ("POST", "/v1/runs/{run}/pause", "runs:write", runs.pause),
    ("POST", "/v1/runs/{run}/resume", "runs:write", runs.resume),
    ("POST", "/v1/runs/{run}/rerun", "runs:write", runs.rerun),
    ("GET", "/v1/runs/{run}/agenda", "runs:read", agendas.listing),
    ("GET", "/v1/runs/{run}/agenda/recommended", "runs:read", agendas.recommended),
    ("GET", "/v1/runs/{run}/agenda/strategy", "runs:read", agendas.strategy),
    ("POST", "/v1/runs/{run}/agenda/strategy", "runs:write", agendas.focus),
    ("GET", "/v1/runs/{run}/agenda/{activation}", "runs:read", agendas.explained),
    ("POST", "/v1/runs/{run}/agenda/{activation}/promote", "runs:write", agendas.promote),
    ("POST", "/v1/runs/{run}/agenda/{activation}/block", "runs:write", agendas.block),
    ("POST", "/v1/runs/{run}/agenda/{activation}/unblock", "runs:write", agendas.unblock),
    ("POST", "/v1/runs/{run}/agenda/{activation}/rerate", "runs:write", agendas.rerate),
    ("POST", "/v1/asks", "runs:write", asking.ask),
    ("GET", "/v1/asks/{run}/{name}", "runs:read", asking.show),
    ("GET", "/v1/standing", "runs:read", standing.listing),
    ("POST", "/v1/standing", "runs:write", standing.add),
    ("POST", "/v1/standing/{name}/remove", "runs:write", standing.remove),
    ("GET", "/v1/schedules", "runs:read", schedules.listing),
    ("POST", "/v1/schedules", "runs:write", schedules.add),
    ("POST", "/v1/schedules/{name}/remove", "runs:write", schedules.remove),
    ("POST", "/v1/entries", "entries:write", entries.post),
    ("GET", "/v1/entries", "entries:read", entries.find),
    ("POST", "/v1/entries/take", "entries:write", entries.take),
    ("POST", "/v1/entries/erase", "entries:erase", entries.erase),
    ("GET", "/v1/entries/events", "entries:read", entries.follow),
    ("GET", "/v1/entries/{entry:path}", "entries:read", entries.read),
    ("POST", "/v1/entries/{entry:path}/amend", "entries:write", entries.amend),
    ("POST", "/v1/entries/{entry:path}/retract", "entries:write", entries.retract),
    ("POST", "/v1/entries/{entry:path}/confirm", "entries:write", entries.confirm),
    ("POST", "/v1/entries/{entry:path}/renew", "entries:write", entries.renew),
    ("POST", "/v1/entries/{entry:path}/give-back", "entries:write", entries.give_back),
    ("POST", "/v1/entries/{entry:path}/promote", "entries:write", entries.promote),
    ("GET", "/v1/topic-schemas", "entries:read", schemas.listing),
    ("POST", "/v1/topic-schemas", "entries:write", schemas.put),
    ("POST", "/v1/topic-schemas/remove", "entries:write", schemas.remove),
    ("GET", "/v1/dead-letters", "runs:read", operating.letters),
    ("POST", "/v1/dead-letters/redrive", "runs:write", operating.redrive),
    ("POST", "/v1/dead-letters/discard", "runs:write", operating.discard),
    ("GET", "/v1/dead-letters/{letter:path}", "runs:read", operating.letter),
    ("GET", "/v1/capabilities", "capabilities:read", operating.capabilities),
    ("GET", "/v1/capabilities/{name}", "capabilities:read", operating.capability),
    ("GET", "/v1/approvals", "capabilities:read", operating.approvals),
    ("POST", "/v1/approvals/{name}/approve", "capabilities:approve", operating.approve),
    ("POST", "/v1/approvals/{name}/refuse", "capabilities:approve", operating.refuse),
    ("GET", "/v1/task-approvals", "tasks:approve", approvals.listing),
    ("GET", "/v1/task-approvals/{task}", "tasks:approve", approvals.arguments),
    ("POST", "/v1/task-approvals/{task}/approve", "tasks:approve", approvals.approve),
    ("POST", "/v1/task-approvals/{task}/refuse", "tasks:approve", approvals.refuse),
    ("POST", "/v1/task-approvals/{task}/answer", "tasks:approve", approvals.answer),
    ("GET", "/v1/permits", "secrets:permit", permits.listing),
    ("POST", "/v1/permits/{permit}/approve", "secrets:permit", permits.approve),
    ("POST", "/v1/permits/{permit}/refuse", "secrets:permit", permits.refuse),
    ("GET", "/v1/budgets", "limits:read", operating.budgets),
    ("GET", "/v1/quotas", "limits:read", operating.quotas),
    ("GET", "/v1/audit", "audit:read", operating.audit),
    ("GET", "/v1/subscriptions", "runs:read", subscriptions.listing),
    ("POST", "/v1/subscriptions/{name}/remove", "runs:write", subscriptions.remove),
    ("GET", "/v1/webhooks", "webhooks:write", webhooks.listing),
    ("POST", "/v1/webhooks", "webhooks:write", webhooks.put),
    ("POST", "/v1/webhooks/{name}/remove", "webhooks:write", webhooks.remove),
)
"""Method, path, the scope it takes, and what answers. ``/metrics`` takes ``metrics:read``, ``/v1/token`` any token;
``/live``, ``/ready``, ``/v1/openapi.json`` and the files of the console take nothing."""

CALLBACKS: tuple[tuple[str, str, Handler[Outside]], ...] = (
    ("POST", "/v1/callbacks/complete", callbacks.complete),
    ("POST", "/v1/callbacks/fail", callbacks.fail),
    ("POST", "/v1/callbacks/heartbeat", callbacks.heartbeat),
)
"""Method, path, and what answers whoever shows the token of an attempt; no other token opens these."""


class Application:
    """The API as an ASGI application.

    Args:
        served: started; whose board it is.
        access: who gets in.
        ready: None when this process takes work, else why not.
        closing: set when this process ends.
        exports: what else answers, by path; each judges by ``access`` itself.
        with_console: serve the page for people as well.
    """

    def __init__(
        self,
        served: Arbiter,
        access: Access,
        ready: Check,
        closing: asyncio.Event,
        exports: Mapping[str, ASGIApp] | None = None,
        with_console: bool = False,
    ) -> None:
        self._served, self._access, self._ready, self._closing = served, access, ready, closing
        self._requests: Counter[int] = Counter()
        verbs: dict[str, dict[str, Answer]] = {}
        for verb, path, scope, handle in ROUTES:
            verbs.setdefault(path, {})[verb] = self._guarded(scope, handle)
        made = [Route(path, _by_verb(answers), methods=[*answers]) for path, answers in verbs.items()]
        inner = Starlette(
            routes=[
                Route("/live", self._live),
                Route("/ready", self._is_ready),
                Route(METRICS, self._guarded("metrics:read", self._metrics)),
                Route(TOKEN, self._guarded(None, operating.token)),
                Route(OPENAPI, self._openapi),
                *made,
                *(Route(path, self._from_outside(said), methods=[verb]) for verb, path, said in CALLBACKS),
                *(console.routes() if with_console else []),
                *(Route(path, app) for path, app in (exports or {}).items()),
            ],
            exception_handlers={
                ArbiterError: problems.answer, HTTPException: problems.answer, Exception: problems.answer,
            },
        )  # fmt: skip
        # A redirection would name the scheme of this server, and not that of its proxy.
        inner.router.redirect_slashes = False
        self.app: ASGIApp = _Edge(inner, access, self._requests)

    def _guarded(self, scope: str | None, handle: Callable[[Asked], Awaitable[Response]]) -> Answer:
        async def answer(request: Request) -> Response:
            token = await self._access.admit(request, scope)
            return await handle(Asked(request, self._served, token, self._access, self._closing))

        return answer

    def _from_outside(self, said: Handler[Outside]) -> Answer:
        async def answer(request: Request) -> Response:
            token, by = await self._access.outside(request)
            return await said(Outside(request, self._served.callbacks, token, by))

        return answer

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _is_ready(self, _: Request) -> Response:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                why = await self._ready()
        except Exception as error:
            # Whoever asks has shown no token: the answer is a word, the reason is in the log.
            log.warning("not ready: %s: %s", type(error).__name__, error)
            why = "unavailable"
        return JSONResponse({"status": why or "ready"}, 503 if why else 200)

    async def _openapi(self, _: Request) -> Response:
        from arbiter.http.openapi import document  # which is made once it is wanted

        return JSONResponse(document())

    async def _metrics(self, _: Asked) -> Response:
        return await metrics.answer(self._served, self._requests)


def _by_verb(answers: Mapping[str, Answer]) -> Answer:
    """Several methods of one path; HEAD is GET without its body."""

    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return answer


class _Edge:
    """Outermost: refuses what is meant for others, counts, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, access: Access, requests: Counter[int]) -> None:
        self._app, self._access, self._requests = app, access, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests[message["status"]] += 1
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            # A supervisor beyond this machine asks by address; it learns one word.
            if not (self._access.public and scope["path"] in PROBES):
                self._access.place(Headers(scope=scope))
        except problems.Forbidden as error:
            await problems.answer(None, error)(scope, receive, answered)
            return
        await self._app(scope, receive, answered)
