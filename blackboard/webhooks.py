"""Outgoing webhooks: which there are, and how each fares. What sends them is in the room ``arbiter``.

A webhook is a definition and a state, both on the board's first shard, and a durable subscription, ``webhook.NAME``, that holds
what it is still to be sent. So its backlog is how far that is behind, and whoever serves the board sends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Self, cast
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from blackboard import _keys, _script
from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.destinations import Place, place
from blackboard.errors import BadInput, Conflict
from blackboard.subscriptions import Subscription, Subscriptions
from blackboard.types import Record, Settings, type_name

MOST_AGE_SECONDS = 30 * 86_400.0
_ATTEMPTS = 20
_AWS = ("eventbridge:", "sqs:")
_HANDLE = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"


class Webhook(Settings):
    """Where events are sent.

    Raises:
        BadInput: a malformed name, address, kind or handle.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,55}$")
    url: str = Field(max_length=2000)
    """``https://…``, or of AWS ``eventbridge:BUS``, by name or ARN, or ``sqs:QUEUE_URL``."""
    secret: str | None = Field(default=None, pattern=_HANDLE)
    """Handle of the secret that signs; whoever sends looks it up. Its value is ``whsec_`` and base64. None for AWS, which knows
    the sender by its credentials."""
    kinds: tuple[str, ...] = ("run.completed",)
    """As for a :class:`~blackboard.subscriptions.Subscription`."""
    tenant: str | None = Field(default=None, pattern=type_name)
    age_seconds: float = Field(default=86_400.0, ge=0, le=MOST_AGE_SECONDS)
    """How old an event may become, from when it happened, while it is sent again and again; each is sent once in any case."""

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url.startswith(_AWS):
            place(url)
            return url
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
        except ValueError:
            good, parts = False, urlsplit("")
        if not good or not url.isascii() or not url.isprintable() or " " in url or parts.username is not None:
            raise BadInput("url", url, "Give an address that begins with https://, without name and password.")
        return url

    @field_validator("kinds")
    @classmethod
    def _there(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return Subscription(name="kinds", kinds=kinds).kinds

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.aws is None and self.secret is None:
            raise BadInput("secret", None, "Give the handle of the secret that signs what is sent there.")
        if self.aws is not None and self.secret is not None:
            raise BadInput("secret", self.secret, "Leave it out: AWS is sent to with the credentials of the process.")
        return self

    @property
    def aws(self) -> Place | None:
        """The bus or the queue, where it is one."""
        return place(self.url) if self.url.startswith(_AWS) else None

    @property
    def subscription(self) -> Subscription:
        """What holds its events."""
        return Subscription(name=f"webhook.{self.name}", kinds=self.kinds, tenant=self.tenant)


class Hooked(Record):
    """A webhook and how it fares."""

    webhook: Webhook
    disabled: str | None = None
    """Why nothing is sent any more, until it is set again."""
    given_up: int = 0
    """How many events were not taken in time, or are never taken."""
    last_given_up: str | None = None
    """Id of the latest of them."""
    last_error: str | None = None
    """What was wrong with the latest sending; None since one succeeded."""
    nonce: str = ""
    """Makes each state unlike any other."""

    def record(self) -> dict[str, Any]:
        """All of it that is for people and programs, on one level, as JSON values."""
        said = self.model_dump(mode="json", exclude={"nonce"})
        return {**said.pop("webhook"), **said}


class Webhooks:
    """The outgoing webhooks of a board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._keys = _keys.webhooks(board.shards[0])
        self._subscriptions = Subscriptions(board)

    async def set(self, webhook: Webhook, *, by: str | None = None) -> Hooked:
        """Send events from now on, or on new terms; one that was disabled is sent to again.

        What waits to be sent stays, unless it is for other kinds or another tenant.

        Args:
            by: who, for the audit. Default: the user of this process.

        Raises:
            Conflict: too many change it at once.
            ScriptRefused: the board has as many subscriptions as it may.
            EngineUnavailable: the server stayed unreachable.
        """
        said = webhook.model_dump(mode="json", exclude={"name"})
        await Audit(self._board).note("webhook.set", webhook.name, by=by, detail=said)
        for _ in range(_ATTEMPTS):
            known = await self._read(webhook.name)
            if known and known[0].webhook.subscription != webhook.subscription:
                await self._subscriptions.remove(webhook.subscription.name)
            now = Hooked(webhook=webhook, nonce=secrets.token_hex(8))
            await self._subscriptions.add(webhook.subscription)
            if await self._write(webhook.name, known[0].model_dump_json() if known else "", now):
                return now
        raise Conflict("CONFLICT", f"webhook {webhook.name} is being changed by too many at once; try again")

    async def list(self) -> list[Hooked]:
        """All of them, by name."""
        return sorted(await self._read(""), key=lambda one: one.webhook.name)

    async def get(self, name: str) -> Hooked | None:
        """One of them."""
        return next(iter(await self._read(name)), None)

    async def remove(self, name: str, *, tenant: str | None = None, by: str | None = None) -> bool:
        """Send nothing any more and forget what waits; False when there was none.

        Args:
            tenant: given, one that is not confined to the tenant is none.
        """
        known = await self.get(name)
        if known is None or tenant not in (None, known.webhook.tenant):
            return False
        await Audit(self._board).note("webhook.removed", name, by=by)
        for _ in range(_ATTEMPTS):
            if known is None:
                return False
            await self._subscriptions.remove(known.webhook.subscription.name)
            if await self._run("schedule_write", name, known.model_dump_json(), "", "", ""):
                return True
            known = await self.get(name)
        raise Conflict("CONFLICT", f"webhook {name} is being changed by too many at once; try again")

    async def mend(self, webhook: Webhook) -> None:
        """Drop a subscription that is on other terms than the webhook: whoever changed them died in between. What is stored
        of the webhook counts, and whoever sends next subscribes anew."""
        known = await self.get(webhook.name)
        if known is not None and known.webhook == webhook:
            await self._subscriptions.remove(webhook.subscription.name)

    async def disable(self, webhook: Webhook, why: str, by: str) -> None:
        """Send nothing any more, until it is set again; what waits stays."""
        await Audit(self._board).note("webhook.disabled", webhook.name, by=by, reason=why)
        await self._change(webhook, lambda one: one.model_copy(update={"disabled": why, "last_error": why}))

    async def failed(self, webhook: Webhook, error: str | None, given_up: str | None = None) -> None:
        """How the latest sending went, and the id of the event that is given up with it."""

        def changed(one: Hooked) -> Hooked:
            told: dict[str, Any] = {"last_error": error}
            if given_up is not None:
                told |= {"given_up": one.given_up + 1, "last_given_up": given_up}
            return one.model_copy(update=told)

        await self._change(webhook, changed)

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _change(self, webhook: Webhook, change: Callable[[Hooked], Hooked]) -> None:
        """Change how a webhook fares, unless it is another one by now."""
        for _ in range(_ATTEMPTS):
            known = await self.get(webhook.name)
            if known is None or known.webhook != webhook:
                return
            now = change(known)
            if now == known:
                return
            now = now.model_copy(update={"nonce": secrets.token_hex(8)})
            if await self._write(webhook.name, known.model_dump_json(), now):
                return

    async def _read(self, name: str) -> list[Hooked]:
        _, *rows = cast("list[str]", await self._run("schedule_read", name))
        return [Hooked.model_validate_json(text) for text in rows[2::3]]

    async def _write(self, name: str, before: str, now: Hooked) -> bool:
        definition = now.webhook.model_dump_json()
        return bool(await self._run("schedule_write", name, before, definition, now.model_dump_json(), ""))

    async def _run(self, name: str, *args: str | int) -> Any:
        script, board = _script.load(name, "_schedule"), self._board
        return await _script.run(board.client, script, self._keys, args, recover=board.engine.ensure)
