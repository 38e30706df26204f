"""Writes ``events.md`` from the event models: ``python docs/_generate_events.py``. A test compares the two.

Types, required fields and defaults come from the models' JSON Schemas, descriptions from the docstrings below the fields,
examples from stored entries that the board's own parser reads.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from blackboard import events
from blackboard.events import Event
from blackboard.triggers import AgendaTerms, Query
from blackboard.types import Completion, Failure, Limits, Usage

FEED_ONLY = ("task.ready", "task.claimed", "task.released")
"""Types that are never in a run's log."""

SHARED: tuple[type[BaseModel], ...] = (
    events.Call, events.StepSettled, events.Called, events.Context, events.Shown, events.ReplayOf, events.RerunOf,
    events.Author, events.Link, events.Erasure, events.Activated,
    events.RatedActivation, events.SetAside, events.PickedActivation, AgendaTerms, Query, Completion, Failure, Usage, Limits,
)  # fmt: skip
"""Models that several fields are made of; they get tables of their own."""

_RUN = "r019a8f3c2d10b7c41e9a5f02"
_TASK = f"{_RUN}/1.price"
_MAKING = f"{_RUN}/1.fabricate_convert_currency"
_SHA = "3ba1c203601b6f0d6a0e51a1ad0c2e3f1f0f5f8a9b2c4d6e8f0a1b2c3d4e5f60"
_WORKER = "wrapper@host:4711:07b88553"

_ENTRY = f"{_RUN}/e/4be0a7c95d1f2a3e68b7c0d1"
_AGENDA = f"{_RUN}/agenda"
_AUTHOR = {"kind": "task", "name": "price", "version": _SHA, "task": _TASK, "run": _RUN, "attempt": 1}

_WHEN = {
    "run.accepted": "When `submit` writes the run, together with its first step or, for a direct call, with its only task. The "
    "first event of every log.",
    "round.planned": "When an arbiter's step commits what the model decided, together with the tasks it posts; or what goes on "
    "without it, for open requests or a [plan](plans.md).",
    "task.posted": "With the round that posts it; for the arbiter's own steps, with what made the step due.",
    "task.ready": "When the last task it waited for succeeded, or its delay before another attempt is over.",
    "task.claimed": "When a worker takes it.",
    "task.released": "When a worker gives it back, mostly because it drains. The attempt does not count.",
    "task.retried": "When an attempt failed in a way that may pass, or its worker fell silent, and attempts and time are left.",
    "task.progressed": "Whenever a handler of the board's own calls `attempt.progress`. No shipped role does so far.",
    "fabrication.stage": "At the beginning of long stages and at the end of every stage; carries the fabrication's checkpoint "
    "in the same script.",
    "task.completed": "When it ends: reported by its worker, or decided by the board when there is nobody to report.",
    "task.cancelling": "When the cancellation of one running task is accepted, or an entry that an open one was "
    "[made from](rounds.md#when-the-premise-goes) counts no more. It is told with its next heartbeat.",
    "approval.asked": "When a task begins to wait for [a person](approvals.md): its worker gave it back in the same script.",
    "approval.answered": "When the person answered, or the time for that was over. The task is ready again.",
    "callback.waiting": "When the function of an attempt raised `Later` to wait for an [answer from outside](callbacks.md): its "
    "worker let go of the task in the same script.",
    "callback.answered": "When whoever holds the token of the attempt said what came of it. In the same script the task ends, or "
    "another attempt is planned.",
    "run.paused": "When a pause is accepted. What runs is left to end.",
    "run.resumed": "When a paused run goes on, by request or because its pause was over.",
    "run.cancelling": "When a cancellation is accepted. Running tasks are told with their next heartbeat.",
    "run.completed": "When the run ends. The last event of every log.",
    "entry.posted": "When an [entry](entries.md) is written: in the run's log if that is its scope, else in a log of the scope. "
    "With the end of a planned run's task, if it was not cancelled.",
    "entry.amended": "When it says something else from here on.",
    "entry.retracted": "When it counts no more.",
    "entry.erased": "When what it said was erased on demand. The facts before it say so as well, in `erased`.",
    "entry.leased": "When somebody took it off the board [for a time](entries.md#for-a-time), or prolonged that. Nothing tells "
    "that a lease lapsed.",
    "entry.returned": "When whoever held it for a time gave it back before the end.",
    "entry.taken": "When somebody took it off the board for good, at once or after having held it; nobody else has it.",
    "scope.compacted": "When facts that count no more were [taken out](entries.md#compaction) of the log of a scope that lasts, "
    "step by step; it has the place of the one before.",
    "agenda.activated": "With the entry that triggered capabilities, in the script that writes it; what one call has too many of "
    "follows with the next decisions.",
    "agenda.decided": "When [control](agenda.md) looked at the agenda of a run, with the tasks it picked.",
    "agenda.changed": "When somebody overruled the strategy.",
}

