"""The engine that carries a plan on: a step of a planned run that asks no model, because what it planned is not over.

It is taken when something that was held back has become due, whatever else of the run goes on, and is committed like every step:
what may go on is posted, and what may not is on record with the reason. The plan itself, and what has become of it, is read from
the log, so any process may take it, and taking it again comes to the same. Once nothing of a plan can go on, the model is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from pydantic import JsonValue

from arbiter import awaiting, early, plans, tasking
from arbiter.board_tools import BoardTools
from arbiter.fold import RunState
from arbiter.following import Followed, Following, Source, current, sources
from arbiter.plans import ERROR, ITEM, REQUEST, Step
from arbiter.taking_over import Predecessor
from arbiter.tools import PLAN
from blackboard import references
from blackboard.attempt import Attempt
from blackboard.errors import BadInput, BlobError
from blackboard.events import Call, RoundPlannedData, StepSettled
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.plan import TASKS_PER_ROUND, Awaited
from blackboard.taint import Taint, merged
from blackboard.types import Failure, TaskSpec
from registry import Version

Versions = Callable[[Sequence[str]], Awaitable[Sequence[Version | None]]]
"""Gives the versions that a run is pinned to."""


async def take_step(
    attempt: Attempt, state: RunState, versions: Versions, board: BoardTools, predecessor: Predecessor
) -> bool:
    """Carry the plan of the model's last turn on as far as can be, and commit that as the step.

    A step that was posted beside other work does nothing else, unless the model is to be asked though that goes on: otherwise it
    is asked, and the run ended, by one that stands alone.

    Returns:
        False where nothing of the plan can go on and the step may do more, or nothing was held back: nothing was committed.
    """
    plan = current(state)
    if plan is None:
        return False
    carrier = _Carrier(attempt, state, plan, versions, board)
    await carrier.carry()
    step = state.tasks[attempt.claim.task_id]
    if not carrier.moved and (not step.beside or early.due(state, step)):
        return False
    tasks, awaited = carrier.awaited()
    planned = RoundPlannedData(
        round=attempt.claim.round,
        message={"role": "assistant", "content": [{"text": carrier.told()}]},
        calls=carrier.calls(),
        taint=state.taint,
        attending=True,
        carrying=True,
    )
    tasks = await predecessor.offer(tasks)
    await attempt.board.commit_step(
        attempt.claim, planned, tasks, state.limits, seen=state.sequence, awaited=awaited,
        early=early.terms(state, held=carrier.holds_back),
    )  # fmt: skip
    return True


class _Failed(Exception):
    """No task can be made of a step."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(type=kind, message=message)


