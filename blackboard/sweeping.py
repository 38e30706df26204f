"""Doing what is due: timers, leases and deadlines. Any process may."""

from __future__ import annotations

import logging
import time
from typing import cast

from redis.exceptions import ResponseError

from blackboard import _keys
from blackboard._calling import STEP_LANE
from blackboard.controlling import Controlling
from blackboard.errors import BoardFull, EngineUnavailable

log = logging.getLogger(__name__)

TROUBLE_SECONDS = 1.0
"""A call that is answered later than this met a server that was away."""


class Sweeping(Controlling):
    """The operation that keeps time."""

    async def sweep(self, *, limit: int = 50, expire: bool = True) -> float:
        """Do what is due: wake waiting tasks, take back tasks of silent workers, end what passed its deadline.

        Any number of processes may sweep at once.

        Args:
            expire: False leaves leases alone, as for one lease time after the server was started.

        Returns:
            Seconds until something will be due, at most 60.
        """
        nearest = 60.0
        several = len(self.shards) > 1
        for shard in self.shards:
            began = time.monotonic()
            try:
                rows: list[list[str]] = await self._call(
                    "due", shard, (), None, limit, int(expire), seconds=TROUBLE_SECONDS if several else None
                )
            except EngineUnavailable as error:
                self._spare_leases(shard)
                if not several:
                    raise
                log.error("shard %d was not swept: %s", shard.number, error)  # the others must not wait for it
                nearest = min(nearest, TROUBLE_SECONDS)
                continue
            if time.monotonic() - began > TROUBLE_SECONDS:
                self._spare_leases(shard)
            spared = time.monotonic() < self._spared.get(shard.number, 0.0)
            for kind, *rest in rows:
                if kind == "next":
                    nearest = min(nearest, max(int(rest[0]) / 1000, 0.2 if spared else 0.0))
                    continue
                if kind == "expire" and spared:
                    continue
                subject, run_id, *lanes = rest
                args: tuple[str | int, ...] = (subject,)
                if kind == "expire":
                    args = (subject, 100, 60_000, int(self.random.uniform(0, 1000)))
                elif kind == "callback_lapse":
                    args = (subject, int(self.random.uniform(0, 1000)))
                try:
                    if kind == "resume_run":
                        await self.resume_run(run_id, lanes, only_when_over=True)
                    else:
                        reply = await self._call(kind, shard, sorted({STEP_LANE, *lanes}), run_id, *args)
                        if isinstance(reply, list):  # a run ended with it
                            self._over(run_id, cast("list[str]", reply))
                except (ResponseError, BoardFull) as error:  # one that cannot be dealt with must not stop the others
                    log.error("%s of %s failed: %s", kind, subject, error)
        return nearest

    def _spare_leases(self, shard: _keys.Shard) -> None:
        """A shard that was away, as in a failover, gets one lease time: nobody could renew a lease there meanwhile."""
        self._spared[shard.number] = time.monotonic() + self.lease_seconds