_MEANINGS: dict[type[BaseModel], dict[str, str]] = {
    events.RunAcceptedData: {
        "request": "What was asked: text, an object, or a CloudEvents event; `null` for a direct call.",
        "tenant": "Whose run it is.",
        "limits": "The bounds it was accepted with.",
    },
    events.RoundPlannedData: {
        "round": "Number of the round, from 1.",
        "calls": "What became of each tool call in the message, in its order; empty for a final answer.",
        "usage": "What asking the model consumed, repeated calls included.",
        "model": "The model as people read it; says so when it is scripted or recorded.",
    },
    events.TaskPostedData: {
        "task": "Id of the task, the same as the subject.",
        "kind": "`step` is a decision of the arbiter, `control` a look at the run's agenda.",
        "capability": "Name of the capability; `arbiter` for a step, `fabricator` for a fabrication.",
        "version": "Content hash of the version it is pinned to.",
        "lane": "The agenda it waits on.",
        "tool_use_id": "The model's call it came from; in a plan followed by `.` and the key.",
        "key": "Its name within the round, by which others refer to it.",
        "round": "The round that posted it; of a step, the round it is to decide; 0 for the task of a direct call.",
        "after": "Ids of the tasks it waits for.",
        "state": "`blocked` while it waits for others.",
        "input": "The input, references not yet resolved.",
    },
    events.TaskClaimedData: {
        "attempt": "Number of the attempt, from 1.",
        "worker": "Role, host, process and a part unique to the worker's start.",
        "fence": "The number that proves the claim; grows with every attempt.",
        "capability": "As posted.",
        "kind": "As posted.",
        "key": "As posted.",
        "version": "As posted.",
    },
    events.TaskRetriedData: {
        "attempt": "The attempt that ended.",
        "delay_ms": "Milliseconds until the next one is ready.",
        "error": "Why.",
    },
    events.FabricationStageData: {
        "stage": "One of the stages in [fabrication](fabrication.md#the-stages).",
        "outcome": "How the stage stands. `skipped` is not used so far.",
        "detail": "One line for people.",
        "seconds": "How long it took.",
        "usage": "What its model calls consumed.",
        "evidence": "What a repair or a person can use; never anything of a sealed case but numbers.",
    },
    events.TaskCancellingData: {"reason": "As given with the cancellation."},
    events.AgendaActivatedData: {
        "entry": "Id of the entry.",
        "entry_version": "What it said when it was compared with the triggers.",
        "topic": "Of the entry.",
        "confidence": "Of the entry.",
        "activations": "One for each trigger that fits.",
    },
    events.Activated: {
        "trigger": "Key of the trigger: which one of which version it is.",
        "capability": "Whose trigger it is.",
        "version": "Content hash of its version.",
        "lane": "Where its task will wait.",
        "priority": "As the trigger says.",
        "cost": "As the trigger says.",
        "seconds": "As the trigger says.",
        "state": "`stopped` when a loop guard did not let it wait.",
    },
    events.RatedActivation: {"number": "Of the activation.", "rating": "The higher, the sooner."},
    events.SetAside: {
        "number": "Of the activation.",
        "state": "`parked` until its precondition holds, or `obviated` for good.",
        "why": "In words.",
    },
    events.PickedActivation: {
        "number": "Of the activation.",
        "task": "Id of the task it became.",
        "rating": "By which it was picked.",
        "why": "In words.",
    },
    events.AgendaDecidedData: {
        "weights": "Of capabilities, as the strategy was given them.",
        "aside": "What must not be picked now, or ever.",
        "picked": "What became a task.",
    },
    events.AgendaChangedData: {
        "number": "Of the activation.",
        "change": "What was decided about it.",
        "rating": "The one it was given.",
        "by": "Who decided.",
        "reason": "In words.",
        "at_ms": "When, in milliseconds since the epoch on the server's clock.",
    },
    events.ApprovalAskedData: {
        "task": "Id of the task, the same as the subject.",
        "capability": "As posted; `ask_person` for a question.",
        "version": "As posted.",
    },
    events.ApprovalAnsweredData: {
        "task": "Id of the task, the same as the subject.",
    },
    events.CallbackWaitingData: {
        "task": "Id of the task, the same as the subject.",
        "attempt": "Number of the attempt, from 1.",
    },
    events.CallbackAnsweredData: {
        "task": "Id of the task, the same as the subject.",
        "attempt": "Number of the attempt, from 1.",
        "status": "Which of the two was said.",
    },
    events.RunPausedData: {"reason": "As given with the pause."},
    events.RunCancellingData: {"reason": "As given with the cancellation."},
    events.RunCompletedData: {
        "status": "How it ended.",
        "rounds": "Decisions taken.",
        "answer": "The model's final text, when it succeeded.",
        "error": "Why it did not succeed.",
    },
    events.EntryPostedData: {
        "topic": "Where it is found.",
        "content": "What it says.",
        "author": "Who wrote this fact.",
        "links": "What it says about older entries.",
    },
    events.EntryAmendedData: {
        "topic": "As posted.",
        "content": "What it says now.",
        "author": "Who wrote this fact.",
        "links": "What it says about older entries.",
    },
    events.EntryRetractedData: {
        "topic": "As posted.",
        "author": "Who wrote this fact.",
        "reason": "As given with the retraction.",
    },
    events.ScopeCompactedData: {
        "kept_upto": "Position of the newest fact that was looked at.",
        "kept_sha256": "The same sum, of those that were left.",
    },
    events.EntryLeasedData: {"topic": "As posted.", "author": "Who holds it."},
    events.EntryReturnedData: {"topic": "As posted.", "author": "Who held it."},
    events.EntryTakenData: {"topic": "As posted.", "author": "Who took it."},
    events.EntryErasedData: {"topic": "As posted.", "author": "Who had it erased.", "reason": "As given."},
    events.Author: {
        "task": "Id of the task that wrote.",
        "run": "Its run.",
        "attempt": "Which attempt at it.",
    },
    events.Link: {"rel": "What this entry is to the other."},
    events.Called: {
        "capability": "Name of the capability.",
        "priority": "0 to 9 among the waiting tasks of the tenant; higher first.",
    },
    events.Call: {
        "tool_use_id": "The model's id of the call.",
        "name": "The tool it named.",
        "valid": "False when nothing of it could be carried out.",
    },
    Completion: {
        "orchestration_id": "The run.",
        "tool_use_id": "The model's call.",
        "node": "The capability.",
        "status": "`succeeded`, `failed`, `refused`, `timed_out` or `cancelled`.",
        "data": "The result.",
        "error": "Why there is none; see [every way an attempt can end](capabilities.md#every-way-an-attempt-can-end).",
        "attempts": "How many there were.",
        "worker": "Who held the task last.",
        "usage": "What the attempt that ended it consumed; of a fabrication, all attempts but what `task.retried` has.",
        "stdout": "End of what generated code printed, at most 16,000 characters.",
        "stderr": "The same for its error output.",
    },
    Failure: {
        "type": "Stable word.",
        "message": "What happened, for people and for the planning model.",
        "retryable": "Whether another attempt may do better.",
        "evidence": "Details: traceback, line, captured output, counterexample.",
    },
    Usage: {
        "input_tokens": "Tokens sent to models.",
        "output_tokens": "Tokens they wrote.",
        "model_calls": "Calls, failed ones that had begun to answer included.",
        "seconds": "Wall-clock time.",
    },
    Limits: {
        "rounds": "Decisions of the model.",
        "tasks": "Tasks in all rounds, fabrications included, steps not.",
        "fabrications": "Capabilities asked for; one more is an invalid call and does not end the run.",
        "tokens": "Tokens of all rounds and tasks: a budget, and checked before and after each decision.",
        "seconds": "From acceptance to the end.",
    },
}
"""What fields mean that have no docstring of their own."""

