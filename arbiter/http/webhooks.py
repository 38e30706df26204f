"""Outgoing webhooks over HTTP: which there are and how they fare, setting and removing one."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from arbiter.http import answers, streams
from arbiter.http.access import LOCAL, tenant_of
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from arbiter.http.problems import Forbidden
from arbiter.http.runs import Nothing
from blackboard import events
from blackboard.errors import UnknownRecord
from blackboard.subscriptions import fits
from blackboard.webhooks import Hooked, Webhook, Webhooks


@gives(Answer(answers.WebhookStates))
async def listing(asked: Asked) -> Response:
    """The webhooks; of a tenant's token those of the tenant's events."""
    found = await Webhooks(asked.board).list()
    return streams.answer({"webhooks": [one.record() for one in found if _mine(asked, one)]})


@takes(Webhook, Answer(answers.WebhookState, 201), Answer(answers.WebhookState))
async def put(asked: Asked, wanted: Webhook) -> Response:
    """Send events from now on, or on new terms. The token must see what is sent."""
    if asked.token.tenant is not None:
        wanted = wanted.model_copy(update={"tenant": tenant_of(asked.token, wanted.tenant, asked.token.tenant)})
    _sees(asked, wanted)
    webhooks = Webhooks(asked.board)
    there = await webhooks.get(wanted.name)
    if there is not None and not _mine(asked, there):
        raise Forbidden(f"The name {wanted.name} is taken.")
    return JSONResponse((await webhooks.set(wanted, by=asked.by)).record(), 201 if there is None else 200)


@takes(Nothing, Answer(answers.Removed))
async def remove(asked: Asked, _: Nothing) -> Response:
    """Send nothing more."""
    name = asked.path("name")
    if not await Webhooks(asked.board).remove(name, tenant=asked.token.tenant, by=asked.by):
        raise UnknownRecord("UNKNOWN", f"no webhook {name} on this board")
    return JSONResponse({"name": name, "status": "removed"})


def _sees(asked: Asked, wanted: Webhook) -> None:
    """Refuse to send somewhere what the token does not open.

    Raises:
        Forbidden: it would be sent with the credentials of the daemon, which are not the token's; it lacks a scope, or does not
            open the entries of groups and sessions, which are sent too.
    """
    if wanted.aws is not None and asked.token.id != LOCAL:
        raise Forbidden(
            "What is sent with the AWS credentials of the daemon takes the command, or this machine's own token."
        )
    of_entries = any(kind.startswith("entry.") and fits(wanted.kinds, kind) for kind in events.TYPES)
    for scope in ("runs:read", *(("entries:read",) if of_entries else ())):
        if scope not in asked.token.scopes:
            raise Forbidden(f"This token lacks the scope {scope}, and the webhook would be sent that.", scope)
    if of_entries and asked.token.tenant is None and asked.token.id != LOCAL:
        raise Forbidden(
            "Events of entries of all scopes take the command; a token confined to a tenant sends those of it."
        )


def _mine(asked: Asked, one: Hooked) -> bool:
    return asked.token.tenant in (None, one.webhook.tenant)
