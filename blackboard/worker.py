"""The claim loop every role runs: claim, and have the work done that was claimed (:mod:`blackboard.attempting`).

A worker sleeps only after an empty claim and is woken by its lanes' doorbell, so there is no polling and no lost
wake-up.
Draining stops claims at once, lets running work finish within a grace time and gives the rest back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from redis.exceptions import RedisError

from blackboard.attempt import AtWork, Handler
from blackboard.attempting import Attempting
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import BoardFull, EngineUnavailable, Fenced
from blackboard.heartbeat import Heartbeat
from blackboard.types import Completion
from blackboard.working import Woken

log = logging.getLogger(__name__)

BELL_SECONDS = 5.0
"""Longest sleep on the doorbell; a dropped connection is noticed within it."""
_BEHIND_BELL = 2
"""How many tasks are claimed by the ring that wakes: one more than it rings for, so that getting it says there is more."""
_FIRST_THINGS = 8
"""Turns of the event loop that a worker with new work leaves to it before it listens again."""
_REFUSED_SECONDS = 1.0
_TURN_SECONDS = 1.0
"""How long one of several shards may keep a worker from the others."""

_Place = tuple[int, tuple[str, ...]]
"""A shard and lanes of it."""


def worker_name(role: str) -> str:
    """A name unique to this process and start."""
    return f"{role}@{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AtWork] = WeakKeyDictionary()


class Worker(Attempting):
    """Claims tasks from lanes and hands each to a handler.

    Args:
        role: the beginning of the worker's name, for people.
        lanes: where to claim from; earlier lanes first. A callable is asked before every claim.
        handle: what to do with an attempt.
        concurrency: attempts at a time.
        ended: told of each attempt that was reported here.
    """

    def __init__(
        self,
        board: Board,
        heartbeat: Heartbeat,
        role: str,
        lanes: Sequence[str] | Callable[[], Sequence[str]],
        handle: Handler,
        *,
        concurrency: int = 4,
        ended: Callable[[Claim, Completion], None] | None = None,
    ) -> None:
        super().__init__(board, heartbeat, handle, concurrency, ended)
        self.name = worker_name(role)
        self._lanes = lanes if callable(lanes) else lambda: lanes
        self._share = max(1, concurrency // 2)
        """How many tasks a claim asks for at most: while one half is worked on, the server hands out the other."""
        self._rung: set[_Place] = set()
        self._draining = False
        self._bells: dict[_Place, asyncio.Future[Woken | bool]] = {}
        self._behind: dict[_Place, str] = {}
        """Nonces of the claims behind a bell."""
        self._unsettled: list[tuple[_Place, str]] = []
        """Those of which nobody knows what they took."""
        self._returning: set[asyncio.Task[None]] = set()
        shards = len(board.shards)
        self._turn = board.random.randrange(shards)  # workers that start together begin at different shards
        self._look = set(range(shards))
        """Shards where there may be work: all at first, then those whose bell rang or where a claim got all it asked."""
        self._nonces: dict[int, str] = {}
        self._deaf = False

    async def run(self) -> None:
        """Claim and work until :meth:`drain` is called."""
        self._loop = _loops.setdefault(asyncio.get_running_loop(), AtWork())
        shards = len(self._board.shards)
        while not self._draining:
            # Cleared before the lanes are looked at: what changes from here on ends the sleep below.
            self._changed.clear()
            await self._settle()
            free = min(self._room(), self._share)
            lanes = self._lanes()
            if free <= 0 or not lanes:
                await self._ring_on()
                await self._changed.wait()
                continue
            if not self._look:
                await self._sleep(lanes)
                continue
            shard = min(self._look, key=lambda k: (k - self._turn) % shards)
            self._turn = (shard + 1) % shards
            # Forgotten before it is asked: a ring that comes meanwhile may be for work the claim does not see.
            self._look.discard(shard)
            self._rung = {key for key in self._rung if key[0] != shard}
            nonce = self._nonces.setdefault(shard, secrets.token_hex(8))
            try:
                # With several shards an unreachable one is left for the next round, under the same nonce, so that what
                # a lost reply handed over is not lost.
                patience = _TURN_SECONDS if shards > 1 else None
                claims, wait = await self._board.claim_or_wait(
                    self.name, lanes, n=free, shard=shard, nonce=nonce, seconds=patience
                )
            except EngineUnavailable as error:
                log.error("%s cannot claim: %s", self.name, error)
                self._look.add(shard)
                continue
            except (
                RedisError,
                BoardFull,
            ) as error:  # a full server refuses claims and takes completions: wait for those
                log.error("%s cannot claim: %s", self.name, error)
                self._look.add(shard)
                await self._pause(_REFUSED_SECONDS)
                continue
            del self._nonces[shard]
            self._received(shard, claims, free, wait)
        await self._returned()

    async def _returned(self) -> None:
        if self._returning:
            await asyncio.wait(self._returning)

    def _received(self, shard: int, claims: Sequence[Claim], asked: int, wait: float | None) -> None:
        """Begin what was claimed, or give it back: a drain has begun, or there is no room for it any more."""
        for claim in claims:
            if self._draining or self._room() <= 0:
                back = asyncio.create_task(self._release(claim))
                self._returning.add(back)
                back.add_done_callback(self._returning.discard)
                self._look.add(shard)
            else:
                # The next claim goes first: the server works on it while the handlers work here, and not on all of it together.
                if not self._begun:
                    asyncio.get_running_loop().call_soon(self._start_all)
                self._begun.append(claim)
        if asked and len(claims) == asked:  # getting less than was asked for says that the shard's lanes are empty now
            self._look.add(shard)
        if wait is not None:  # quotas hold work back; no bell rings when their time has come
            asyncio.get_running_loop().call_later(wait, self._look_at, shard)

    async def _release(self, claim: Claim) -> None:
        with contextlib.suppress(Fenced, EngineUnavailable, BoardFull):
            await self._board.release(claim)

    async def _settle(self) -> None:
        """Learn what claims behind a bell have taken whose answer was lost."""
        asked, self._unsettled = self._unsettled, []
        for (shard, lanes), nonce in asked:
            try:
                claims = await self._board.claimed_when_rung(self.name, lanes, nonce=nonce, shard=shard)
            except (EngineUnavailable, RedisError, BoardFull) as error:
                log.error("%s cannot ask what it has claimed: %s", self.name, error)
                self._unsettled.append(((shard, lanes), nonce))
                continue
            self._received(shard, claims, 0, None)

    def _look_at(self, shard: int) -> None:
        self._look.add(shard)
        self._changed.set()

    async def _sleep(self, lanes: Sequence[str]) -> None:
        """Until a shard's doorbell rings or this worker is told to look again.

        Each shard has a wait of its own, on a connection of its own: they may lie on different servers. A wait is never
        cut short: cancelling it drops its connection and may lose a token it has just taken. When something else ends
        the sleep, the next one continues the same waits.
        """
        for shard in range(len(self._board.shards)):
            key = (shard, tuple(lanes))
            if key not in self._bells:
                bell = self._bells[key] = asyncio.ensure_future(self._wait(key))
                bell.add_done_callback(lambda ended, key=key: self._rang(key, ended))
        await self._changed.wait()
        if self._deaf:
            self._deaf = False
            await asyncio.sleep(0.05)

    async def _wait(self, key: _Place) -> Woken | bool:
        """Until a bell rings: what was claimed with the ring, or only whether it rang.

        As soon as nothing is worked on, the next claim is put behind the bell, on the server. Not beside work, of this
        worker or another: a handler may block the event loop, and what was claimed for it would wait with it, until its
        lease is over. (A claim that is there already when another worker's handler begins stays, for the rest of its wait.)
        Nor where there are several shards, each of which would claim for all the room there is.
        """
        shard, lanes = key
        assert self._loop is not None
        idle = self._loop.idle
        if not self._board.engine.wired or len(self._board.shards) > 1:
            return await self._board.wait_for_work(lanes, BELL_SECONDS, shard)
        for _ in range(_FIRST_THINGS):  # what was just claimed begins, and may even end, before this costs it time
            if idle.is_set():
                break
            await asyncio.sleep(0)
        bell = self._board.bell(lanes, BELL_SECONDS, shard)
        try:
            if not idle.is_set():
                await bell.listen()
                assert bell.over is not None
                resting = asyncio.ensure_future(idle.wait())
                try:
                    await asyncio.wait({bell.over, resting}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    resting.cancel()
                if bell.over.done() or self._draining:
                    return await bell.over
            nonce = self._behind[key] = secrets.token_hex(8)
            n = min(_BEHIND_BELL, self._concurrency)
            return await self._board.claim_when_rung(bell, self.name, lanes, n=n, nonce=nonce, shard=shard)
        finally:
            await bell.close()

    def _rang(self, key: _Place, bell: asyncio.Future[Woken | bool]) -> None:
        del self._bells[key]
        nonce = self._behind.pop(key, None)
        self._changed.set()
        # The error is looked at, and no more: the next claim meets the same trouble and reports it.
        if bell.cancelled() or bell.exception() is not None:
            self._deaf = True
            self._look.add(key[0])
            if nonce is not None:
                self._unsettled.append((key, nonce))
            return
        woken = bell.result()
        if isinstance(woken, Woken):
            self._received(key[0], woken.claims, min(_BEHIND_BELL, self._concurrency), woken.wait)
            return
        self._look.add(key[0])
        if woken:
            self._rung.add(key)

    async def _ring_on(self) -> None:
        """Pass on the tokens that came while there was no room for another claim: others may sleep beside that work."""
        while self._rung:
            shard, lanes = self._rung.pop()
            with contextlib.suppress(EngineUnavailable, RedisError):
                await self._board.ring(lanes, shard)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def look_again(self) -> None:
        """The set of lanes changed: claim before sleeping on."""
        self._look.update(range(len(self._board.shards)))
        self._changed.set()

    async def drain(self, grace_seconds: float) -> None:
        """Stop claiming, wait for running work at most ``grace_seconds``, then give the rest back at once."""
        self._draining = True
        self._changed.set()
        await self._finished(grace_seconds)
        bells = dict(self._bells)
        for bell in bells.values():
            bell.cancel()
        if bells:
            await asyncio.wait(bells.values(), timeout=0.2)
            await asyncio.sleep(0)  # until it is noted which of them may have claimed
        await self._settle()
        await self._returned()
        if bells:
            # A token may have been taken in the last instant: whoever else sleeps on these lanes looks again.
            for shard, lanes in bells:
                with contextlib.suppress(EngineUnavailable, RedisError):
                    await self._board.ring(lanes, shard)
