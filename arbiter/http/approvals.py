"""Tasks that wait for a person."""

from __future__ import annotations

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response

from arbiter.http import operating_answers as answers
from arbiter.http.access import LOCAL
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from blackboard.approvals import MOST_TEXT
from blackboard.audit import somebody
from blackboard.taint import PERSON
from blackboard.types import Record


class TaskApproval(Record):
    arguments: dict[str, JsonValue] | None = None
    """What the task is to be given instead of what was asked about."""


class TaskRefusal(Record):
    reason: str = Field(default="", max_length=MOST_TEXT)


class TaskAnswer(Record):
    answer: str = Field(min_length=1, max_length=MOST_TEXT)


@gives(Answer(answers.WaitingTasks))
async def listing(asked: Asked) -> Response:
    """What waits for an answer."""
    found = await asked.client.approvals.list(tenant=asked.token.tenant)
    return JSONResponse({"waiting": [each.model_dump(mode="json") for each in found]})


@gives(Answer(answers.TaskArguments))
async def arguments(asked: Asked) -> Response:
    """All that one task is given."""
    given = await asked.client.approvals.arguments(asked.path("task"), tenant=asked.token.tenant)
    return JSONResponse({"arguments": given})


@takes(TaskApproval, Answer(answers.TaskState))
async def approve(asked: Asked, said: TaskApproval) -> Response:
    """Let a task be done."""
    by, source = _who(asked)
    task = await asked.client.approvals.approve(
        asked.path("task"), arguments=said.arguments, tenant=asked.token.tenant, by=by, source=source
    )
    return JSONResponse({"task_id": task, "state": "approved"})


@takes(TaskRefusal, Answer(answers.TaskState))
async def refuse(asked: Asked, said: TaskRefusal) -> Response:
    """Refuse a task, or to answer."""
    by, _ = _who(asked)
    task = await asked.client.approvals.refuse(asked.path("task"), reason=said.reason, tenant=asked.token.tenant, by=by)
    return JSONResponse({"task_id": task, "state": "refused"})


@takes(TaskAnswer, Answer(answers.TaskState))
async def answer(asked: Asked, said: TaskAnswer) -> Response:
    """Answer what a planning model asks."""
    by, source = _who(asked)
    task = await asked.client.approvals.answer(
        asked.path("task"), said.answer, tenant=asked.token.tenant, by=by, source=source
    )
    return JSONResponse({"task_id": task, "state": "answered"})


def _who(asked: Asked) -> tuple[str, str]:
    """Who answers, named as terms of an approval name them, and the source of what they say."""
    if asked.token.id == LOCAL:
        return somebody(), PERSON
    name = f"token:{asked.token.name}"
    return name, name
