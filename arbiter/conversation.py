"""The conversation with the planning model, rebuilt from a run's state at every step.

Bedrock Converse shape: the request, then for each round the model's message and one user message with a result for each
of its tool calls, in their order, paired by tool-use id. Where the model is asked though tasks are at work, the result of their
calls says so, and what becomes of them stands behind the results of a later round. Whatever comes from elsewhere stands in a
frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from arbiter import early
from arbiter.fold import Round, RunState, Task
from arbiter.following import Followed, Following, succeeded
from arbiter.recalling import View, opening
from arbiter.tools import OPEN, PLAN, SEARCH
from blackboard.blobs import Blob
from blackboard.events import Call
from blackboard.taint import Taint, merged
from blackboard.types import Status
from wrapper.models import quoted

if TYPE_CHECKING:
    from strands.types.content import Message

SHOWN_CHARACTERS = 16_000
"""Longest result shown in full, as JSON text; longer ones are cut and can be passed on by reference."""
PREVIEW_CHARACTERS = 2_000
WHOLE_BYTES = 12 * SHOWN_CHARACTERS
"""A value stored apart that is larger than this cannot be short enough to be shown in full: a character has at most 12 bytes."""
REQUEST_BYTES = 1 << 20
"""Largest request that is shown in full."""


VOLUNTEERED = 50
"""Most tasks of a round that are told of beside those the model called."""


def messages(state: RunState, said: list[Message] | None = None, view: View | None = None) -> list[Message]:
    """Everything said so far.

    Args:
        said: what an earlier call returned for the same run and view; only what came after it is added to it.
        view: what stands behind the request, and for rounds that are left out. Default: nothing, and none is left out.
    """
    out = cast("list[dict[str, Any]]", [] if said is None else said)
    view = view or View()
    if not out:
        asked = quoted(request_text(state.request), "request", state.request_taint)
        chosen = next(
            (turn for turn in state.rounds if turn.context is not None and turn.context == view.context), None
        )
        then = early.as_of(state, chosen.seen if chosen is not None and chosen.early else None)
        out.append({"role": "user", "content": [{"text": asked}, *opening(then, view)]})
    every, asked = state, [at for at, turn in enumerate(state.rounds) if at >= view.first - 1 and not turn.attending]
    known = sum(message["role"] == "assistant" for message in out)
    for number, at in enumerate(asked[known:], known + 1):
        turn = every.rounds[at]
        out.append(turn.message)
        after = every.rounds[asked[number]] if number < len(asked) else None
        state = early.as_of(every, after.seen if after is not None and after.early else None)
        if turn.calls:
            attended = list(takewhile(lambda turn: turn.attending, state.rounds[at + 1 :]))
            replies = {
                call.tool_use_id: (call, one.taint) for one in attended for call in one.calls if not one.carrying
            }
            plan = Following(state, turn) if any(one.carrying for one in attended) else None
            results = [
                _planned(plan, call.tool_use_id)
                if plan and call.name == PLAN and call.valid
                else _result(state, *replies.get(call.tool_use_id, (call, ("arbiter",))), view)
                for call in turn.calls
            ]
            told = [*_volunteered(state, [turn, *attended]), *_later(state, turn)]
            out.append({"role": "user", "content": [*results, *told]})
    return cast("list[Message]", out)


def _volunteered(state: RunState, turns: Sequence[Round]) -> list[dict[str, JsonValue]]:
    """What came of activations of the agenda and of open requests of others: nobody called them, so no result is theirs."""
    numbers, told = (
        {turn.number for turn in turns},
        {task for turn in turns for call in turn.calls for task in call.tasks},
    )
    mine = [task for task in state.work if task.round in numbers and task.id not in told]
    if not mine:
        return []
    shown: list[JsonValue] = [{"capability": task.capability, **_outcome(task)} for task in mine[:VOLUNTEERED]]
    if len(mine) > VOLUNTEERED:
        shown.append(f"and {len(mine) - VOLUNTEERED} more")
    text = json.dumps({"volunteered": shown}, ensure_ascii=False)
    return [{"text": quoted(text, "board", merged(*(task.taint for task in mine)))}]


def _later(state: RunState, turn: Round) -> list[dict[str, JsonValue]]:
    """What became of tasks of earlier rounds that were at work when this one's model was asked."""
    ended, going = early.later(state, turn)
    if not ended and not going:
        return []
    told: dict[str, JsonValue] = {"ended": [_named(task) for task in ended]} if ended else {}
    if going:
        told["at_work"] = [_named(task) for task in going[:VOLUNTEERED]]
        told |= {"more_at_work": len(going) - VOLUNTEERED} if len(going) > VOLUNTEERED else {}
    text = json.dumps({"earlier_tasks": told}, ensure_ascii=False)
    return [{"text": quoted(text, "result", merged(*(task.taint for task in [*ended, *going])))}]


def _named(task: Task) -> JsonValue:
    return {"key": task.key, "capability": task.capability, **_outcome(task)}


def request_text(request: JsonValue) -> str:
    """The request as text, or a note in its place when it is very long."""
    if isinstance(request, Blob):
        request = _note(request, "request")
    return request if isinstance(request, str) else json.dumps(request, ensure_ascii=False)


