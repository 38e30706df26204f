"""A storm: one entry that fits ten thousand triggers. No script makes more than a batch of it, and nothing of it is lost."""

from __future__ import annotations

from agenda_support import at_once, control, declared, driven, told
from strict import Clock, Play

from blackboard.agenda import PAGE, Agenda
from blackboard.board import Board
from blackboard.events import AgendaActivated, SetAside
from blackboard.invariants import faults
from blackboard.triggers import Trigger

MANY = 10_000


async def test_an_entry_that_fits_ten_thousand_triggers_makes_them_in_batches_and_leaves_none_out(
    redis_board: Board,
) -> None:
    play = Play(redis_board, Clock(redis_board))
    every = [one for n in range(MANY) for one in declared(f"c{n:05}", Trigger(topic="a"))]
    await at_once(play, every)
    run, notes = await driven(play)
    await notes.post("a", 1)
    agenda = Agenda(play.board, run)
    claim = await control(play)
    for number in range(1, 4 * MANY // PAGE):
        view = await agenda.view(fresh=PAGE, best=0)
        dropped = tuple(SetAside(number=one.number, state="obviated", why="too many") for one in view.fresh)
        ends = number % 2 == 0
        await agenda.decide(claim, number, told(aside=dropped), [], ends=ends, facts=view.facts, rated_all=False)
        if ends:
            if not (claims := await play.take("arbiter", worker="control")):
                break
            (claim,) = claims
    log = [event.data for event in await play.board.history(run) if isinstance(event, AgendaActivated)]
    made = [one.capability for data in log for one in data.activations]
    assert max(len(data.activations) for data in log) == PAGE
    assert sorted(made) == sorted(one.capability for one in every)
    assert (await agenda.view()).waiting == 0
    assert await faults(play.board) == []
