"""Reruns: a new run of one that is over, which takes over what succeeded there and does the rest again."""

from __future__ import annotations

from arbiter.fold import RunState, fold
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.events import RerunOf
from blackboard.types import Limits


async def predecessor(board: Board, run_id: str) -> RunState:
    """The state of a run that can be gone on from.

    Raises:
        UnknownRecord: no such run, or it was removed.
        BadInput: it is not over, or it is a call or an inquiry.
    """
    summary = await board.summary(run_id)
    if summary.ended_at is None:
        raise BadInput("run_id", run_id, f"It is {summary.status}: wait for its end, or cancel it.")
    state = fold(run_id, await board.history(run_id))
    if state.call is not None:
        raise BadInput("run_id", run_id, "It is a single call, of which nothing can be kept: call it again.")
    if state.agenda is not None and not state.agenda.planned:
        raise BadInput(
            "run_id", run_id, "It is an inquiry, which is answered by what is on its own board: ask it again."
        )
    return state


async def submit(
    board: Board,
    of: RunState,
    *,
    limits: Limits | None = None,
    current_versions: bool = False,
    idempotency_key: str | None = None,
    redrive_of: str | None = None,
    durable: bool = False,
) -> str:
    """Accept a rerun. Request, plan, agenda, tenant and where the request comes from are the old ones.

    Args:
        of: as :func:`predecessor` gives it.
        limits: default: the old ones.
        idempotency_key: default: one of the run, so that there is one rerun of it.
        redrive_of: the dead letter it is made of.

    Returns:
        The id of the new run.

    Raises:
        Conflict: the key belongs to another rerun or request, such as one with another choice of ``current_versions``.
        QuotaExceeded, EngineUnavailable, Unconfirmed, BlobError: as :meth:`blackboard.board.Board.submit`.
    """
    return await board.submit(
        await board.load(of.run_id, of.request), tenant=of.tenant,
        idempotency_key=f"rerun\0{of.run_id}" if idempotency_key is None else idempotency_key,
        limits=limits or limits_of(of), redrive_of=redrive_of, durable=durable, taint=of.request_taint, agenda=of.agenda,
        plan=of.plan, rerun_of=RerunOf(run=of.run_id, current_versions=current_versions),
    )  # fmt: skip


def limits_of(of: RunState) -> Limits:
    """The limits of a run, as a new one takes them."""
    return Limits.model_validate(of.limits.model_dump())