def _result(state: RunState, call: Call, said: Taint, view: View) -> dict[str, JsonValue]:
    """The result of a call.

    Args:
        said: sources of an answer that no task gave.
    """
    if call.shown:
        return _tool_result(call.tool_use_id, [view.framed(one, state.run_id) for one in call.shown], ok=True)
    if not call.tasks:
        taint = ("registry",) if call.name == SEARCH else said
        return _block(call.tool_use_id, call.answer, taint, ok=call.valid and call.name != OPEN)
    tasks = [state.tasks[task_id] for task_id in call.tasks]
    taint = merged(*(task.taint for task in tasks))
    if call.name == PLAN:
        report: dict[str, JsonValue] = {task.key: {"capability": task.capability, **_outcome(task)} for task in tasks}
        return _block(
            call.tool_use_id, {"tasks": report}, taint, ok=all(succeeded(task) or not task.done for task in tasks)
        )
    task = tasks[0]
    if succeeded(task) and task.completion is not None:
        return _block(call.tool_use_id, shortened(task.completion.data, task.key), taint, ok=True)
    return _block(call.tool_use_id, _outcome(task), taint, ok=not task.done)


def _planned(plan: Following, tool_use_id: str) -> dict[str, JsonValue]:
    """The result of a call whose plan was carried on without the model: what became of each of its steps."""
    mine = {key: one for key, one in plan.steps.items() if one.call == tool_use_id}
    report: dict[str, JsonValue] = {}
    for key, one in mine.items():
        report[key] = {"capability": one.step.capability, **_became(one)}
        if plan.caught(key):
            report[key] = {**cast("dict[str, JsonValue]", report[key]), "caught_by": one.step.catch}
    taint = merged(*(turn.taint for turn in plan.after if turn.carrying), *(one.source.taint for one in mine.values()))
    ok = all(one.standing in ("succeeded", "skipped", "going") or plan.caught(key) for key, one in mine.items())
    return _block(tool_use_id, {"tasks": report}, taint, ok=ok)


def _became(one: Followed) -> dict[str, JsonValue]:
    said = one.said
    if said is None:
        return _outcome(one.tasks[0]) if one.tasks else {"status": "not started"}
    if said.state in ("skipped", "cancelled"):
        return {"status": said.state, "why": said.why}
    told: dict[str, JsonValue] = {"status": one.standing}
    if one.standing == "failed":
        told["error"] = shortened(
            one.error.model_dump(mode="json", exclude={"names", "retry_after_seconds"}), one.step.key
        )
    if one.tasks or said.state == "mapped":
        told["items"] = max(said.items, len(one.tasks))
        told["data"] = shortened([_item(task) for task in one.tasks], one.step.key)
        failed: JsonValue = {task.key: _outcome(task) for task in one.failures[:VOLUNTEERED]}
        told |= {"failed": failed} if failed else {}
    return told


def _item(task: Task) -> JsonValue:
    if not succeeded(task) or task.completion is None:
        return None
    data = task.completion.data
    return _note(data, task.key) if isinstance(data, Blob) else data


def _outcome(task: Task) -> dict[str, JsonValue]:
    done = task.completion
    if done is None:
        return early.stand(task)
    if done.status is Status.SUCCEEDED:
        return {"status": done.status.value, "data": shortened(done.data, task.key)}
    error: JsonValue = {"type": "unknown", "message": "no reason was given"}
    if done.error is not None:
        error = done.error.model_dump(mode="json", exclude={"names", "retry_after_seconds"})  # for machines
    told: dict[str, JsonValue] = {
        "status": done.status.value,
        "attempts": done.attempts,
        "error": shortened(error, task.key),
    }
    return (
        told | {"stopped_because": task.stopping[:500]} if task.stopping and done.status is Status.CANCELLED else told
    )


def shortened(data: JsonValue, key: str) -> JsonValue:
    """The data, or a note in its place when it is long."""
    if isinstance(data, Blob):
        return _note(data, key)
    text = json.dumps(data, ensure_ascii=False)
    if len(text) <= SHOWN_CHARACTERS:
        return data
    shape = sorted(data)[:50] if isinstance(data, dict) else f"{type(data).__name__} of {len(cast(Any, data))}"
    return {
        "shortened": True,
        "characters": len(text),
        "contains": cast(JsonValue, shape),
        "beginning": text[:PREVIEW_CHARACTERS],
        "note": f'The whole can be passed on as {{"$ref": "{key}"}} or in part as {{"$ref": "{key}#/pointer"}}.',
    }


def _note(blob: Blob, key: str) -> JsonValue:
    return {
        "shortened": True,
        "bytes": blob.bytes,
        "contains": blob.contains,
        "beginning": blob.beginning,
        "note": f'The whole can be passed on as {{"$ref": "{key}"}} or in part as {{"$ref": "{key}#/pointer"}}.',
    }


def _block(tool_use_id: str, value: JsonValue, taint: Taint, *, ok: bool) -> dict[str, JsonValue]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _tool_result(tool_use_id, [{"text": quoted(text, "result", taint)}], ok=ok)


def _tool_result(tool_use_id: str, content: Sequence[JsonValue], *, ok: bool) -> dict[str, JsonValue]:
    status = "success" if ok else "error"
    return {"toolResult": {"toolUseId": tool_use_id, "status": status, "content": [*content]}}
