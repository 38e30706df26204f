"""What people read about events and runs: one line of plain text each, safe to print on a terminal.

Requests, answers, details and error messages come from models, from generated code and from users. Whatever is shown of
them passes :func:`one_line` or :func:`printable` first, so that none of it can move the cursor or set colours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from arbiter.fold import RunState, Task
from blackboard import events
from blackboard.approvals import Waiting
from blackboard.blobs import Blob
from blackboard.budgets import UnitReport
from blackboard.events import ApprovalAskedData, CallbackWaitingData, Called, Event, FabricationStageData
from blackboard.taint import PERSON, read
from blackboard.types import Failure, Usage

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FAMILIAR = (PERSON, "model")
_SPACE = re.compile(r"\s+")
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def printable(text: str) -> str:
    """Text without control characters and direction marks; line ends and tabs stay."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def escaped(text: str) -> str:
    """JSON without what could control a terminal, which some read in UTF-8 too: the same value, written with escapes."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(value: JsonValue, limit: int = 120) -> str:
    """A value as one printable line of at most ``limit`` characters; anything but text as JSON.

    No more of a large value is looked at than can be shown, so this may be called for every frame of a view.
    """
    enough = 4 * limit
    if isinstance(value, Blob):
        value = str(value)
    if isinstance(value, str):
        text = value[: enough + 1]
    else:
        text = ""
        for piece in _ENCODER.iterencode(value):
            text += piece[: enough + 1]
            if len(text) > enough:
                break
    line = _CONTROL.sub("\ufffd", _SPACE.sub(" ", text[:enough]).strip())
    return line if len(line) <= limit and len(text) <= enough else line[: limit - 1] + "…"


def seconds(value: float) -> str:
    """``0.04 s``, ``12.3 s``, ``2 min 05 s``, ``3 h 07 min``."""
    value = max(0.0, value)
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, noun: str) -> str:
    """``1 task``, ``2 tasks``, ``12,345 tokens``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def tokens(usage: Usage) -> str:
    """Tokens of a usage, behind ``~`` when they were estimated."""
    return ("~" if usage.estimated and usage.total_tokens else "") + count(usage.total_tokens, "token")


def money(amount: float) -> str:
    """Millionths of a currency in its units: ``12.5``."""
    return f"{Decimal(int(amount)) / 1_000_000:,f}"


def cost(state: RunState, account: UnitReport | None) -> str:
    """What a run cost and may cost; empty where nothing bounds that.

    Args:
        account: of its money, where there is one: nothing was asked before the first call, and it is not kept for ever.
    """
    if account is None:
        return "" if state.limits.money is None else f"at most {money(state.limits.money)}"
    held = f", {money(account.reserved)} reserved" if account.reserved else ""
    unseen = f", at most {money(account.lapsed)} more that a process may have spent that died" if account.lapsed else ""
    return f"{money(account.spent)} of {money(account.limit)}{held}{unseen}"


def words(names: Iterable[str]) -> str:
    """Names in one line."""
    return one_line(", ".join(names), 200)