_ENTRIES: dict[str, tuple[str, int, Any]] = {
    "run.accepted": (
        _RUN,
        1,
        {
            "request": "What do 12 boxes cost in yen?",
            "tenant": "default",
            "limits": Limits().model_dump(mode="json"),
            "pins": {},
            "taint": ["person"],
        },
    ),
    "round.planned": (
        _RUN,
        2,
        {
            "round": 1,
            "message": {
                "role": "assistant",
                "content": [
                    {"toolUse": {"toolUseId": "tooluse_0_0", "name": "price", "input": {"item": "box", "quantity": 12}}}
                ],
            },
            "calls": [{"tool_use_id": "tooluse_0_0", "name": "price", "tasks": [_TASK], "valid": True}],
            "usage": {"input_tokens": 812, "output_tokens": 64, "model_calls": 1, "seconds": 1.9},
            "model": "bedrock:us.amazon.nova-lite-v1:0",
            "pins": {"price": _SHA},
            "considered": ["price"],
            "taint": ["model:bedrock:us.amazon.nova-lite-v1:0", "person"],
            "matches": [
                {
                    "need": "Price of twelve boxes?",
                    "outcome": "use",
                    "chosen": ["price"],
                    "probability": 0.91,
                    "costs": {"ask": 0.5, "fabricate": 1.82, "use": 0.27},
                    "candidates": [{"name": "price", "score": 0.31, "reasons": ["price 3.9", "boxes (as item…) 1.1"]}],
                }
            ],
        },
    ),
    "task.posted": (
        _TASK,
        1,
        {
            "task": _TASK,
            "kind": "capability",
            "capability": "price",
            "version": _SHA,
            "lane": "local.price",
            "tool_use_id": "tooluse_0_0",
            "key": "price",
            "round": 1,
            "state": "ready",
            "deadline_ms": 1_763_725_300_000,
            "taint": ["model:bedrock:us.amazon.nova-lite-v1:0", "person"],
            "input": {"item": "box", "quantity": 12},
        },
    ),
    "task.ready": (_TASK, 4, None),
    "task.claimed": (
        _TASK,
        2,
        {
            "attempt": 1,
            "worker": _WORKER,
            "fence": "1763725000123456",
            "capability": "price",
            "kind": "capability",
            "key": "price",
            "version": _SHA,
        },
    ),
    "task.released": (_TASK, 3, None),
    "task.retried": (
        _TASK,
        3,
        {
            "attempt": 1,
            "delay_ms": 358,
            "error": {
                "type": "handler_error",
                "message": "TimeoutError: the price list did not answer",
                "retryable": True,
                "names": ["TimeoutError", "OSError", "Exception"],
            },
            "usage": {"seconds": 2.004},
        },
    ),
    "task.progressed": (_TASK, 5, {"rows": 250, "of": 543}),
    "fabrication.stage": (
        _MAKING,
        9,
        {
            "stage": "exam_public",
            "outcome": "failed",
            "detail": "1 of 3 public cases failed.",
            "round": 0,
            "seconds": 0.041,
            "evidence": {
                "failed": [{"case": "rounds half up", "kind": "wrong_result", "detail": "$.yen: expected 12, got 11"}]
            },
        },
    ),
    "task.completed": (
        _TASK,
        6,
        {
            "orchestration_id": _RUN,
            "tool_use_id": "tooluse_0_0",
            "node": "price",
            "status": "succeeded",
            "data": {"cents": 3000},
            "version": _SHA,
            "attempts": 2,
            "worker": _WORKER,
            "isolation": "inprocess",
            "taint": ["model:bedrock:us.amazon.nova-lite-v1:0", "person"],
            "usage": {"seconds": 0.0021},
        },
    ),
    "task.cancelling": (_TASK, 3, {"reason": "the price list is being corrected"}),
    "approval.asked": (
        _TASK,
        3,
        {
            "task": _TASK,
            "kind": "approval",
            "capability": "price",
            "version": _SHA,
            "input": {"boxes": 12},
            "until_ms": 1795593600000.0,
            "by": ["ann@desk"],
            "taint": ["model:bedrock:us.amazon.nova-lite-v1:0", "person"],
        },
    ),
    "approval.answered": (_TASK, 4, {"task": _TASK, "state": "refused", "by": "ann@desk", "text": "too many boxes"}),
    "callback.waiting": (
        _TASK,
        3,
        {"task": _TASK, "attempt": 1, "until_ms": 1795593600000.0, "heartbeat_seconds": 300.0},
    ),
    "callback.answered": (_TASK, 4, {"task": _TASK, "attempt": 1, "status": "succeeded", "by": "192.0.2.7 over http"}),
    "run.paused": (_RUN, 3, {"reason": "waiting for the new price list", "until_ms": 1795593600000.0}),
    "run.resumed": (_RUN, 4, {"deadline_ms": 1795597200000.0}),
    "run.cancelling": (_RUN, 3, {"reason": "cancelled from the command line"}),
    "run.completed": (_RUN, 4, {"status": "succeeded", "rounds": 2, "answer": "12 boxes cost 3000 cents."}),
    "entry.posted": (
        _ENTRY,
        1,
        {
            "topic": "claims.invoice.4711",
            "version": 1,
            "topic_version": 1,
            "author": _AUTHOR,
            "at_ms": 1763725000350,
            "content": {"amount": 120},
            "confidence": 0.9,
            "taint": ["http:shop.example"],
            "links": [{"rel": "contradicts", "to": f"{_RUN}/e/9f2c51d07a3b4e68c1d2a7f0"}],
        },
    ),
    "entry.amended": (
        _ENTRY,
        2,
        {
            "topic": "claims.invoice.4711",
            "version": 2,
            "topic_version": 2,
            "author": _AUTHOR,
            "at_ms": 1763725000400,
            "content": {"amount": 100},
            "confidence": 0.9,
            "supersedes": "1763725000350-000000",
        },
    ),
    "entry.retracted": (
        _ENTRY,
        3,
        {
            "topic": "claims.invoice.4711",
            "version": 3,
            "topic_version": 3,
            "at_ms": 1763725000450,
            "author": {"kind": "person", "name": "ada@desk"},
            "reason": "a mistake",
        },
    ),
    "entry.leased": (
        _ENTRY,
        2,
        {
            "topic": "todo.check",
            "version": 2,
            "topic_version": 2,
            "at_ms": 1763725000450,
            "author": _AUTHOR,
            "fence": 2,
            "until_ms": 1763725060450,
        },
    ),
    "entry.returned": (
        _ENTRY,
        3,
        {"topic": "todo.check", "version": 3, "topic_version": 3, "at_ms": 1763725000500, "author": _AUTHOR},
    ),
    "entry.taken": (
        _ENTRY,
        2,
        {"topic": "todo.check", "version": 2, "topic_version": 2, "at_ms": 1763725000450, "author": _AUTHOR},
    ),
    "scope.compacted": (
        "tenant:acme/compacted",
        3,
        {
            "number": 3,
            "readable_from": "1763724000100-000000",
            "boundary_ms": 1763724000150,
            "first": "1763700000000-000000",
            "last": "1763723000000-000000",
            "facts": 3,
            "entries": 1,
            "topics": {"claims.invoice.4711": {"posted": 1, "amended": 1, "retracted": 1}},
            "sha256": _SHA,
            "kept": 12,
            "kept_upto": "1763724000100-000000",
            "kept_sha256": _SHA,
        },
    ),
    "agenda.activated": (
        _AGENDA,
        1,
        {
            "entry": _ENTRY,
            "entry_version": 1,
            "topic": "claims.invoice.4711",
            "confidence": 0.9,
            "depth": 1,
            "at_ms": 1763725000350,
            "activations": [
                {
                    "number": 1,
                    "trigger": "9e1502b77c96",
                    "capability": "compare",
                    "version": _SHA,
                    "lane": "generic",
                    "priority": 5,
                    "cost": 1,
                    "serial": 1,
                    "state": "waiting",
                }
            ],
        },
    ),
    "agenda.decided": (
        _AGENDA,
        2,
        {
            "strategy": "priority",
            "strategy_version": "terms",
            "rated": [{"number": 1, "rating": 5.0, "success": 0.75}],
            "candidates": [{"number": 1, "rating": 5.0}],
            "waiting": 1,
            "room": 4,
            "picked": [
                {
                    "number": 1,
                    "task": f"{_RUN}/1.@1",
                    "rating": 5.0,
                    "why": "the highest rating by priority of those that may run",
                }
            ],
        },
    ),
    "agenda.changed": (
        _AGENDA,
        3,
        {"number": 2, "change": "block", "by": "ada@desk", "reason": "not before Monday", "at_ms": 1763725000450},
    ),
    "entry.erased": (
        _ENTRY,
        3,
        {
            "topic": "claims.invoice.4711",
            "version": 3,
            "topic_version": 3,
            "at_ms": 1763725000450,
            "author": {"kind": "person", "name": "ada@desk"},
            "reason": "asked for by the supplier",
        },
    ),
}

