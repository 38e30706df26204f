"""Who gets in: by Host and Origin, by token, by scope, by tenant.

Web pages reach the loopback interface through the browser of whoever looks at them. So a request must name this server as its
Host (a page that had its own name bound to 127.0.0.1 does not), and one with an Origin must come from this server itself.
There are no cookies and no CORS: a page has no token, and nothing a browser sends along by itself opens anything.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from arbiter.http.problems import Forbidden, NotToken
from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.errors import ArbiterError, UnknownRecord
from blackboard.tokens import GROUP, SCOPES, Token, TokenRefused, Tokens

log = logging.getLogger(__name__)

LOCAL = "local"
"""Id of the token of this machine's user."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
FOLD_SECONDS = 60.0
"""Refusals of a token for one reason are put on record at once, and then once in so long, with their number."""


class Access:
    """Judges requests.

    Args:
        board: an open board.
        names: host names under which this server is reached beside those of the loopback interface.
        local: the token of this machine's user; None where it does not count.
        clock: monotonic seconds.
    """

    def __init__(
        self, board: Board, names: Iterable[str], local: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._board, self._tokens, self._audit = board, Tokens(board.catalog), Audit(board)
        names = tuple(names)
        self.public = bool(names)
        """Whether clients beyond this machine are let in."""
        self._names = frozenset(name.lower() for name in (*LOOPBACK, *names))
        self._local, self._clock = local, clock
        self._folded: dict[tuple[str, str], tuple[float, int]] = {}

    def place(self, headers: Headers) -> None:
        """Whether a request is meant for this server and comes from no foreign page.

        Raises:
            Forbidden: it does not, or is not.
        """
        host = headers.get("host", "").lower()
        if len(headers.getlist("host")) != 1 or _name(host) not in self._names:
            raise Forbidden("The Host header names another server; --http-public adds names of this one.")
        origin = headers.get("origin")
        if origin is not None and (len(headers.getlist("origin")) != 1 or urlsplit(origin).netloc.lower() != host):
            raise Forbidden("The Origin header names another site; pages of other sites are not served.")

    async def admit(self, request: Request, scope: str | None) -> Token:
        """The token of a request, if it opens what the scope stands for; without a scope, if it is one.

        Raises:
            NotToken: none was shown.
            TokenRefused: what was shown is none, or is over.
            Forbidden: it lacks the scope.
            EngineUnavailable: the server stayed unreachable.
        """
        shown, address = _shown(request, "arb_..."), _address(request)
        try:
            token = await self.known(shown)
        except TokenRefused as error:
            await self._refused(error.id or "?", error.why, address)
            raise
        if scope is not None and scope not in token.scopes:
            await self._refused(token.id, f"scope {scope}", address)
            raise Forbidden(f"This token lacks the scope {scope}.", scope)
        return token

    async def known(self, shown: str) -> Token:
        """The token that was shown, judged as of now.

        Raises:
            TokenRefused, EngineUnavailable: as :meth:`admit`.
        """
        if shown.startswith("arb_local_"):
            # Compared in constant time also where none counts.
            same = hmac.compare_digest(shown.encode(), (self._local or "arb_local_").encode())
            if self._local is None or not same:
                raise TokenRefused("", "unknown")
            return Token(id=LOCAL, name="local", scopes=tuple(SCOPES), created_at=0.0)
        return await self._tokens.check(shown)

    async def outside(self, request: Request) -> tuple[str, str]:
        """The token of an attempt that a request shows, which opens that and nothing else, and who shows it, for the record.

        Raises:
            NotToken: none was shown, or nothing on the board waits for it.
            EngineUnavailable: the server stayed unreachable.
        """
        shown, address = _shown(request, "arbcb...."), _address(request)
        try:
            await self._board.called(shown)
        except UnknownRecord as error:
            await self._refused("?", "callback", address)
            raise NotToken(f"{error.detail[:1].upper()}{error.detail[1:]}.") from None
        return shown, f"{address} over http"

    async def _refused(self, id: str, why: str, address: str) -> None:
        now = self._clock()
        since, count = self._folded.get((id, why), (now - FOLD_SECONDS, 0))
        if now - since < FOLD_SECONDS:
            self._folded[id, why] = since, count + 1
            return
        self._folded[id, why] = now, 0
        log.warning("token %s was refused: %s, from %s", id, why, address)
        detail = {"why": why, "count": count + 1, "address": address}
        try:
            await self._audit.note("token.refused", id, by=address, detail=detail)
        except ArbiterError as error:  # it is refused all the same
            log.error("the refusal of token %s is not on record: %s", id, error)


def _shown(request: Request, like: str) -> str:
    kind, _, shown = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not shown:
        raise NotToken(f"Show a token: Authorization: Bearer {like}")
    return shown.strip()


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def tenant_of(token: Token, asked: str | None, default: str) -> str:
    """Whose a new run is.

    Raises:
        Forbidden: the token is confined to another tenant.
    """
    if token.tenant is not None and asked not in (None, token.tenant):
        raise Forbidden(f"This token is confined to tenant {token.tenant}.")
    return asked or token.tenant or default


def opens(token: Token, scope: str) -> None:
    """Whether a token sees the entries of a scope that is no run's: a tenant's token its tenant's, and groups that it names.

    Raises:
        Forbidden: it does not.
    """
    if scope.startswith(GROUP):
        if token.id != LOCAL and scope not in token.scopes:
            raise Forbidden(
                f"This token lacks the scope {scope}: what a group writes is for those who were let in.", scope
            )
    elif token.tenant is not None and scope != f"tenant:{token.tenant}":
        raise Forbidden(
            f"This token is confined to tenant {token.tenant}: it sees tenant:{token.tenant} and that tenant's runs."
        )


async def visible(board: Board, token: Token, run_id: str) -> None:
    """Whether a token sees a run; one of another tenant is unknown to it.

    Raises:
        UnknownRecord: it does not, or there is no such run.
    """
    found = await board.summary(run_id)
    if token.tenant not in (None, found.tenant):
        raise UnknownRecord("UNKNOWN", f"no run {run_id} on board {board.namespace}/{board.name}")
