"""Runs that are given their plan: it is carried out as one that a model posted, and no model is asked.

The first step posts what can be posted, as the decision of a model would; steps that carry the plan on follow, and the last one
ends the run with what the plan came to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from arbiter import plans, tools
from arbiter.calls import Call as DirectCall
from arbiter.decided import Decision
from arbiter.fold import RunState
from arbiter.following import Followed, Following
from arbiter.inquiry import Inquiry
from arbiter.taking_over import Predecessor
from blackboard.attempt import Attempt
from blackboard.errors import BadInput
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.payloads import STEP_BYTES
from blackboard.triggers import AgendaTerms
from blackboard.types import Failure, Limits
from registry import schema
from registry.manifest import canonical
from wrapper.models import ToolUse

CALL = "plan"
"""Id of the call that posts the plan."""
SAID = 4000
ANSWER_BYTES = STEP_BYTES - 64 * 1024
_LISTED = 10
_INDEX, _DOTTED = re.compile(r"\[(\d+)\]"), r".\1"


class InvalidPlan(BadInput):
    """A plan with something wrong in it.

    Args:
        steps: how many it has.
        problems: of each the field, such as ``plan.2.when``, and what is wrong with it.
    """

    def __init__(self, steps: int, problems: Sequence[tuple[str, str]]) -> None:
        said = [problem for _, problem in problems[:_LISTED]]
        super().__init__("plan", f"{steps} steps", "; ".join(said))
        self.problems = tuple(problems)


def checked(
    steps: Sequence[Mapping[str, JsonValue]], request: object, agenda: AgendaTerms | None, limits: Limits | None
) -> list[dict[str, JsonValue]]:
    """The steps of a plan that a run is to be submitted with.

    Raises:
        InvalidPlan: something is wrong with them; all of it is said. Capabilities and their inputs are looked at by the run.
        BadInput: what is to be submitted has no plan.
    """
    if isinstance(request, DirectCall | Inquiry) or agenda is not None:
        raise BadInput(
            "plan", f"{len(steps)} steps", "A call, an inquiry and a run with an agenda have none; leave it away."
        )
    given: dict[str, JsonValue] = {"tasks": [dict(step) for step in steps]}
    spec = next(one for one in tools.built_in() if one["name"] == tools.PLAN)
    lines = schema.problems(canonical(cast(Any, spec["inputSchema"])["json"]), given)
    if lines:
        parts = [line.removeprefix("tasks").partition(": ") for line in lines]
        raise InvalidPlan(
            len(steps), [(f"plan{_INDEX.sub(_DOTTED, at)}", f"plan{at}: {said}") for at, _, said in parts]
        )
    written = cast("list[dict[str, JsonValue]]", given["tasks"])
    found, wrong = plans.parse(cast("list[JsonValue]", written))
    keys = [str(step["key"]) for step in written]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        wrong = [plans.Problem(twice[0], "key", f"keys must be unique; repeated: {', '.join(twice)}")]
    wrong += plans.problems(plans.Plan(found), [step.key for step in found], (), (limits or Limits()).seconds)
    if wrong:
        raise InvalidPlan(len(steps), [(_field(keys, one), one.said) for one in wrong])
    return written


def _field(keys: Sequence[str], problem: plans.Problem) -> str:
    place = ["plan", *([str(keys.index(problem.step))] if problem.step in keys else [])]
    return ".".join([*place, *([problem.field] if problem.field else [])])


def use(state: RunState) -> ToolUse:
    """The call that posts the plan of a run."""
    given: dict[str, JsonValue] = {"tasks": [*state.plan]}
    return ToolUse(id=CALL, name=tools.PLAN, input=given, raw=json.dumps(given))


async def begin(attempt: Attempt, state: RunState, decision: Decision, predecessor: Predecessor) -> None:
    """Commit the first step: what can be posted, or the end of a run whose plan cannot be carried out."""
    claim, posted = attempt.claim, use(state)
    outcome = None
    if decision.invalid:
        why = Failure(type="invalid_plan", message=str(decision.calls[0].answer))
        outcome = RunCompletedData(status="failed", rounds=claim.round, error=why)
    tool_use: JsonValue = {
        "toolUse": {"toolUseId": posted.id, "name": posted.name, "input": cast(JsonValue, posted.input)}
    }
    planned = RoundPlannedData(
        round=claim.round,
        message={"role": "assistant", "content": [tool_use]},
        calls=tuple(decision.calls),
        pins=decision.pins,
        considered=tuple(dict.fromkeys(decision.found)),
        taint=state.taint,
    )
    tasks, awaited = decision.awaited([posted], claim.round)
    tasks = await predecessor.offer(tasks)
    await attempt.board.commit_step(
        claim, planned, tasks, state.limits, outcome, seen=state.sequence, awaited=None if outcome else awaited
    )
    if outcome is not None:
        attempt.run_ended(outcome.status)


async def end(attempt: Attempt, state: RunState) -> None:
    """Commit the last step: the run fails where a failure was not caught, else its answer is what the last steps returned."""
    claim, plan = attempt.claim, Following(state, state.rounds[0])
    failed = [one for key, one in plan.steps.items() if one.standing == "failed" and not plan.caught(key)]
    lost = [one for one in plan.steps.values() if one.standing == "cancelled"]
    if failed or lost:
        said = "; ".join([*map(_told, failed), *map(_told, lost)])[:SAID]
        outcome = RunCompletedData(status="failed", rounds=claim.round, error=Failure(type="plan_failed", message=said))
    else:
        said = await _answer(attempt, plan)
        outcome = RunCompletedData(status="succeeded", rounds=claim.round, answer=said)
    planned = RoundPlannedData(
        round=claim.round,
        message={"role": "assistant", "content": [{"text": said[:SAID]}]},
        taint=state.taint,
        attending=True,
        carrying=True,
    )
    await attempt.board.commit_step(claim, planned, (), state.limits, outcome)
    attempt.run_ended(outcome.status)


async def _answer(attempt: Attempt, plan: Following) -> str:
    """As JSON: what the only last step returned; of several, an object by their keys, without those that were skipped."""
    waited = {other for key in plan.steps for other in plan.plan.waits(key) - {plan.plan.handles.get(key)}}
    last = [key for key in plan.steps if key not in waited]
    found: dict[str, JsonValue] = {}
    for key in last:
        if plan.steps[key].standing == "succeeded":
            found[key] = await plan.steps[key].source.value(lambda data: attempt.board.load(attempt.claim.run_id, data))
    text = json.dumps(found.get(last[0]) if len(last) == 1 else found, ensure_ascii=False)
    if len(json.dumps(text)) <= ANSWER_BYTES:
        return text
    return f"{text[:SAID]}… ({len(text):,} characters; the whole is in the results of {', '.join(found)})"


def _told(one: Followed) -> str:
    if one.standing == "cancelled":
        return f"{one.step.key} was cancelled" + (f": {one.said.why}" if one.said is not None else "")
    return f"{one.step.key} failed with {one.error.type}: {one.error.message}"