_HEAD = f"""\
# Events

Everything that happens to a run is an event, appended by the same script that makes the change. So the log of a run is at once
its progress, its audit trail and what its state is rebuilt from: the planner, `arbiter show` and the tests read nothing else.

This page is made from the models in `blackboard/events.py` by `docs/_generate_events.py`; a test fails when they differ.

## Where events are

A run's **log** holds its history with all data, for as long as the run is kept. The shard's **feed** names every event, adds
those that only matter while they happen ({{volatile}}), and keeps about the last
100,000; it tells readers that there is something to read. No run depends on the feed: a reader that missed it reads the log. Who
wants the events of all runs, and none left out, [subscribes](subscriptions.md).

```python
from arbiter import Arbiter, ScriptedModel

async with Arbiter("memory://events", ScriptedModel(["Hello."])) as a:
    async for event in a.stream("Say hello."):
        print(event.sequence, event.type, event.subject)
        last = event
    log = await a.board.history(last.run_id)

assert [event.kind for event in log] == [
    "run.accepted",
    "task.posted",
    "task.completed",
    "round.planned",
    "run.completed",
]
```

`stream` and `arbiter events --run RUN --follow` begin with the log, go on as events happen, and end after `run.completed`;
volatile events are in it from the moment one starts to listen. `history` and `arbiter events --run RUN` give the log alone.
`arbiter events --follow` without a run follows the whole board, best effort; a
[subscription](subscriptions.md) leaves nothing out.

## Envelope

[CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) in JSON, with the extensions
`sequence` and `partitionkey`. In a stream only `type`, `subject`, `id` and `data` are stored; the rest is put back on reading.

| attribute | value |
|---|---|
| `specversion` | `1.0` |
| `type` | `{events.PREFIX}<noun>.<verb>{events.SUFFIX}`; the part in the middle is `event.kind` and heads the sections below |
| `source` | the board: `/arbiter/<namespace>/<board>` |
| `subject` | in `run.*` and `round.*` the run's id, the entry's, the agenda's, else the task's, such as `<run>/<round>.<key>` |
| `id` | `<subject>:<version>`; the version counts the changes of the subject, so `source` and `id` identify the event |
| `time` | the server's clock, to the millisecond |
| `sequence` | position in the log, or in the feed for a volatile event; sorts as text |
| `partitionkey` | the run's id; of an entry outside of runs, its scope |
| `datacontenttype` | `application/json` |
| `data` | see below; `null` where nothing is listed |

**Order.** The log of a run is totally ordered by `sequence`. `stream` keeps volatile events in their place among those of the
log. Between runs, and between a log and the feed, `time` and `sequence` are only as good as the server's clock.

**Duplicates.** A log holds every event once. Whoever forwards events can drop repetitions by `source` and `id`.

**Changes.** Data may gain fields; a reader must ignore those it does not know. A field that changes its meaning makes a new type
(`….v2`).

The registry keeps a log of its own, `registered`, `examined`, `tried`, `activated` and `retired` for each version, which
`Registry.changes()` pages through. It is not part of any run.
"""


