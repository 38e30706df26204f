"""What the tests of agendas share: capabilities that only have triggers, runs with an agenda, and the part of control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strict import Play, done, spec

from blackboard.agenda import Agenda, Beside, Pick, View
from blackboard.board import STEP_LANE
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.events import AgendaDecidedData, PickedActivation, RatedActivation, SetAside
from blackboard.plan import Undecided, specs
from blackboard.triggers import AgendaTerms, Declared, Trigger
from blackboard.types import Limits


def declared(capability: str, *triggers: Trigger, sha: str = "v1", tenant: str = "*") -> list[Declared]:
    return [Declared.of(capability, sha, n, "work", tenant, one) for n, one in enumerate(triggers)]


async def declare(play: Play, capability: str, *triggers: Trigger, revision: int = 1, **more: Any) -> list[Declared]:
    made = declared(capability, *triggers, **more)
    await play.board.triggers.write(capability, str(revision), made)
    return made


async def at_once(play: Play, every: Sequence[Declared]) -> None:
    """Many capabilities' triggers, as one script each would write them."""
    fields = {f"t:{one.key}": one.stored() for one in every} | {f"c:{one.capability}": f"1 {one.key}" for one in every}
    for shard in play.board.shards:
        await play.board.client.hset(shard.triggers, mapping={**fields, "": "1"})  # pyright: ignore


async def driven(play: Play, **terms: Any) -> tuple[str, Entries]:
    """A run with an agenda whose first decision posted one task, and its entries."""
    run = await play.run(spec("t"), agenda=AgendaTerms(**terms))
    return run, Entries(play.board, f"run:{run}")


async def control(play: Play) -> Claim:
    """The control task that was posted, claimed."""
    claim = await play.one(STEP_LANE, worker="control")
    assert claim.kind == "control"
    return claim


def told(**more: Any) -> AgendaDecidedData:
    return AgendaDecidedData(strategy="priority", strategy_version="terms", **more)


def pick(run: str, claim: Claim, number: int, capability: str = "check") -> Pick:
    task = spec(f"@{number}", capability=capability)
    ((text, given),) = specs(Undecided(run, claim.round), [task], Limits())
    return Pick(number, text, given, "work")


async def decide(
    play: Play,
    claim: Claim,
    view: View,
    picks: Sequence[int] = (),
    *,
    aside: Sequence[tuple[int, str, str]] = (),
    ends: bool = True,
    number: int = 1,
    beside: Beside | None = None,
) -> None:
    """What control would commit that rates all that is new by priority, sets some aside and picks some."""
    run = claim.run_id
    names = {one.number: one.capability for one in (*view.fresh, *view.best, *view.aside)}
    said = told(
        rated=tuple(RatedActivation(number=one.number, rating=one.priority) for one in view.fresh),
        aside=tuple(SetAside.model_validate({"number": n, "state": state, "why": why}) for n, state, why in aside),
        picked=tuple(
            PickedActivation(number=n, task=f"{run}/{claim.round}.@{n}", rating=0.0, why="told to") for n in picks
        ),
    )
    made = [pick(run, claim, n, names.get(n, "check")) for n in picks]
    await Agenda(play.board, run).decide(
        claim, number, said, made, ends=ends, facts=view.facts, rated_all=True, beside=beside
    )


async def look(play: Play, run: str, picks: Sequence[int] | None = ()) -> None:
    """One decision of control; None picks the first that waits."""
    claim = await control(play)
    view = await Agenda(play.board, run).view(best=50)
    if picks is None:
        rated = [(-one.priority, one.number) for one in view.fresh]
        picks = [min([*(one.place for one in view.best), *rated])[1]]
    await decide(play, claim, view, picks)


async def activated(play: Play) -> Claim:
    """A claim of a picked activation's task; what else was ready is ended."""
    for claim in await play.take(n=10):
        if claim.key.startswith("@"):
            return claim
        await play.board.complete(claim, done(claim))
    raise AssertionError("nothing was picked")


async def picked(play: Play, run: str) -> Claim:
    """The first that waits, picked and claimed."""
    await look(play, run, None)
    return await activated(play)
