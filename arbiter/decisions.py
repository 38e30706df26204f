"""From a model's tool calls to tasks: every decision is checked before anything reaches a queue.

A decision that cannot be carried out becomes the answer to its own call, so that the model can correct it; nothing of
an invalid call is posted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from arbiter import asking, board_tools, early, plans, questions, tasking, tools
from arbiter.board_tools import BoardTools
from arbiter.conversation import request_text
from arbiter.decided import Decision, direct_keys, without_orphans
from arbiter.fabrications import FABRICATION, fabrication, kept
from arbiter.fold import UNPINNED, RunState
from arbiter.following import sources
from arbiter.plans import REQUEST, Plan, Step
from arbiter.tasking import Invalid
from blackboard import references
from blackboard.errors import BadInput, BlobError, UnknownRecord
from blackboard.events import Call
from blackboard.taint import Taint, merged
from blackboard.types import TaskSpec
from registry import Contract, HashMismatch, Prices, Registry, Version
from registry.manifest import RESERVED_NAMES, canonical
from wrapper.models import ToolUse

_OWN = (tools.SEARCH, tools.REQUEST, tools.PLAN, tools.OPEN, *board_tools.NAMES)


class Decider:
    """Turns the tool calls of one round into a :class:`Decision`.

    Args:
        offered: the capabilities in the model's tool list, by name, at the versions the run is pinned to.
        load: gives the value that a reference of the board stands for.
        taint: sources of all that the model had seen; every task carries it.
        forbidden: what no run may use; such a capability is not called, whoever names it.
        contract: what is no use to this run; a search leaves it out.
        prices: what mistakes of matching cost.
        board: finds entries; without it the model's tools for the board do not work.
        people: whether the model may ask a person.
        room: of capabilities that were found, those offered already and those the tool list has room for.
    """

    def __init__(
        self,
        registry: Registry,
        state: RunState,
        run_id: str,
        round_number: int,
        offered: Mapping[str, Version],
        load: Callable[[JsonValue], Awaitable[JsonValue]],
        taint: Taint = (),
        *,
        forbidden: Contract | None = None,
        contract: Contract | None = None,
        prices: Prices | None = None,
        room: Callable[[list[Version]], list[Version]] | None = None,
        board: BoardTools | None = None,
        people: bool = False,
    ) -> None:
        self._load, self._taint = load, taint
        self._forbidden, self._contract, self._prices = forbidden or Contract(), contract, prices
        self._room, self._board, self._people = room, board, people
        self._registry, self._state, self._run_id, self._round = registry, state, run_id, round_number
        self._offered = dict(offered)
        self._earlier = {key: one for key, one in sources(state).items() if one.standing != "going"}
        self._keys: set[str] = set()
        self._steps: list[Step] = []
        self._held: set[str] = set()
        self._patient = False
        self._requested: dict[str, str] = {}
        self._opened = asking.names(state)
        self._early = state.limits.round_seconds is not None
        self._own = (*_OWN, tools.WAIT, tools.STOP) if self._early else _OWN

    async def decide(self, uses: tuple[ToolUse, ...]) -> Decision:
        """Check every call; the answers of invalid ones say what to do instead."""
        decision = Decision()
        direct = [use for use in uses if use.name not in self._own]
        keys = dict(zip([use.id for use in direct], direct_keys(direct), strict=True))
        self._keys = set(keys.values())
        # What a run goes on from has is found by a task's input: what waits for others is posted when that is known.
        self._patient = self._state.rerun_of is not None and not any(
            list(references.keys(use.input)) for use in direct if use.input is not None
        )
        for use in uses:
            try:
                call, tasks = await self._call(use, keys, decision)
            except Invalid as problem:
                call, tasks = Call(tool_use_id=use.id, name=use.name, answer=str(problem), valid=False), []
            decision.calls.append(call)
            decision.tasks += tasks
        return without_orphans(decision, self._task_id)

    def _task_id(self, key: str) -> str:
        return f"{self._run_id}/{self._round}.{key}"

    async def _call(self, use: ToolUse, keys: Mapping[str, str], decision: Decision) -> tuple[Call, list[TaskSpec]]:
        if use.input is None:
            raise Invalid(
                f"The arguments could not be read: {use.error}. Nothing was done; call again with valid JSON."
            )
        for spec in (*tools.built_in(), tools.open_request(), tools.ask_person(), *tools.early()):
            if spec["name"] == use.name:
                tasking.check(use.name, canonical(cast(Any, spec["inputSchema"])["json"]), use.input)
        match use.name:
            case tools.SEARCH:
                return await self._search(use, use.input, decision), []
            case tools.REQUEST:
                return await self._request(use, use.input, decision)
            case tools.PLAN:
                return await self._plan(use, use.input, decision)
            case board_tools.RECALL | board_tools.REMEMBER:
                return await self._of_the_board(use, use.input, decision), []
            case tools.OPEN:
                return self._open(use, use.input), []
            case tools.WAIT | tools.STOP if self._early:
                return self._of_what_goes_on(use, use.input, decision), []
            case tools.ASK if self._people:
                if (wrong := questions.problem(use.input)) is not None:
                    raise Invalid(f"Nobody was asked: {wrong}")
                asked = questions.question(keys[use.id], use.id, use.input, self._taint)
                return Call(tool_use_id=use.id, name=use.name, tasks=(self._task_id(asked.key),)), [asked]
            case _:
                task = await self._task(keys[use.id], use.id, use.name, use.input, decision)
                return Call(tool_use_id=use.id, name=use.name, tasks=(self._task_id(task.key),)), [task]

    def _of_what_goes_on(self, use: ToolUse, given: Mapping[str, JsonValue], decision: Decision) -> Call:
        going = early.at_work(self._state)
        there = ", ".join(dict.fromkeys(task.key for task in going))
        if not going:
            raise Invalid("No task is at work any more: call something else, or answer.")
        if use.name == tools.WAIT:
            return Call(tool_use_id=use.id, name=use.name, answer="What has ended since stands behind the results.")
        keys = cast("list[str]", given["tasks"])
        if unknown := [key for key in keys if key not in {task.key for task in going}]:
            raise Invalid(f"Nothing was stopped: {unknown[0]!r} is not at work. At work: {there}.")
        decision.stop |= {task.id: str(given["why"]) for task in going if task.key in keys}
        return Call(tool_use_id=use.id, name=use.name, answer=f"Being stopped: {', '.join(dict.fromkeys(keys))}.")

    async def _of_the_board(self, use: ToolUse, given: Mapping[str, JsonValue], decision: Decision) -> Call:
        try:
            if use.name == board_tools.REMEMBER:
                return await self._entries(use.name).remember(use.id, given)
            call, taint = await self._entries(use.name).recall(use.id, given)
        except BadInput as problem:
            raise Invalid(str(problem)) from None
        decision.recalled = merged(decision.recalled, taint)
        return call

    def _entries(self, field: str) -> BoardTools:
        if self._board is None:
            raise BadInput(field, "no board", "Go on without it.")
        return self._board

    async def _premises(self, given: Sequence[str]) -> tuple[str, ...]:
        try:
            return tuple([(await self._entries("premises").entry(one)).id for one in given])
        except BadInput as problem:
            raise Invalid(str(problem)) from None

    async def _search(self, use: ToolUse, given: Mapping[str, JsonValue], decision: Decision) -> Call:
        limit = given.get("limit", 5)
        query = str(given["query"])
        searched = await self._registry.find(
            query, k=limit if isinstance(limit, int) else 5, tenant=self._state.tenant,
            contract=self._needed(given), prices=self._prices, goal=request_text(self._state.request),
        )  # fmt: skip
        matches = searched.matches
        versions = [await self._registry.tried(match.version, self._run_id) for match in matches]
        decision.matches.append(searched.decision)
        decision.found += [match.name for match in matches]
        found: list[JsonValue] = [
            {
                "name": version.name,
                "description": version.manifest.description,
                "input_schema": cast(JsonValue, dict(version.manifest.input_schema)),
            }
            for version in versions
        ]
        answer: dict[str, JsonValue] = {"found": found}
        full = self._without_room(versions)
        if full:
            answer["note"] = f"The tool list has no room for {', '.join(full)}: call them through {tools.PLAN}."
        if not found and searched.decision.note:
            answer["note"] = (
                f"Nothing was found: {searched.decision.note}. Search again in English, or as the tools speak."
            )
        elif not found:
            answer["note"] = f"Nothing fits. Ask for it with {tools.REQUEST}."
        if searched.decision.left_out and given.keys() & {"inputs", "output"}:
            answer["left_out"] = [*searched.decision.left_out]
        return Call(tool_use_id=use.id, name=use.name, answer=answer)

    def _needed(self, given: Mapping[str, JsonValue]) -> Contract | None:
        """What a search holds capabilities to: what is no use to this run, and what the model says of its sub-task."""
        said = {key: given[key] for key in ("inputs", "output") if key in given}
        if not said:
            return self._contract
        return Contract.model_validate({**(self._contract or Contract()).model_dump(), **said})

    def _without_room(self, versions: list[Version]) -> list[str]:
        """Which of what was found will not be in the tool list."""
        if self._room is None:
            return []
        new = [version for version in versions if version.name not in self._offered]
        shown = {version.name for version in self._room(new)}
        return [version.name for version in new if version.name not in shown]

    async def _request(
        self, use: ToolUse, given: Mapping[str, JsonValue], decision: Decision
    ) -> tuple[Call, list[TaskSpec]]:
        name = str(given["name"])
        if name in RESERVED_NAMES:
            raise Invalid(f"{name!r} is reserved. Choose another name.")
        replaced = await self._replaced(name, decision)
        if name in self._requested:
            raise Invalid(f"{name} was requested twice in this turn; the first request stands.")
        spent = sum(task.kind == "fabrication" for task in self._state.work) + len(self._requested)
        if spent >= self._state.limits.fabrications:
            raise Invalid(
                f"The limit of {self._state.limits.fabrications} fabrications for this run is reached. "
                "Answer with what there is, and say what is missing."
            )
        self._requested[name] = use.id
        key = FABRICATION + name
        if key in self._keys:
            raise Invalid(f"The key {key} is taken in this turn. Choose another name.")
        self._keys.add(key)
        need, hint = str(given["need"]), given.get("input_hint")
        task = fabrication(self._state, name, need, hint, use.id, self._taint, replaced)
        if replaced is not None:
            decision.pins[name] = UNPINNED
        return Call(tool_use_id=use.id, name=use.name, tasks=(self._task_id(key),)), [task]

    async def _replaced(self, name: str, decision: Decision) -> Version | None:
        """The version that fails this run so much that a better one may be asked for; None where there is none of that name."""
        version = await self._find(name)
        if version is None:
            return None
        decision.found.append(name)
        active = await self._active(name)
        if active is None:  # it was retired since this run began to use it
            return version
        if active.sha != version.sha and version.state != "canary":
            decision.pins[name] = UNPINNED
            raise Invalid(f"{name} has another version by now, used from the next turn on. Nothing was requested.")
        if why := kept(self._state, version, await self._registry.vouched(version)):
            raise Invalid(f"{name} exists already: call it, or choose another name; {why}. Nothing was requested.")
        if version.state == "canary":
            decision.pins[name] = active.sha
            raise Invalid(
                f"{name} was on trial; the version before it is used from the next turn on. Nothing was requested."
            )
        return version

    def _open(self, use: ToolUse, given: Mapping[str, JsonValue]) -> Call:
        name = str(given["name"])
        if self._state.agenda is None:
            raise Invalid("This run has no agenda, so nobody would hear it. Nothing was asked.")
        if name in self._opened:
            raise Invalid(f"Something was asked under the name {name!r} already. Choose another name.")
        try:
            asking.request_of(given)
        except BadInput as problem:
            raise Invalid(f"Nothing was asked. {problem}") from None
        self._opened.add(name)
        return Call(tool_use_id=use.id, name=use.name)

    async def _plan(
        self, use: ToolUse, given: Mapping[str, JsonValue], decision: Decision
    ) -> tuple[Call, list[TaskSpec]]:
        given_steps = cast("list[JsonValue]", given["tasks"])
        names = [str(cast("dict[str, JsonValue]", step)["key"]) for step in given_steps]
        twice = {name for name in names if names.count(name) > 1} | (set(names) & self._keys)
        if twice:
            raise Invalid(
                f"Keys must be unique within a turn; repeated: {', '.join(sorted(twice))}. Nothing was posted."
            )
        steps, wrong = plans.parse(given_steps)
        plan = Plan([*self._steps, *steps])
        elsewhere = {*self._earlier, *self._keys}
        self._keys |= set(names)
        wrong += plans.problems(plan, [step.key for step in steps], elsewhere, self._state.limits.seconds)
        problems = [*map(str, wrong)]
        tasks: list[TaskSpec] = []
        for step in steps:
            try:
                tasks.append(await self._step(use.id, step, plan, decision))
            except Invalid as problem:
                problems.append(f"{step.key}: {problem}")
        if problems:
            self._keys -= set(names)
            raise Invalid("The plan was not posted. " + " ".join(problems[: tasking.LISTED_PROBLEMS]))
        self._steps += steps
        self._held |= plan.held()
        if self._patient:
            self._held |= {key for key in plan.steps if plan.waits(key) & plan.steps.keys()}
        tasks = [task for task in tasks if task.key not in self._held]
        return Call(tool_use_id=use.id, name=use.name, tasks=tuple(self._task_id(task.key) for task in tasks)), tasks

    async def _step(self, use_id: str, step: Step, plan: Plan, decision: Decision) -> TaskSpec:
        """The task of a step, as far as it is known; of one that is held back it shows that there can be one."""
        version = await self._version(step.capability, decision)
        allowed = version.manifest.retry.max_attempts
        if step.retry is not None and step.retry.max_attempts > allowed and version.manifest.effects == "irreversible":
            remedy = f"{step.capability} cannot be undone: give {allowed} or less."
            raise Invalid(str(BadInput("retry.max_attempts", step.retry.max_attempts, remedy)))
        named = plan.named(step.key)
        self._there(step.key, named)
        # Within the turn a key means the task of this turn; otherwise the latest earlier task of that key.
        waits = [other for other in named if other in self._keys]
        sure = not (step.chooses or step.key in plan.handles)
        known = [other for other in named if other not in self._keys] if sure else []
        settled = await self._resolve(step.input, known)
        if waits or (named and not sure) or step.each is not None or step.key in plan.handles:
            tasking.check_shape(step.capability, version.manifest.input_schema, settled)
        else:
            tasking.check(step.capability, version.manifest.input_text, settled)
        return tasking.spec(
            step.key, f"{use_id}.{step.key}", version, settled, self._state.limits, self._taint,
            after=[*(key for key in step.after if key in self._keys), *waits],
            made_from=[*await self._premises(step.premises), *self._results(named)],
            retry=step.retry,
        )  # fmt: skip

    async def _task(self, key: str, tool_use_id: str, name: str, given: JsonValue, decision: Decision) -> TaskSpec:
        version = await self._version(name, decision)
        named = list(references.keys(given))
        self._there(key, named)
        if held := [other for other in named if other in self._held]:
            raise Invalid(f"$ref names {held[0]!r}, which is held back: make this call a step of the plan.")
        waits = [other for other in named if other in self._keys]
        settled = await self._resolve(given, [other for other in named if other not in self._keys])
        if waits:
            tasking.check_shape(name, version.manifest.input_schema, settled)
        else:
            tasking.check(name, version.manifest.input_text, settled)
        return tasking.spec(
            key, tool_use_id, version, settled, self._state.limits, self._taint,
            after=waits, made_from=self._results(named),
        )  # fmt: skip

    def _there(self, key: str, named: Collection[str]) -> None:
        for other in named:
            if other == key or (other not in self._keys and other not in self._earlier and other != REQUEST):
                there = sorted((self._keys | set(self._earlier)) - {key})
                raise Invalid(f"$ref names {other!r}; the keys are {', '.join(there) or 'none yet'}.")

    def _results(self, keys: Collection[str]) -> list[str]:
        """Entries of the earlier tasks with these keys."""
        earlier = [self._earlier[key] for key in keys if key not in self._keys and key in self._earlier]
        return [entry for one in earlier for entry in one.entries(self._run_id)]

    async def _version(self, name: str, decision: Decision) -> Version:
        version = await self._find(name)
        if version is None and self._state.plan:  # no model reads this
            raise Invalid(f"There is no capability {name!r} that this run may use.")
        if version is None:
            raise Invalid(
                f"There is no capability {name!r}. Use one of {', '.join(sorted(self._offered)) or 'none so far'}, "
                f"look with {tools.SEARCH}, or ask for it with {tools.REQUEST}."
            )
        objections = self._forbidden.objections(version.manifest)
        if objections:
            raise Invalid(f"{name} may not be used here: {'; '.join(objections)}. Use another one, or do without.")
        decision.found.append(name)
        decision.pins.setdefault(name, version.sha)
        return version

    async def _find(self, name: str) -> Version | None:
        """The version to use: the one offered, else the active one this tenant may see, or its canary."""
        if name not in self._offered and (version := await self._active(name)) is not None:
            self._offered[name] = await self._registry.tried(version, self._run_id)
        return self._offered.get(name)

    async def _active(self, name: str) -> Version | None:
        with contextlib.suppress(UnknownRecord, HashMismatch):
            version = await self._registry.resolve(name)
            if version.visible_to(self._state.tenant):
                return version
        return None

    async def _resolve(self, given: JsonValue, keys: list[str]) -> JsonValue:
        if not keys:
            return given
        for key in keys:
            if key in self._earlier and self._earlier[key].standing != "succeeded":
                raise Invalid(f"$ref names {key!r}, which ended as {self._earlier[key].standing}.")
        try:
            data = {
                key: await self._earlier[key].value(self._load)
                if key in self._earlier
                else await self._load(self._state.request)
                for key in dict.fromkeys(keys)
            }
            return references.resolve(given, data)
        except BadInput as problem:
            raise Invalid(str(problem)) from None
        except BlobError as problem:
            if problem.retryable:
                raise
            raise Invalid(str(problem)) from None
