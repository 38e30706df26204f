"""Tokens that open a board to a program: what each may do, for which tenant, until when.

A token is ``arb_<id>_<secret>``: 6 and 32 random bytes. The board keeps the SHA-256 of the secret and no more, so whoever
reads the board learns no token. A slow hash as for passwords would add nothing: those are guessed from lists of what people
choose, and 256 random bits are in none; it would only let strangers keep this side busy.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from blackboard.audit import somebody
from blackboard.catalog import Catalog
from blackboard.errors import ArbiterError, BadInput, UnknownRecord
from blackboard.types import Record, type_name

SCOPES: Mapping[str, str] = {
    "runs:read": "runs, their events, agendas and dead letters",
    "runs:write": "submit, call and ask, cancel, pause and resume, overrule agendas, put dead letters back or discard them",
    "entries:read": "what is written on the board for others to find",
    "entries:write": "write, amend, retract, take and promote it",
    "entries:erase": "have erased for good what somebody wrote, or a run or a tenant did",
    "capabilities:read": "capabilities, and what waits for approval",
    "capabilities:approve": "approve or refuse the grants a version asks for",
    "secrets:permit": "requests that would carry a secret: see them, approve or refuse them",
    "tasks:approve": "tasks that wait for a person: see them, approve, refuse or answer them",
    "limits:read": "budgets and quotas",
    "metrics:read": "metrics of the process and the board",
    "audit:read": "the audit",
    "webhooks:write": "outgoing webhooks: see, set and remove them",
}
"""What a token may do. They include nothing of each other."""
GROUP = "group:"
"""How a scope begins that opens the entries of a group, for what the others let a token do with entries."""
WHOLE_BOARD = ("metrics:read", "audit:read")
"""Scopes that cannot be confined to a tenant."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"arb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
MOST_SECONDS = 3660 * 86_400.0


class Token(Record):
    """A token as a board knows it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    tenant: str | None = None
    """The one it is confined to; None for all."""
    created_at: float
    """Seconds since the epoch, on the server's clock; so are the others."""
    expires_at: float | None = None
    revoked_at: float | None = None
    by: str = ""
    """Who made it."""

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        """What it is at a time, in seconds since the epoch on the server's clock."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"

    @property
    def label(self) -> str:
        """Who acts with it, for the audit."""
        return f"token {self.name} ({self.id})"


class TokenRefused(ArbiterError):
    """Something that was shown as a token opens nothing.

    Args:
        id: of the token; empty for what is none.
        why: ``malformed``, ``unknown`` (or with a wrong secret), ``expired``, ``revoked``.
    """

    def __init__(self, id: str, why: Literal["malformed", "unknown", "expired", "revoked"]) -> None:
        super().__init__("The token is not valid. Ask whoever runs this board for one: arbiter tokens create.")
        self.id, self.why = id, why


class Listed(NamedTuple):
    """The tokens of a board and the server's time when they were read, in seconds since the epoch."""

    now: float
    tokens: tuple[Token, ...]
    """Oldest first."""


