"""Stopping runs and tasks, letting runs rest and go on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from blackboard._calling import STEP_LANE, Calling
from blackboard.audit import somebody
from blackboard.errors import BadInput

PAUSE_SECONDS = 86_400.0
"""After which a paused run goes on by itself."""
MOST_PAUSE_SECONDS = 30 * 86_400.0


class Controlling(Calling):
    """The operations of whoever is in charge of a run."""

    async def cancel_run(self, run_id: str, reason: str = "cancelled by request", *, by: str | None = None) -> str:
        """Stop a run: what waits ends at once, what runs is told to stop and gets the grace time.

        Args:
            reason: kept with the run.
            by: who does it, for the audit. Default: the user of this process.

        Returns:
            The state of the run afterwards: ``cancelling``, or how it had already ended.

        Raises:
            UnknownRecord: no such run.
        """
        state, _, *over = await self._call(
            "cancel_run", self.shard_of(run_id), [STEP_LANE], run_id,
            run_id, reason, int(self.cancel_grace_seconds * 1000), _who(by), confirm=self.confirm,
        )  # fmt: skip
        self._over(run_id, over)
        return str(state)

    async def cancel_task(self, task_id: str, reason: str = "cancelled by request", *, by: str | None = None) -> str:
        """Stop one task of a run that goes on: one that waits ends at once, a running one is told and gets the grace time.

        Its dependants end with it, as after any end without success; the planner is told like of every end.

        Args:
            by: who does it, for the audit. Default: the user of this process.

        Returns:
            The state of the task afterwards: ``cancelling``, ``cancelled``, or how it had already ended.

        Raises:
            UnknownRecord: no such task.
            ScriptRefused: ``STEP``, it is a decision of the run; cancel the run instead.
        """
        run_id = task_id.partition("/")[0]
        state, _ = await self._call(
            "cancel_task", self.shard_of(run_id), [STEP_LANE], run_id,
            task_id, reason, int(self.cancel_grace_seconds * 1000), _who(by),
        )  # fmt: skip
        return str(state)

    async def pause_run(
        self, run_id: str, reason: str = "paused by request", *, seconds: float = PAUSE_SECONDS, by: str | None = None
    ) -> str:
        """Let a run rest: what runs is left to end, nothing else of it is handed out, and its deadlines move on.

        Args:
            seconds: after which it goes on by itself.
            by: who does it, for the audit. Default: the user of this process.

        Returns:
            The state of the run afterwards: ``paused``, or what it is when it cannot be paused any more.

        Raises:
            UnknownRecord: no such run.
            BadInput: a time that is not positive and at most 30 days.
        """
        if not 0 < seconds <= MOST_PAUSE_SECONDS:
            raise BadInput("seconds", seconds, "A pause ends by itself: give more than 0 and at most 30 days.")
        state, _ = await self._call(
            "pause_run", self.shard_of(run_id), (), run_id,
            run_id, reason, int(seconds * 1000), secrets.token_hex(8), _who(by),
        )  # fmt: skip
        return str(state)

    async def resume_run(
        self, run_id: str, lanes: Sequence[str] = (), *, only_when_over: bool = False, by: str | None = None
    ) -> str:
        """Let a paused run go on where it stood.

        Args:
            lanes: of its waiting tasks, where they are known; saves a call.
            only_when_over: only when the time of its pause is over, which nobody in particular does.
            by: who does it, for the audit. Default: the user of this process.

        Returns:
            The state of the run afterwards.

        Raises:
            UnknownRecord: no such run.
        """
        named, operation = {STEP_LANE, *lanes}, secrets.token_hex(8)
        who = "" if only_when_over else _who(by)
        while True:
            state, *more = await self._call(
                "resume_run", self.shard_of(run_id), sorted(named), run_id, run_id, int(only_when_over), operation, who
            )
            if state != "lanes":
                return str(state)
            named |= set(more)


def _who(by: str | None) -> str:
    return somebody() if by is None else by