class _Carrier:
    """What one step does with a plan."""

    def __init__(
        self, attempt: Attempt, state: RunState, plan: Following, versions: Versions, board: BoardTools
    ) -> None:
        self._attempt, self._state, self._plan, self._versions, self._board = attempt, state, plan, versions, board
        self._sources = sources(state)
        self._elsewhere = {task.key: task for task in state.work if not task.done and task.key not in plan.steps}
        """What goes on and was not posted by the plan."""
        self.tasks: list[TaskSpec] = []
        self._posted: dict[str, int] = {}
        """By the key of a step, how many of the tasks are its."""
        self._said: dict[str, StepSettled] = {}
        self._promised = sum(one.left for one in plan.steps.values() if not one.given_up)

    @property
    def moved(self) -> bool:
        return bool(self._posted or self._said)

    @property
    def holds_back(self) -> bool:
        """Whether something is still to be posted, now that it has carried the plan on."""
        return any(
            (one.standing == "held" and not self._posted.get(key)) or one.left > self._posted.get(key, 0)
            for key, one in self._plan.steps.items()
        )

    async def carry(self) -> None:
        """Decide about every step that has become due; what is decided may make others due."""
        before = -1
        while before != (before := len(self._posted) + len(self._said)):
            for key, one in self._plan.steps.items():
                if key in self._posted or key in self._said:
                    continue
                try:
                    if one.standing == "held" and all(map(self._settled, self._plan.plan.waits(key))):
                        await self._begin(key, one)
                    elif one.left:
                        await self._go_on(key, one)
                except _Failed as why:
                    self._say(key, "failed", error=why.failure)
                except BlobError as problem:
                    if problem.retryable:
                        raise
                    self._say(key, "failed", error=Failure(type=problem.code, message=str(problem)))

    def calls(self) -> tuple[Call, ...]:
        """What became of the model's calls in this step."""
        found: list[Call] = []
        for id in dict.fromkeys(one.call for one in self._plan.steps.values()):
            mine = {key for key, one in self._plan.steps.items() if one.call == id}
            tasks = [f"{self._state.run_id}/{self._attempt.claim.round}.{task.key}" for task in self.tasks
                     if task.key.partition(".")[0] in mine]  # fmt: skip
            steps = [said for key, said in self._said.items() if key in mine]
            if tasks or steps:
                found.append(Call(tool_use_id=id, name=PLAN, tasks=tuple(tasks), steps=tuple(steps)))
        return tuple(found)

    def awaited(self) -> tuple[list[TaskSpec], Awaited]:
        """The tasks, marked with what waits for them, and what waits for those that were posted before."""
        steps = self._plan.steps
        number = {key: self._posted.get(key, 0) for key in steps}
        held = {key for key, one in steps.items() if one.standing == "held" and not number[key]}
        unfinished = {key for key, one in steps.items() if one.left > number[key]}
        open_ = {key: [(task.id, task.key) for task in one.tasks if not task.done] for key, one in steps.items()}
        due = {key for key in held if all(map(self._settled, self._plan.plan.waits(key)))}
        due |= {key for key in unfinished if len(open_[key]) + number[key] < steps[key].step.at_once}
        closed = {*self._posted, *self._said} - unfinished
        return awaiting.further(
            self._plan.plan, self.tasks, self._plan.turn.number, held=held, unfinished=unfinished, due=due, closed=closed,
            open_=open_ | {key: [(task.id, key)] for key, task in self._elsewhere.items()},
        )  # fmt: skip

    def told(self) -> str:
        """The same for people."""
        lines = [f"{key}: {number} task{'s' * (number != 1)}" for key, number in self._posted.items()]
        for key, said in self._said.items():
            why = said.why or (said.error.message if said.error else f"{said.items} items")
            lines.append(f"{key}: {said.state}, {why}")
        return "\n".join(lines)[:4000] or "nothing has become due"

    # ---- one step ----------------------------------------------------------------------------------------------------

    async def _begin(self, key: str, one: Followed) -> None:
        plan, step = self._plan, one.step
        parent = self._parent(key)
        if parent is not None and parent.standing != "failed":
            return self._say(key, "skipped", f"{parent.step.key}, whose failure it catches, did not fail")
        if (why := await self._not_its_turn(key, parent)) is not None:
            return self._say(key, "skipped", why)
        for other in step.after:
            standing = self._standing(other)
            if standing in ("failed", "cancelled") and not self._passed_over(other, parent):
                return self._say(key, "cancelled", f"it comes after {other}, which {_ended(standing)}")
        there = [name for name in (*plan.plan.named(key), *_each(step)) if self._source(name) is not None]
        given = plans.settled(step.input, there)
        for other in dict.fromkeys([*_each(step), *_names(given, step, parent)]):
            standing = self._standing(other)
            if standing != "succeeded":
                state = "skipped" if standing == "skipped" else "cancelled"
                return self._say(key, state, f"it uses the result of {other}, which {_ended(standing)}")
        if step.each is None:
            await self._post(key, one, given, parent)
        else:
            await self._map(key, one, given, parent)

    async def _not_its_turn(self, key: str, parent: Followed | None) -> str | None:
        """Why the conditions say that it is not a step's turn; None where they say it is."""
        content: dict[str, JsonValue] = {}
        for name in sorted(self._plan.plan.asked(key)):
            if (source := self._source(name)) is not None:
                content[name] = await source.value(self._load)
            elif name == REQUEST and name not in self._plan.steps:
                content[name] = await self._load(self._state.request)
        content |= _error(parent)
        for other, conditions, wanted in self._plan.plan.conditions(key):
            if all(one.fits(content, {}) for one in conditions) != wanted:
                when = self._plan.steps[other].step.when
                return f"{when} does not hold" if wanted else f"it is for what is not {other}, and {when} holds"
        return None

    async def _post(self, key: str, one: Followed, given: JsonValue, parent: Followed | None) -> None:
        if len(self.tasks) < TASKS_PER_ROUND:
            self._afford(1)
            await self._add(key, one, [(key, given, _error(parent))], one.step.wait_seconds)

    async def _map(self, key: str, one: Followed, given: JsonValue, parent: Followed | None) -> None:
        items = await self._items(one.step)
        await self._some(key, one, given, items, parent)
        self._say(key, "mapped", items=len(items))

    async def _go_on(self, key: str, one: Followed) -> None:
        """The next items of a step, in the place of those that have ended."""
        assert one.said is not None
        if one.given_up:
            return self._say(key, "failed", items=one.said.items, error=one.error)
        if sum(not task.done for task in one.tasks) >= one.step.at_once:
            return None
        there = [name for name in self._plan.plan.named(key) if self._source(name) is not None]
        given = plans.settled(one.step.input, there)
        self._promised -= one.left
        await self._some(key, one, given, await self._items(one.step), self._parent(key))

    async def _some(
        self, key: str, one: Followed, given: JsonValue, items: Sequence[JsonValue], parent: Followed | None
    ) -> None:
        """Post as many of the items that are left as may be at work at once, and find room in this round."""
        begin = len(one.tasks)
        self._afford(len(items) - begin)
        room = min(one.step.at_once - sum(not task.done for task in one.tasks), TASKS_PER_ROUND - len(self.tasks))
        end = min(len(items), begin + room)
        if begin < end:
            tasks = [(f"{key}.{at}", given, {ITEM: items[at], **_error(parent)}) for at in range(begin, end)]
            await self._add(key, one, tasks, 0.0 if begin else one.step.wait_seconds)
        self._promised += len(items) - end

    async def _add(
        self, key: str, one: Followed, tasks: Sequence[tuple[str, JsonValue, Mapping[str, JsonValue]]], delay: float
    ) -> None:
        """Make tasks of inputs whose references name steps, earlier tasks, the request, and what stands beside each."""
        step, data, made = one.step, dict[str, JsonValue](), list[str]()
        version = (await self._versions([step.capability]))[0]
        if version is None:
            raise _Failed("unknown_capability", f"{step.capability} is not there any more")
        for name in dict.fromkeys(
            name for _, given, own in tasks for name in references.keys(given) if name not in own
        ):
            if (source := self._source(name)) is not None:
                data[name] = await source.value(self._load)
                made += source.entries(self._state.run_id)
            elif name == REQUEST:
                data[name] = await self._load(self._state.request)
        try:
            premises = [(await self._board.entry(premise)).id for premise in step.premises]
        except BadInput as problem:
            raise _Failed("bad_input", str(problem)) from None
        for name in _each(step):
            made += source.entries(self._state.run_id) if (source := self._source(name)) is not None else []
        found: list[TaskSpec] = []
        for name, given, own in tasks:
            try:
                value = references.resolve(given, {**data, **own})
                dump(value, "input", PAYLOAD_BYTES)
            except BadInput as problem:
                raise _Failed("unresolved_reference", f"{name}: {problem}") from None
            found.append(tasking.spec(
                name, f"{one.call}.{name}", version, value, self._state.limits, self._taint(key),
                made_from=[*premises, *made], retry=step.retry, delay=delay,
            ))  # fmt: skip
        self.tasks += found
        self._posted[key] = len(found)

    # ---- what is known -----------------------------------------------------------------------------------------------

    def _parent(self, key: str) -> Followed | None:
        """The step whose failure a step catches."""
        return self._plan.steps[self._plan.plan.handles[key]] if key in self._plan.plan.handles else None

    async def _load(self, value: JsonValue) -> JsonValue:
        return await self._attempt.board.load(self._state.run_id, value)

    async def _items(self, step: Step) -> Sequence[JsonValue]:
        key, pointer = references.split(step.each or "")
        source = self._source(key)
        value = await self._load(self._state.request) if source is None else await source.value(self._load)
        try:
            items = references.point(value, pointer, step.each or "")
        except BadInput as problem:
            raise _Failed("unresolved_reference", str(problem)) from None
        if not isinstance(items, list):
            raise _Failed("unresolved_reference", f"each: {step.each} is a {type(items).__name__} and not a list")
        return items

    def _afford(self, more: int) -> None:
        limit = self._state.limits.tasks
        total = len(self._state.work) + len(self.tasks) + self._promised + more
        if total > limit:
            raise _Failed("limit", f"It would bring the run to {total} tasks; its limit is {limit}.")

    def _say(self, key: str, state: str, why: str = "", *, items: int = 0, error: Failure | None = None) -> None:
        said = {"key": key, "state": state, "why": why, "items": items, "error": error}
        self._said[key] = self._plan.steps[key].said = StepSettled.model_validate(said)

    def _standing(self, key: str) -> str:
        """Of a step as it is by now, or of another task; what is not known was never posted."""
        if key in self._plan.steps:
            return self._plan.steps[key].standing
        if key in self._elsewhere:
            return "going"
        source = self._sources.get(key)
        return source.standing if source is not None else "succeeded" if key == REQUEST else "cancelled"

    def _passed_over(self, key: str, parent: Followed | None) -> bool:
        """Whether it does not matter to what comes after a key that it did not end well."""
        if key in self._plan.steps:
            return self._plan.caught(key) or (parent is not None and parent.step.key == key)
        source = self._sources.get(key)
        return source is not None and all(task.round < self._plan.turn.number for task in source.tasks)

    def _settled(self, key: str) -> bool:
        return key not in self._posted and self._standing(key) not in ("held", "going")

    def _source(self, key: str) -> Source | None:
        """What a key has as its result; None where there is none."""
        found = self._plan.steps[key].source if key in self._plan.steps else self._sources.get(key)
        return found if found is not None and found.standing == "succeeded" else None

    def _taint(self, key: str) -> Taint:
        """Where a step's tasks come from: the turn that planned it, and all that decided about them."""
        waits = self._plan.plan.waits(key)
        tasks = [task for name in waits if name in self._plan.steps for task in self._plan.steps[name].tasks]
        known = [self._sources[name].taint for name in waits if name in self._sources and name not in self._plan.steps]
        return merged(self._plan.turn.taint, *(task.taint for task in tasks), *known)


def _each(step: Step) -> tuple[str, ...]:
    return () if step.each is None else (references.split(step.each)[0],)


def _names(given: JsonValue, step: Step, parent: Followed | None) -> list[str]:
    own = {*([ITEM] if step.each else ()), *([ERROR] if parent else ())}
    return [name for name in references.keys(given) if name not in own]


def _error(parent: Followed | None) -> dict[str, JsonValue]:
    """What a step that catches is told."""
    if parent is None:
        return {}
    return {ERROR: {"step": parent.step.key, "type": parent.error.type, "message": parent.error.message}}


def _ended(standing: str) -> str:
    return {"failed": "failed", "cancelled": "was cancelled", "skipped": "was skipped"}.get(standing, f"is {standing}")