def data_schema(cls: type[Event]) -> dict[str, Any]:
    """JSON Schema of a type's data; one without a model takes any JSON, or none."""
    model = _data_model(cls)
    return model.model_json_schema() if model is not None else {}


def page() -> str:
    """The text of ``events.md``."""
    parts = [_HEAD.replace("{volatile}", ", ".join(f"`{kind}`" for kind in FEED_ONLY))]
    parts += [_section(kind, cls) for kind, cls in events.TYPES.items()]
    parts.append("## Shared types\n\nWhat fields above are made of.\n")
    parts += [f"### {model.__name__}\n\n{_summary(model)}\n\n{_table(model)}\n" for model in SHARED]
    return "\n".join(parts)


def _section(kind: str, cls: type[Event]) -> str:
    place = "feed only" if kind in FEED_ONLY else "log and feed"
    model = _data_model(cls)
    table = "Its data is what the handler reported, any JSON." if kind == "task.progressed" else "It has no data."
    if model is Completion:
        table = f"Its data is a [Completion](#completion).\n\n{_table(model)}"
    elif model is not None:
        table = _table(model)
    subject, version, data = _ENTRIES[kind]
    position = f"{1_763_725_000_123 + 40 * list(events.TYPES).index(kind)}-0"
    fields = {"type": kind, "subject": subject, "id": f"{subject}:{version}", "data": json.dumps(data)}
    event = events.parse(position, fields, _RUN, events.source("arbiter", "main"))
    example = json.dumps(event.model_dump(mode="json"), indent=2, ensure_ascii=False)
    when = f"**When:** {_WHEN[kind]} **Where:** {place}."
    return f"## `{kind}`\n\n{_summary(cls)}\n\n{when}\n\n{table}\n\n```json\n{example}\n```\n"