def moment(at: float | None, zone: str | None = None) -> str:
    """A time of the server as the wall clock of a time zone shows it, the local one by default: ``2026-11-26 15:00:00``."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at, ZoneInfo(zone) if zone else None).strftime("%Y-%m-%d %H:%M:%S")


def otherwise(asked: Waiting | ApprovalAskedData) -> str:
    """What counts when nobody answers."""
    if asked.kind == "question":
        return "it stays unanswered" if asked.otherwise is None else f"the answer is {one_line(asked.otherwise, 80)}"
    return "refused" if asked.otherwise is None else "approved"


def for_person(asked: ApprovalAskedData) -> str:
    """What a task waits for, in one line."""
    what = "an answer" if asked.kind == "question" else "approval"
    who = f" by {words(asked.by)}" if asked.by else " by a person"
    return f"waits for {what}{who} until {moment(asked.until_ms / 1000)}, then {otherwise(asked)}"


def for_outside(awaited: CallbackWaitingData) -> str:
    """The same of one that waits for an answer from outside."""
    often = f", with a sign of life every {awaited.heartbeat_seconds:g} s" if awaited.heartbeat_seconds else ""
    return f"waits for an answer from outside until {moment(awaited.until_ms / 1000)}{often}"


def failure(error: Failure | None, limit: int = 160) -> str:
    """``type: message`` of an error in one line."""
    return "" if error is None else one_line(f"{error.type}: {error.message}", limit)


def taken_over(task_id: str) -> str:
    """Where a task has its result from that did nothing for it."""
    return f"taken over from {one_line(task_id)}"


def trace(error: Failure | None) -> str:
    """The traceback in the evidence of an error, as printable lines; empty where there is none."""
    told = None if error is None else error.evidence.get("traceback")
    lines = [str(line) for line in told] if isinstance(told, list) else str(told or "").splitlines()
    return "\n".join(printable(line) for line in lines)


def traces(state: RunState, most: int = 3) -> list[str]:
    """Of the first ``most`` tasks that ended with a traceback: a line with their name, and it."""
    ended = ((task, trace(task.completion.error)) for task in state.work if task.completion is not None)
    said = (
        f"Where {one_line(task.capability if state.call else task.key, 64)} failed:\n{told}"
        for task, told in ended
        if told
    )
    return list(islice(said, most))


def asked(request: JsonValue, call: Called | None, limit: int = 120) -> str:
    """What a run was accepted to do, in one line; a call with the name of what it calls."""
    if call is None:
        return one_line(request, limit)
    given = "" if request is None else f" {one_line(request, limit)}"
    return one_line(call.capability + given, limit)


def totals(state: RunState) -> list[str]:
    """What a run took so far: rounds that count for its limit, tasks, fabrications, repeated attempts, tokens."""
    fabrications = sum(task.kind == "fabrication" for task in state.work)
    repeated = sum(len(task.retries) for task in state.tasks.values())
    parts = [] if state.call else [count(state.decisions, "round")]
    parts.append(count(len(state.work) - fabrications, "task"))
    if fabrications:
        parts.append(count(fabrications, "fabrication"))
    if repeated:
        parts.append(f"{repeated} attempt{'' if repeated == 1 else 's'} repeated")
    return parts if state.call and not state.usage.total_tokens else [*parts, tokens(state.usage)]


def sources(taint: Iterable[str]) -> str:
    """Where something comes from, in one line; the labels of models and persons last, who are seldom the question."""
    ordered = sorted(taint, key=lambda label: (label.partition(":")[0] in _FAMILIAR, label))
    return ", ".join(one_line(label) for label in ordered)


def foreign(taint: Iterable[str]) -> bool:
    """Whether something comes from elsewhere than persons and models."""
    return any(label.partition(":")[0] not in _FAMILIAR for label in taint)


def summary(state: RunState) -> str:
    """How a run ended, or how far it is, in one line."""
    took = f" in {seconds(state.seconds)}" if state.seconds is not None else ""
    return f"{state.status}{took}: {', '.join(totals(state))}"


def ready_at(state: RunState, task: Task) -> datetime:
    """When a task could first be claimed: when it was posted, or when the last task it waited for ended."""
    ended = [other.ended_at for key in task.after if (other := state.tasks.get(key)) and other.ended_at]
    return max([task.posted_at, *ended])


def busy_seconds(state: RunState, task: Task, now: datetime) -> float | None:
    """Time from when a task could be claimed to its end, or to ``now``; None while it waits for other tasks."""
    if task.ended_at is None and task.state == "blocked":
        return None
    return max(0.0, ((task.ended_at or now) - ready_at(state, task)).total_seconds())


def stages(task: Task) -> list[FabricationStageData]:
    """The stages of a fabrication, each with its latest outcome, in the order they began."""
    latest: dict[tuple[str, int], FabricationStageData] = {}
    for stage in task.stages:
        latest[(stage.stage, stage.round)] = stage
    return list(latest.values())


def stage_name(stage: FabricationStageData) -> str:
    """The stage, and which repair it belongs to."""
    return one_line(stage.stage.replace("_", " "), 40) + (f" (repair {stage.round})" if stage.round else "")


def narrate(event: Event) -> str | None:
    """One line for an event, or None for one that only says that a decision is waiting or being taken."""
    _, _, place = event.subject.partition("/")
    step = re.fullmatch(r"s\d+", place) is not None
    match event:
        case events.RunAccepted(data=data):
            again = f", again for {one_line(data.redrive_of)}" if data.redrive_of else ""
            if data.rerun_of is not None:
                again += f", goes on from {one_line(data.rerun_of.run)}"
            known = read(data.taint)
            whence = f", from {sources(known)}" if foreign(known) else ""
            return f"accepted{again}{whence}: {'call ' if data.call else ''}{asked(data.request, data.call)}"
        case events.RoundPlanned(data=data):
            calls = ", ".join(one_line(call.name, 40) + ("" if call.valid else " (invalid)") for call in data.calls)
            if data.carrying:
                return f"round {data.round}: carries the plan on, without the model"
            if data.attending:
                return f"round {data.round}: open requests, without the model"
            whom = f" [{tokens(data.usage)}, {one_line(data.model, 200)}]" if data.model else ""  # a plan was given
            before = ", before the round was over" if data.seen is not None else ""
            return f"round {data.round}{before}: {calls or 'answer'}{whom}"
        case events.TaskPosted(data=data):
            waits = f", waits for {', '.join(name.partition('/')[2] for name in data.after)}" if data.after else ""
            return None if step else f"{data.kind} {place} posted: {one_line(data.capability, 64)}{waits}"
        case events.TaskClaimed(data=data):
            return (
                None if step else f"{data.kind} {place} running, attempt {data.attempt} [{one_line(data.worker, 80)}]"
            )
        case events.TaskReleased():
            return f"{place} given back by its worker"
        case events.TaskRetried(data=data):
            wait = seconds(data.delay_ms / 1000)
            return f"{place} attempt {data.attempt} failed, again in {wait}: {failure(data.error)}"
        case events.TaskProgressed(data=data):
            return f"{place} reports {one_line(data)}"
        case events.FabricationStage(data=data):
            detail = f": {one_line(data.detail)}" if data.detail else ""
            took = f" in {seconds(data.seconds)}" if data.seconds else ""
            return f"fabrication {place}: {stage_name(data)} {data.outcome}{took}{detail}"
        case events.TaskCompleted(data=data):
            if step and data.status == "succeeded":
                return None
            tries = f" after {data.attempts} attempts" if data.attempts > 1 else ""
            why = f": {failure(data.error)}" if data.error else ""
            if data.taken_over_from is not None:
                tries = f", {taken_over(data.taken_over_from)}"
            return f"{one_line(data.node, 64)} {place} {data.status}{tries}{why}"
        case events.TaskCancelling(data=data):
            return f"{one_line(event.subject.partition('/')[2], 64)} is being stopped: {one_line(data.reason)}"
        case events.ApprovalAsked(data=data):
            given = "" if data.input is None else f": {one_line(data.input)}"
            return f"{one_line(data.capability, 64)} {place} {for_person(data)}{given}"
        case events.ApprovalAnswered(data=data) if data.state == "expired":
            return f"{place}: nobody answered in time"
        case events.ApprovalAnswered(data=data):
            by = f" by {one_line(data.by, 80)}" if data.by else ", as nobody answered"
            changed = ", with other arguments" if data.input is not None else ""
            why = f": {one_line(data.text)}" if data.text else ""
            return f"{place} {data.state}{by}{changed}{why}"
        case events.CallbackWaiting(data=data):
            return f"{place} {for_outside(data)}"
        case events.CallbackAnswered(data=data):
            return f"{place} {data.status}, says {one_line(data.by, 80)} outside"
        case events.RunPaused(data=data):
            return f"paused: {one_line(data.reason)}"
        case events.RunResumed():
            return "goes on"
        case events.RunCancelling(data=data):
            return f"cancelling: {one_line(data.reason)}"
        case events.RunCompleted(data=data):
            why = f": {failure(data.error)}" if data.error else ""
            after = f" after {count(data.rounds, 'round')}" if data.rounds else ""
            return f"run {data.status}{after}{why}"
        case events.EntryPosted(data=data) | events.EntryAmended(data=data):
            did = "wrote" if isinstance(event, events.EntryPosted) else "amended"
            return f"{one_line(data.author.name, 64)} {did} {data.topic}: {one_line(data.content)}"
        case events.EntryRetracted(data=data):
            why = f": {one_line(data.reason)}" if data.reason else ""
            return f"{one_line(data.author.name, 64)} retracted what was written on {data.topic}{why}"
        case events.EntryErased(data=data):
            return f"{one_line(data.author.name)} had what was written on {one_line(data.topic)} erased"
        case events.ScopeCompacted(data=data):
            return f"{count(data.facts, 'fact')} that count no more left the log; it reads from {data.readable_from}"
        case events.EntryLeased(data=data):
            until = datetime.fromtimestamp(data.until_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")
            return f"{one_line(data.author.name, 64)} holds {data.topic} until {until}"
        case events.EntryReturned(data=data):
            return f"{one_line(data.author.name, 64)} gave {data.topic} back"
        case events.EntryTaken(data=data):
            return f"{one_line(data.author.name, 64)} took {data.topic}"
        case events.TaskReady():
            return None
        case _:
            return f"{event.type} {one_line(event.subject)}"


def timestamped(event: Event, line: str, *, with_run: bool = False) -> str:
    """A narrated line behind the event's time of day in the local time zone and, if asked, its run."""
    when = event.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{when}  {one_line(event.run_id, 40)}  {line}" if with_run else f"{when}  {line}"
