"""Keeping up with one peer: a connection, what it offers, and word on the board of whether it answers.

What is bounded, with the defaults of 60 s between two questions and 10 s for an answer:

* what a peer offers is asked when it says that it changed, when a call meets a broken connection, and every 60 s;
* a peer that does not answer is said to be down at the latest 60 + 10 s after its last answer, and at once when a call or the
  connection itself shows it; it is asked again after 1, 2, 4, … up to 60 s;
* of a process that dies nobody can say anything: what it said holds for 60 + 10 + 5 s from its last word.

Every process that serves a peer does this by itself; they agree because names and versions come from what the peer says. Only
a change of what this process was told makes it write to the registry, so that two that are told different things do not undo
each other's work for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeVar, cast

from pydantic import JsonValue

from blackboard.errors import ArbiterError, BadInput, Conflict, ScriptRefused
from blackboard.peers import Peers
from registry import Capability, Registry, Version
from registry.peers import Listing, Offer, Refused, label, lane, offered_by, peer_of
from wrapper.failing import PeerLost, PeerUnavailable
from wrapper.peers.capability import PeerCapability
from wrapper.peers.peer import Peer, Session
from wrapper.reporting import Reporter
from wrapper.secrets import Secrets

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]

log = logging.getLogger(__name__)

SLACK_SECONDS = 5.0
"""How much longer than the next word is due what was said holds."""
FIRST_AGAIN_SECONDS = 1.0
LEAVE_SECONDS = 6.0
"""How long a peer may take to be let go of: an MCP program gets two seconds for each of closing, TERM and KILL."""
_REASON = 300


class Follower:
    """Follows one peer for one process.

    Args:
        peer: which one.
        registry: where its tools are registered.
        said: where this process says whether it answers.
        process: name of this process.
        functions: the capabilities this process can call, by name; the peer's come and go there.
        secrets: for what its settings name by handle.
        changed: told when there are other capabilities, or other lanes.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        peer: Peer,
        registry: Registry,
        said: Peers,
        process: str,
        functions: MutableMapping[str, Capability[..., Any]],
        secrets: Secrets,
        changed: Callable[[], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.peer, self.lane, self.label = peer, lane(peer.kind, peer.name), label(peer.kind, peer.name)
        self._registry, self._said, self._process = registry, said, process
        self._functions, self._secrets, self._changed, self._sleep = functions, secrets, changed, sleep
        self._session: Session | None = None
        self._listing: Listing | None = None
        self.refused: tuple[Refused, ...] = ()
        """Tools that are not offered here, each with the reason."""
        self._trouble = "it has not answered yet"
        self._elsewhere = False
        self._wanted = asyncio.Event()
        self._asking = False
        self._checks = 0
        self._checked = asyncio.Condition()

    @property
    def serves(self) -> bool:
        """Whether this process takes work for the peer: not while only others reach it."""
        return self._session is not None or not self._elsewhere

    @property
    def trouble(self) -> str | None:
        """Why this process does not reach it; None when it does."""
        return None if self._session is not None else self._trouble

    @property
    def listing(self) -> Listing:
        """What it offered when it last answered."""
        return self._listing or Listing(())

    async def run(self) -> None:
        """Keep up until this is cancelled; then say that this process does not serve it any more."""
        again = FIRST_AGAIN_SECONDS
        try:
            while True:
                try:
                    async with self._connected() as (session, ending):
                        while True:
                            self._wanted.clear()
                            self._asking = True
                            seconds = await self._take(
                                session, await self._within(session.offers(), self.peer.answer_seconds)
                            )
                            again = FIRST_AGAIN_SECONDS
                            await self._until_due(session, ending, seconds)
                except Exception as error:
                    await self._down(why(error))
                await self._first(self._wanted.wait(), self._sleep(min(again, self.peer.refresh_seconds)))
                again *= 2
        finally:
            self._session = None
            with contextlib.suppress(ArbiterError):
                await self._said.leave(self.label, self._process)

    async def check(self) -> None:
        """Have the peer asked now, and wait until it answered or did not."""
        # A question that is under way was put before the reason for this one.
        enough = self._checks + (2 if self._asking else 1)
        self._wanted.set()
        async with self._checked:
            await self._checked.wait_for(lambda: self._checks >= enough)

    async def first(self) -> None:
        """Wait until the peer was asked once."""
        async with self._checked:
            await self._checked.wait_for(lambda: self._checks > 0)

    async def renew(self) -> None:
        """Ask what it offers, because somebody else knows more than this process.

        Raises:
            PeerUnavailable: it does not answer.
        """
        await self.check()
        if self._session is None:
            raise self._unavailable()

    async def send(self, tool: str, given: Mapping[str, JsonValue], report: Reporter | None) -> JsonValue:
        """Call a tool; see :meth:`wrapper.peers.peer.Session.call`."""
        session = self._session
        if session is None:
            raise self._unavailable()
        try:
            return await session.call(tool, given, report)
        except PeerUnavailable as error:
            self._wanted.set()
            raise PeerUnavailable(FIRST_AGAIN_SECONDS, f"{self.label} cannot be reached: {error}") from error
        except PeerLost as error:
            self._wanted.set()
            raise PeerLost(f"{self.label}: {error}; whether the call was carried out is not known") from error

    def _unavailable(self) -> PeerUnavailable:
        return PeerUnavailable(FIRST_AGAIN_SECONDS, f"{self.label} cannot be reached: {self._trouble}")

    # ---- the connection --------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[tuple[Session, asyncio.Future[None]]]:
        """An open session, and what ends when the connection does.

        The session lives in a task of its own, from its first line to its last: what the libraries open belongs to the task
        that opened it, and breaks by cancelling that task.
        """
        ready: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        leave = asyncio.Event()

        async def hold() -> None:
            async with self.peer.open(self._secrets) as session:
                if not ready.done():
                    ready.set_result(session)
                await leave.wait()

        holding = asyncio.ensure_future(hold())
        try:
            opened = asyncio.wait({ready, holding}, return_when=asyncio.FIRST_COMPLETED)
            await self._within(opened, self.peer.open_seconds)
            if not ready.done():
                await holding
                raise PeerUnavailable(0, "the connection was closed")
            yield ready.result(), holding
        finally:
            self._session = None
            leave.set()
            ready.cancel()
            await asyncio.wait({holding}, timeout=LEAVE_SECONDS if ready.done() and not ready.cancelled() else 0)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    async def _until_due(self, session: Session, ending: asyncio.Future[None], seconds: float) -> None:
        """Until the peer has to be asked again.

        Raises:
            PeerUnavailable: the connection ended meanwhile.
        """
        await self._first(asyncio.shield(ending), self._wanted.wait(), session.changed(), self._sleep(seconds))
        if ending.done():
            ending.result()
            raise PeerUnavailable(0, "the connection was closed")

    async def _within(self, work: Awaitable[T], seconds: float) -> T:
        """The result of a question, or :class:`TimeoutError` when it takes longer than it may."""
        asked = asyncio.ensure_future(work)
        timer = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait({asked, timer}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            raise TimeoutError(f"it did not answer within {seconds:g} s")
        finally:
            await _stopped((asked, timer))

    async def _first(self, *awaited: Awaitable[object]) -> None:
        """Wait until one of several is over, however it ended."""
        waiting = [asyncio.ensure_future(each) for each in awaited]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _stopped(waiting)

    # ---- what it says ----------------------------------------------------------------------------------------------

    async def _take(self, session: Session, listing: Listing) -> float:
        """Take what it offers as it is now; returns in how many seconds to ask again."""
        self._session, seconds = session, self.peer.refresh_seconds
        self._trouble = "the connection was closed"  # until more is known of its end than that
        if listing != self._listing:
            try:
                self.refused = await self._registered(listing)
                for one in self.refused:
                    log.warning("%s: its tool %s is not offered: %s", self.label, one.tool, one.why)
                self._listing = listing
                log.info("%s offers %d tools", self.label, len(listing.offers))
            except ArbiterError as error:
                # The board is in trouble, which says nothing about the peer: calls that are under way go on.
                log.error("%s: what it offers is not registered: %s", self.label, error)
                seconds = FIRST_AGAIN_SECONDS
        await self._word("up")
        self._changed()
        await self._done()
        return seconds

    async def _registered(self, listing: Listing) -> tuple[Refused, ...]:
        """Register what is offered, retire what is not any more; returns what could not be taken, with the reason."""
        refused = list(listing.refused)
        active = {version.name: version for version in await self._registry.list()}
        served: dict[str, PeerCapability] = {}
        brought: set[str] = set()
        for offer in listing.offers:
            why_not = await self._take_over(offer, active)
            if why_not is not None:
                refused.append(Refused(offer.tool, why_not))
            elif offer.source is None:
                served[offer.manifest.name] = PeerCapability(offer, self.send)
            else:
                brought.add(offer.tool)
        # Of code that runs here the version before stays while a later one cannot be taken.
        brought |= {one.tool for one in refused}
        for name, version in active.items():
            if not self._ours(version) or name in served:
                continue
            if (
                peer_of(version.manifest) is not None
                or (offered_by(version.manifest) or ("", "", ""))[2] not in brought
            ):
                reason = f"{self.label} does not offer it any more"
                await self._registry.retire(name, version.sha, reason=reason, by=f"peer {self.label}", behalf="peer")
        for name in [name for name, one in self._functions.items() if one.manifest.action == self.lane]:
            if name not in served:
                del self._functions[name]
        self._functions.update(served)
        return tuple(refused)

    async def _take_over(self, offer: Offer, active: Mapping[str, Version]) -> str | None:
        """Register one tool; returns why not. What somebody else registered under its name stays as it is."""
        manifest = offer.manifest
        said = ""
        for _ in range(2):
            there = active.get(manifest.name)
            if there is not None and not self._ours(there):
                return f"there is another capability {manifest.name}"
            if there is not None and there.sha == manifest.content_hash(offer.source):
                return None
            try:
                await self._register(offer, there)
                return None
            except BadInput as error:
                return str(error)
            except Conflict as error:
                # Another process may have registered the same meanwhile.
                said = str(error)
                active = {version.name: version for version in await self._registry.list()}
            except ScriptRefused as error:
                return str(error)
        return said

    async def _register(self, offer: Offer, there: Version | None) -> None:
        if offer.source is not None and not offer.vouch:
            await self._registry.register(offer.manifest, source=offer.source, activate=False, sign=False)
            return
        expected = there.sha if there is not None else None
        await self._registry.register(offer.manifest, source=offer.source, expected_active=expected, unasked=True)

    def _ours(self, version: Version) -> bool:
        return (offered_by(version.manifest) or peer_of(version.manifest) or ())[:2] == (self.peer.kind, self.peer.name)

    async def _down(self, trouble: str) -> None:
        trouble = trouble[:_REASON]
        if self._session is not None or trouble != self._trouble:
            log.warning("%s cannot be reached: %s", self.label, trouble)
        self._session, self._trouble = None, trouble
        await self._word("down")
        self._changed()
        await self._done()

    async def _word(self, state: Any) -> None:
        """Say on the board how it is. When the board cannot be reached, what was said before runs out by itself."""
        seconds = self.peer.refresh_seconds + self.peer.answer_seconds + SLACK_SECONDS
        reason = "" if state == "up" else self._trouble
        try:
            self._elsewhere = await self._said.say(
                self.label, self._process, state, seconds=seconds, reason=reason, tools=len(self.listing.offers)
            )
        except ArbiterError as error:
            log.error("%s: that it is %s is not on the board: %s", self.label, state, error)

    async def _done(self) -> None:
        self._asking = False
        async with self._checked:
            self._checks += 1
            self._checked.notify_all()


async def _stopped(tasks: Iterable[asyncio.Future[Any]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def why(error: BaseException) -> str:
    """The first reason in what was raised, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    said = " ".join(str(error).split())
    return said if isinstance(error, PeerUnavailable | TimeoutError) and said else f"{type(error).__name__}: {said}"
