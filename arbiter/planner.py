"""One step of a run: load, assess, ask the model, check its decisions, commit. Stateless over durable state.

Any process may take any step. What a step knows it reads from the run's log; what it decides becomes visible in the one
script that commits it. A process that dies in between leaves nothing, and the step is taken again by another.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter import (
    asking,
    attending,
    board_tools,
    carrying,
    conversation,
    early,
    given_plans,
    inquiry,
    prompts,
    questions,
    tools,
)
from arbiter.board_tools import BoardTools
from arbiter.choosing import SHORTLIST, Choosing
from arbiter.control import Control
from arbiter.decided import Decision
from arbiter.decisions import Decider
from arbiter.fabrications import FABRICATION
from arbiter.fold import RunState
from arbiter.outcomes import lessons, outcomes
from arbiter.recalling import Recaller, Recalling, View
from arbiter.showing import shown
from arbiter.states import Known, States
from arbiter.taking_over import Predecessor, PredecessorGone
from blackboard.approval import ApprovalPolicy
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.budgets import BudgetExhausted
from blackboard.claims import Claim
from blackboard.errors import ArbiterError, BoardFull, EngineUnavailable, ModelUnavailable
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.strategies import Rate
from blackboard.taint import TaintPolicy, merged
from blackboard.types import Completion, Failure, Status, Usage
from registry import Contract, Registry, Version, origin
from registry.finding import Found
from registry.peers import peer_of
from wrapper.models import ModelCallFailed, Reply, as_failure, converse, describe, model_source

if TYPE_CHECKING:
    from strands.models import Model

    from wrapper.spending import Spending

log = logging.getLogger(__name__)

_REFUSING = {"guardrail_intervened": "a guardrail intervened", "content_filtered": "the reply was filtered"}


class _Over(Exception):
    """This attempt at the step ends without a decision, and the run with it unless the failure may pass."""

    def __init__(
        self, why: str | Failure, message: str = "", status: Status = Status.FAILED, usage: Usage | None = None
    ) -> None:
        super().__init__(message)
        self.failure = why if isinstance(why, Failure) else Failure(type=why, message=message)
        self.status, self.usage = status, usage or Usage()


class Planner:
    """Handles the arbiter's steps for a :class:`~blackboard.worker.Worker` on the lane ``arbiter``.

    Args:
        model: gives the Strands model that plans; called once, by the first step.
        attempts: how often one model call is tried while its replies are cut. Whatever else passes fails the attempt at the
            step, which is tried again on the board's timer.
        spending: reserves each request to the model; without it only what was spent before a decision is looked at.
        strategies: by which agendas may be rated, beside the built-in ones.
        policy: which sources of content are trusted to teach the registry what its capabilities are for.
        choosing: which capabilities the model is shown.
        recalling: how much of the board, and of what is remembered, the model is shown.
        approval: whether the model may ask a person, and how one is asked.
        instructions: of the operator, which the model is given behind the system prompt.
    """

    def __init__(
        self,
        registry: Registry,
        model: Callable[[], Model],
        *,
        attempts: int = 4,
        spending: Spending | None = None,
        strategies: Mapping[str, Rate] | None = None,
        policy: TaintPolicy | None = None,
        choosing: Choosing | None = None,
        recalling: Recalling | None = None,
        approval: ApprovalPolicy | None = None,
        instructions: str | None = None,
    ) -> None:
        self._registry, self._model, self._attempts, self._spending = registry, model, attempts, spending
        self._control = Control(registry, strategies)
        self._policy = policy if policy is not None else TaintPolicy()
        self._choosing = choosing if choosing is not None else Choosing()
        self._recalling = recalling if recalling is not None else Recalling()
        self._approval = approval if approval is not None else ApprovalPolicy()
        self._system, self._system_early = prompts.system(instructions), prompts.system(instructions, early=True)
        self._instructions = prompts.told(instructions)
        self._states = States()

    async def handle(self, attempt: Attempt) -> Completion | None:
        """Take one step. Returns None when it was committed, a failed completion when the run must end."""
        claim, board = attempt.claim, attempt.board
        if claim.kind == "control":
            return await self._control.handle(attempt)
        if claim.kind == "question":
            return await questions.handle(attempt, self._approval)
        known = await self._states.read(board, claim)
        state = known.state
        alone = not state.tasks[claim.task_id].beside  # else the run does not end with this step, whatever it comes to
        attempt.accepted = state.accepted_at.timestamp() if state.accepted_at and alone else None
        if state.agenda is not None:
            await self._registry.declare_triggers()
            if not state.agenda.planned:
                await inquiry.take_step(attempt, state, self._registry)
                return None
        board_of = BoardTools(state, Recaller(board, state, self._recalling, self._registry.meaning))
        predecessor = Predecessor(board, state)
        try:
            if state.plan:
                return await self._given(attempt, known, board_of, predecessor)
            self._within_tokens(state)
            self._tell_of_change(state)
            versions = partial(self._resolved, state, made={})
            if await carrying.take_step(attempt, state, versions, board_of, predecessor):
                self._states.keep(board, known)
                return None
            if early.beside(state) and not early.due(state, state.tasks[claim.task_id]):
                await early.pass_over(attempt, state)
                self._states.keep(board, known)
                return None
            self._within_rounds(state)
            if (
                state.agenda is not None
                and not early.beside(state)
                and await attending.take_step(attempt, state, self._registry, predecessor)
            ):
                self._states.keep(board, known)
                return None
            model = self._planning_model()
            view = await shown(board, known, self._recalling, self._registry.meaning, model)
            contract = self._choosing.for_run(merged(state.taint, view.taint), self._policy)
            found = await self._searched(state, contract)
            offered, rest = await self._assess(state, found)
            reply = await self._ask(known, list(offered.values()), claim, view)
            offers = (origin(version.manifest) for version in offered.values())
            seen = merged(state.taint, view.taint, (model_source(self._model()),), *offers)
            decider = Decider(
                self._registry, state, claim.run_id, claim.round, offered,
                lambda value: board.load(claim.run_id, value), seen,
                forbidden=self._choosing.contract, contract=contract, prices=self._choosing.prices,
                room=lambda more: self._choosing.fitting([*offered.values(), *more], self._model(), needed=offered),
                board=board_of,
                people=self._approval.questions,
            )  # fmt: skip
            decision = await decider.decide(reply.tool_uses)
            self._affordable(state, decision, reply.usage)
            tasks, awaited = decision.awaited(reply.tool_uses, claim.round)
            tasks = await predecessor.offer(tasks)
        except _Over as over:
            return claim.completion(over.status, error=over.failure, usage=over.usage)
        except PredecessorGone as gone:
            return claim.completion(Status.FAILED, error=Failure(type="predecessor_gone", message=str(gone)))
        outcome = _final(reply, claim.round) if not reply.tool_uses else None
        if outcome is not None and state.agenda is not None:
            await attending.close(board, claim, state, self._registry)
        if outcome is not None and outcome.status == "succeeded":
            await board_tools.keep(board, state)
        over = await board.commit_step(
            claim,
            RoundPlannedData(
                round=claim.round,
                message=json.loads(json.dumps(reply.message)),
                calls=tuple(decision.calls),
                usage=reply.usage,
                model=describe(self._model()),
                pins=decision.pins,
                considered=tuple(dict.fromkeys([*offered, *rest, *decision.found])),
                taint=merged(seen, decision.recalled),
                context=view.context if view.new else None,
                instructions=self._instructions,
                matches=tuple(
                    each.model_dump(mode="json") for each in (*(one.decision for one in found), *decision.matches)
                ),
                seen=state.sequence if early.beside(state) else None,
            ),
            tasks,
            state.limits,
            outcome,
            seen=state.sequence,
            awaited=awaited,
            early=early.terms(state, asked=True, held=bool(awaited.on), stop=decision.stop),
        )
        if over and outcome is not None:
            attempt.accepted = state.accepted_at.timestamp() if state.accepted_at else None
            attempt.run_ended(outcome.status)
        if outcome is None:
            if any(call.name == tools.OPEN and call.valid for call in decision.calls):
                await asking.announce(board, claim.run_id)
            self._states.keep(board, known)
        elif outcome.status == "succeeded":
            await self._learn(board, state)
        return None

    async def _given(self, attempt: Attempt, known: Known, board_of: BoardTools, predecessor: Predecessor) -> None:
        """Take a step of a run that was given its plan."""
        state, claim, board = known.state, attempt.claim, attempt.board
        if not state.rounds:
            decider = Decider(
                self._registry, state, claim.run_id, claim.round, {}, lambda value: board.load(claim.run_id, value), state.taint,
                forbidden=self._choosing.contract, board=board_of,
            )  # fmt: skip
            decision = await decider.decide((given_plans.use(state),))
            self._affordable(state, decision, Usage())
            await given_plans.begin(attempt, state, decision, predecessor)
        elif not await carrying.take_step(
            attempt, state, partial(self._resolved, state, made={}), board_of, predecessor
        ):
            await given_plans.end(attempt, state)
        self._states.keep(board, known)

    async def _learn(self, board: Board, state: RunState) -> None:
        """Keep which capabilities served the needs of a run that succeeded; the run is over whether that works or not."""
        needs = lessons(outcomes(state, self._policy))
        if not needs:
            return
        try:
            ended = (await board.summary(state.run_id)).ended_at
            answered = state.rounds[-1].at.timestamp()  # counts where what was at work has not stopped yet
            await self._registry.learn(state.run_id, state.tenant, ended or answered, needs)
        except ArbiterError as error:
            log.warning("run %s taught nothing: %s", state.run_id, error)

    def _tell_of_change(self, state: RunState) -> None:
        last = next((turn for turn in reversed(state.rounds) if not turn.attending), None)
        if last is not None and last.instructions != self._instructions:
            log.warning(
                "run %s goes on with other instructions than in round %d: give all processes the same",
                state.run_id,
                last.number,
            )

    def _within_rounds(self, state: RunState) -> None:
        if state.decisions >= state.limits.rounds:
            raise _Over("limit", f"The run reached its limit of {state.limits.rounds} rounds without a final answer.")

    def _within_tokens(self, state: RunState) -> None:
        limits = state.limits
        if state.usage.total_tokens >= limits.tokens:
            raise _Over("limit", f"The run used {state.usage.total_tokens:,} of its {limits.tokens:,} tokens.")

    def _affordable(self, state: RunState, decision: Decision, usage: Usage) -> None:
        limits = state.limits
        total = len(state.work) + len(decision.tasks)
        if total > limits.tasks:
            message = f"The plan would bring the run to {total} tasks; its limit is {limits.tasks}."
            raise _Over("limit", message, usage=usage)
        if decision.tasks and state.usage.total_tokens + usage.total_tokens >= limits.tokens:
            used = state.usage.total_tokens + usage.total_tokens
            message = f"The run used {used:,} of its {limits.tokens:,} tokens before it was done."
            raise _Over("limit", message, usage=usage)
        invalid = sum(any(not call.valid for call in turn.calls) for turn in state.rounds) + decision.invalid
        if invalid > limits.invalid_decisions:
            last = next((str(call.answer) for call in decision.calls if not call.valid), "")
            raise _Over(
                "invalid_decisions",
                f"The model made {invalid} rounds with decisions that could not be carried out. The last: {last}"[
                    :2000
                ],
                usage=usage,
            )

    def _planning_model(self) -> Model:
        try:
            return self._model()
        except ModelUnavailable as error:
            raise _Over("model_unavailable", f"There is no model to plan with. {error}") from error

    async def _searched(self, state: RunState, contract: Contract) -> list[Found]:
        """What the matcher makes of the request, once a run: it is recorded with the first round."""
        if state.rounds:
            return []
        request = conversation.request_text(state.request)
        prices = self._choosing.prices
        return [await self._registry.find(request, k=SHORTLIST, tenant=state.tenant, contract=contract, prices=prices)]

    async def _assess(self, state: RunState, found: Sequence[Found]) -> tuple[dict[str, Version], list[str]]:
        """The capabilities to offer, by name: earlier ones in their order and versions, then newly made or found ones.

        The list only ever grows at its end, so that prompt caches hold. What there is no room for comes second: the
        model can still name it in a plan.
        """
        names: dict[str, None] = {}
        for turn in state.rounds:
            names |= dict.fromkeys(turn.considered)
        if not state.rounds:
            names |= dict.fromkeys(await self._candidates(state, found))
        made = {
            task.key.removeprefix(FABRICATION): task.completion.data
            for task in state.work
            if task.kind == "fabrication" and task.completion and task.completion.status is Status.SUCCEEDED
        }
        names |= dict.fromkeys(made)
        resolved = await self._resolved(state, [*names], made)
        for name, version in zip(names, resolved, strict=True):
            if version is None:
                log.info("%s is no longer offered to run %s: the registry does not have it", name, state.run_id)
        usable = [
            one
            for one in resolved
            if one is not None and one.visible_to(state.tenant) and not self._choosing.contract.objections(one.manifest)
        ]
        if any(peer_of(one.manifest) is not None for one in usable):
            # A peer may have gone since the round before: what cannot be had is not offered.
            away = await self._registry.unavailable()
            for one in usable:
                if one.name in away:
                    log.info("%s is not offered to run %s: %s", one.name, state.run_id, away[one.name])
            usable = [one for one in usable if one.name not in away]
        first = not state.rounds
        fitting = self._choosing.fitting(usable, self._model(), first=first, needed=[*made])
        offered = {one.name: one for one in fitting}
        # What did not fit at first was not found by anybody: a search finds it.
        return offered, [] if first else [one.name for one in usable if one.name not in offered]

    async def _resolved(
        self, state: RunState, names: Sequence[str], made: Mapping[str, JsonValue]
    ) -> list[Version | None]:
        """The versions a run is pinned to; of what it is not pinned to yet the active one, or its canary."""
        wanted = {name: state.pins.get(name) for name in names}
        given = {
            name: data.get("version") for name, data in made.items() if isinstance(data, dict) and not wanted[name]
        }
        new = [(name, sha) for name, sha in given.items() if isinstance(sha, str)]
        for one in await self._registry.resolve_many(new):
            if one is not None and one.state == "canary":  # whoever had it made uses it, whatever its share
                wanted[one.name] = one.sha
        resolved = await self._registry.resolve_many([*wanted.items()])
        return [
            one if one is None or wanted[one.name] else await self._registry.tried(one, state.run_id)
            for one in resolved
        ]

    async def _candidates(self, state: RunState, found: Sequence[Found]) -> list[str]:
        """Names to offer in the first round: all there are when they are few, else those that have to do with the request."""
        there = await self._registry.offered(state.tenant)
        if len(there) <= SHORTLIST:
            return [version.name for version in there]
        return [match.name for one in found for match in one.matches]

    async def _ask(self, known: Known, offered: list[Version], claim: Claim, view: View) -> Reply:
        model, asked_early = self._model(), known.state.limits.round_seconds is not None
        if self._spending is not None:
            model = self._spending.guard(model, claim, limits=known.state.limits)
        try:
            reply = await converse(
                model,
                conversation.messages(known.state, known.said, view),
                tools=tools.specs(
                    offered,
                    agenda=known.state.agenda is not None,
                    questions=self._approval.questions,
                    asked_early=asked_early,
                ),
                system=self._system_early if asked_early else self._system,
                attempts=self._attempts,
                durable=True,
            )
        except ModelCallFailed as error:
            why = as_failure(error, f"The planning model gave no decision ({error.code}): {error}")
            raise _Over(why, usage=error.usage) from error
        except ModelUnavailable as error:
            raise _Over("model_error", f"The planning model gave no decision (model_unavailable): {error}") from error
        except BudgetExhausted as error:
            raise _Over("limit", f"No decision. {error}") from error
        except (EngineUnavailable, BoardFull):
            raise
        except ArbiterError as error:
            raise _Over("model_error", f"The planning model gave no decision: {error}") from error
        if reply.stop_reason in _REFUSING:
            message = f"No decision: {_REFUSING[reply.stop_reason]}. {reply.text}"
            raise _Over("refused_by_model", message, Status.REFUSED, reply.usage)
        return reply


def _final(reply: Reply, number: int) -> RunCompletedData:
    if not reply.text.strip():
        failure = Failure(type="empty_answer", message="The model ended the run without an answer and without a call.")
        return RunCompletedData(status="failed", rounds=number, error=failure)
    return RunCompletedData(status="succeeded", rounds=number, answer=reply.text)
