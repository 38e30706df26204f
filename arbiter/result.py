"""What a run came to, for programs and for people."""

from __future__ import annotations

from pydantic import JsonValue

from arbiter import narration
from arbiter.fold import RunState
from blackboard.errors import ArbiterError
from blackboard.types import Failure, Usage


class RunFailed(ArbiterError):
    """Raised by :meth:`RunResult.raise_for_status` for a run that did not succeed."""


class RunResult:
    """A run's state with shortcuts; displays itself in notebooks as plan, timeline and table."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        """Rounds, tasks with their completions, usage: everything the log says."""

    @property
    def run_id(self) -> str:
        """What the run is called on its board, as in ``arbiter show RUN``."""
        return self.state.run_id

    @property
    def status(self) -> str:
        """One of the five statuses when the run has ended, else ``queued``, ``running`` or ``cancelling``."""
        return self.state.status

    @property
    def ok(self) -> bool:
        """Whether the run succeeded."""
        return self.state.status == "succeeded"

    @property
    def answer(self) -> str | None:
        """The model's final text; None unless the run succeeded, and for a call, which has :attr:`data`."""
        return self.state.answer

    @property
    def data(self) -> JsonValue:
        """What a call returned; None unless it succeeded, and for a run that a model planned, which has :attr:`answer`."""
        return self.state.data

    @property
    def error(self) -> Failure | None:
        """Why the run did not succeed; None if it did, or has not ended."""
        return self.state.error

    @property
    def usage(self) -> Usage:
        """Tokens, calls of models and seconds that the run took in all."""
        return self.state.usage

    def raise_for_status(self) -> RunResult:
        """This result, if the run succeeded.

        Raises:
            RunFailed: it did not, or has not ended; the message says why, its notes where in the code tasks failed.
        """
        if not self.ok:
            why = f": {self.error.message}" if self.error else ""
            verb = "" if self.status in ("failed", "timed_out") else "was " if self.state.done else "is "
            failed = RunFailed(f"Run {self.run_id} {verb}{self.status.replace('_', ' ')}{why}")
            for said in narration.traces(self.state):
                failed.add_note(said)
            raise failed
        return self

    def __repr__(self) -> str:
        return f"<RunResult {self.run_id} {self.status}>"

    def __str__(self) -> str:
        from arbiter.display import run_text

        return run_text(self.state)

    def _repr_html_(self) -> str:
        from arbiter.display import run_html

        return run_html(self.state)
