"""Keeps leases alive from a thread with a connection of its own, so that no handler can block it.

One call renews every task this process holds and brings back two words: ``lost`` (a later claim, a deadline or the end
of the run took the task) and ``cancel`` (stop, and report that you stopped).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from redis import Redis
from redis.exceptions import RedisError

from blackboard import _script
from blackboard.claims import Claim
from blackboard.errors import EngineUnavailable

if TYPE_CHECKING:
    from blackboard.board import Board

log = logging.getLogger(__name__)

Told = Callable[[str], None]

LONGEST_SECONDS = 5.0
"""Between two renewals at most, however long the lease: with one comes the word that a task was cancelled."""


class Heartbeat:
    """The heartbeat thread of one process and board. Started by the first :meth:`hold`."""

    def __init__(self, board: Board) -> None:
        self._board = board
        # By claim and not by task: this process may hold a later claim of a task it lost, and the earlier must be told.
        self._held: dict[tuple[str, str], tuple[Claim, Told, asyncio.AbstractEventLoop]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._hands: ThreadPoolExecutor | None = None

    def hold(self, claim: Claim, told: Told) -> None:
        """Renew this claim's lease until :meth:`drop`; ``told`` is called in the current event loop with a word."""
        with self._lock:
            self._held[claim.task_id, claim.fence] = (claim, told, asyncio.get_running_loop())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="arbiter-heartbeat", daemon=True)
                self._thread.start()

    def drop(self, claim: Claim) -> None:
        with self._lock:
            self._held.pop((claim.task_id, claim.fence), None)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        interval = min(self._board.lease_seconds / 3, LONGEST_SECONDS)
        client: Redis | None = None
        try:
            while not self._stop.wait(interval):
                try:
                    if client is None:  # that of a cluster connects at once, and may fail
                        client = self._board.engine.sync_client()
                    self.beat(client)
                except (EngineUnavailable, RedisError) as error:
                    # Handlers go on; the fence decides about their results when the server is back.
                    log.warning("heartbeat missed: %s", error)
                except Exception:  # this thread must outlive any one beat: every lease of the process depends on it
                    log.exception("heartbeat failed")
        finally:
            if client is not None:
                client.close()
            if self._hands is not None:
                self._hands.shutdown(wait=False)

    def beat(self, client: object) -> None:
        """Renew every held lease once."""
        with self._lock:
            held = dict(self._held)
        by_shard: dict[int, list[Claim]] = {}
        for claim, _, _ in held.values():
            by_shard.setdefault(self._board.shard_of(claim.run_id).number, []).append(claim)
        if not by_shard:
            return
        if len(by_shard) == 1:
            words = [self._renew(client, *next(iter(by_shard.items())))]
        else:  # a shard that does not answer must not cost the others their leases
            if self._hands is None:
                self._hands = ThreadPoolExecutor(max_workers=len(self._board.shards), thread_name_prefix="arbiter-beat")
            asked = [self._hands.submit(self._renew, client, *item) for item in by_shard.items()]
            words = [each.result() for each in asked]
        for task_id, fence, word in (word for some in words for word in some):
            _, told, loop = held[task_id, fence]
            with contextlib.suppress(RuntimeError):  # the loop was closed; nobody is left to be told
                loop.call_soon_threadsafe(told, word)

    def _renew(self, client: object, number: int, claims: list[Claim]) -> list[tuple[str, str, str]]:
        pairs = [part for claim in claims for part in (claim.task_id, claim.fence)]
        try:
            words: list[str] = _script.run_sync(
                client,  # type: ignore[arg-type]
                _script.load("beat"),
                self._board.shards[number].declare(()),
                [0, int(self._board.lease_seconds * 1000), *pairs],
                seconds=self._board.lease_seconds / 2,
            )
        except (EngineUnavailable, RedisError) as error:
            if len(self._board.shards) == 1:
                raise
            log.warning("heartbeat of shard %d missed: %s", number, error)
            return []
        return list(zip(words[::3], words[1::3], words[2::3], strict=True))
