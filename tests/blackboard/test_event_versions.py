"""Events written by a later version are read by this one."""

from __future__ import annotations

import json

from blackboard import events


def test_fields_a_later_version_added_are_ignored_at_every_depth() -> None:
    completion = {
        "orchestration_id": "r", "tool_use_id": "t", "node": "n", "status": "failed", "novelty": 1,
        "error": {"type": "x", "message": "m", "novelty": 2}, "usage": {"input_tokens": 3, "novelty": 4},
    }  # fmt: skip
    fields = {"type": "task.completed", "subject": "r/1.a", "id": "r/1.a:3", "data": json.dumps(completion)}
    event = events.parse("1-0", fields, "r", "/arbiter/x/y")
    assert event.data.usage.input_tokens == 3
    assert event.data.error.type == "x"
    assert str(event) == "task.completed r/1.a"
    assert repr(event).startswith("TaskCompleted(specversion='1.0'")
    accepted = {"request": "x", "tenant": "t", "limits": {"rounds": 3, "novelty": 5}, "novelty": 6}
    fields = {"type": "run.accepted", "subject": "r", "id": "r:1", "data": json.dumps(accepted)}
    assert events.parse("2-0", fields, "r", "/arbiter/x/y").data.limits.rounds == 3