class Tokens:
    """The tokens of one board.

    Args:
        catalog: of the board.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str | None = None,
        seconds: float | None = None,
        by: str | None = None,
    ) -> tuple[str, Token]:
        """Make a token.

        Args:
            name: for people; need not be unique.
            scopes: any of :data:`SCOPES`, and ``group:NAME`` of each group whose entries it is to see.
            tenant: the one it is confined to.
            seconds: how long it is good for; None for ever.
            by: who makes it, for the audit. Default: the user of this process.

        Returns:
            The token itself, which nobody can have again, and what the board knows of it.

        Raises:
            BadInput: a malformed name or tenant, no scope, an unknown one, or one that cannot be confined to a tenant.
            EngineUnavailable: the server stayed unreachable.
        """
        if not NAME.fullmatch(name):
            raise BadInput("name", name, "Use 1 to 64 letters, digits, dots, dashes or underscores.")
        asked = tuple(dict.fromkeys(scopes))
        for scope in asked:
            if scope not in SCOPES and not (scope.startswith(GROUP) and re.match(type_name, scope[len(GROUP) :])):
                raise BadInput("scope", scope, f"Use any of {', '.join(SCOPES)}, and group:NAME.")
            if tenant is not None and scope in WHOLE_BOARD:
                raise BadInput("scope", scope, "It shows the whole board; leave it out, or the tenant.")
        if not asked:
            raise BadInput("scope", "", f"Give at least one of {', '.join(SCOPES)}.")
        if tenant is not None and not re.match(type_name, tenant):
            raise BadInput("tenant", tenant, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
        if seconds is not None and not 0 < seconds <= MOST_SECONDS:
            raise BadInput("expires", seconds, "Give a time above 0 and at most ten years, or none.")
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        ms = "" if seconds is None else str(int(seconds * 1000))
        who = somebody() if by is None else by
        args = [id, name, _hash(secret), " ".join(asked), tenant or "", ms, who]
        await self._catalog.call("catalog_token_make", args)
        _, (made,) = await self._read(id)
        return f"arb_{id}_{secret}", made

    async def list(self) -> Listed:
        """Every token that was made, those that open nothing any more too."""
        return await self._read("")

    async def revoke(self, word: str, *, reason: str = "", by: str | None = None) -> Token:
        """Let a token open nothing from the next request on.

        Args:
            word: its id, the beginning of it, or its name; it must mean one.
            reason: for the audit.
            by: who revokes it. Default: the user of this process.

        Raises:
            UnknownRecord: no such token.
            BadInput: several tokens are meant.
        """
        _, tokens = await self._read("")
        found = [each for each in tokens if each.name == word and each.revoked_at is None]
        found = found or [each for each in tokens if word and each.id.startswith(word)]
        if not found:
            raise UnknownRecord("UNKNOWN", f"no token {word} on this board")
        if len(found) > 1:
            raise BadInput("TOKEN", word, f"Several are meant; give an id: {', '.join(each.id for each in found)}.")
        who = somebody() if by is None else by
        await self._catalog.call("catalog_token_revoke", [found[0].id, who, reason])
        _, (token,) = await self._read(found[0].id)
        return token

    async def check(self, shown: str) -> Token:
        """The token that was shown, read and judged anew by the server's clock.

        Raises:
            TokenRefused: it opens nothing.
            EngineUnavailable: the server stayed unreachable.
        """
        match = _TOKEN.fullmatch(shown)
        if match is None:
            raise TokenRefused("", "malformed")
        now, rows = await self._rows(match[1])
        stored = cast(str, rows[0][1]["hash"]) if rows else _NOBODY
        # Compared also where there is no such token, so that the time taken says nothing about which ids there are.
        if not hmac.compare_digest(_hash(match[2]), stored) or not rows:
            raise TokenRefused(match[1] if rows else "", "unknown")
        token = _token(*rows[0])
        if (state := token.state(now)) != "valid":
            raise TokenRefused(token.id, state)
        return token

    async def _read(self, id: str) -> Listed:
        now, rows = await self._rows(id)
        return Listed(now, tuple(sorted((_token(*row) for row in rows), key=lambda each: (each.created_at, each.id))))

    async def _rows(self, id: str) -> tuple[float, list[tuple[str, dict[str, Any]]]]:
        reply = await self._catalog.call("catalog_tokens", [id])
        return int(reply[0]) / 1000, [(i, json.loads(t)) for i, t in zip(reply[1::2], reply[2::2], strict=True)]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(id: str, entry: Mapping[str, str]) -> Token:
    def at(field: str) -> float | None:
        return int(entry[field]) / 1000 if entry[field] else None

    return Token(
        id=id, name=entry["name"], scopes=tuple(entry["scopes"].split()), tenant=entry["tenant"] or None,
        created_at=at("created") or 0.0, expires_at=at("expires"), revoked_at=at("revoked"), by=entry["by"],
    )  # fmt: skip