def _data_model(cls: type[Event]) -> type[BaseModel] | None:
    annotation = cls.model_fields["data"].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _summary(cls: type) -> str:
    """The docstring's first paragraph on one line."""
    text = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`").replace("Feed only.", "").strip()


def _table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    told = _told(model)
    given = _MEANINGS.get(model, {})
    assert not set(given) & set(told), f"{model.__name__} documents {set(given) & set(told)} itself by now"
    assert set(given) | set(told) == set(schema["properties"]), (
        f"meanings of {model.__name__} are missing or superfluous"
    )
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else f"`{_default(model, name)}`"
        rows.append(f"| `{name}` | {_kind(field)} | {default} | {(told | given)[name]} |")
    return "\n".join(rows)


def _default(model: type[BaseModel], name: str) -> str:
    value = model.model_fields[name].get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "{}"
    return json.dumps(value)


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2].removeprefix("Stored")
        if name == "JsonValue":
            return "any JSON"
        return "string" if name == "Status" else f"[{name}](#{name.lower()})"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    match field.get("type"):
        case "array":
            return f"list of {_kind(field['items'])}"
        case "object":
            inner = field.get("additionalProperties")
            return f"object of {_kind(inner)}" if isinstance(inner, dict) and _kind(inner) != "any JSON" else "object"
        case str() as word:
            return word
        case _:
            return "any JSON"


def _told(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings below the fields say, of a model and those it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                said = inspect.cleandoc(str(below.value.value))
                found[field.target.id] = " ".join(said.split()).replace("``", "`").replace("|", "\\|")
    return found


if __name__ == "__main__":
    (Path(__file__).parent / "events.md").write_text(page(), encoding="utf-8")
