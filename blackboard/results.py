"""What the tasks of a planned run come to, as entries on the run's board.

The script that ends such a task writes the entry: on ``results.<capability>.<key>`` what it returned, on
``failures.<capability>.<key>`` why it did not. A result that is stored apart is referred to and not stored once more. Whoever
reports a result says what the script cannot: which part of the completion it is, its hash, and which triggers it fits.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING

from pydantic import JsonValue

from blackboard.plan import entry_name
from blackboard.sealing import digest
from blackboard.taint import Taint, merged
from blackboard.types import Completion, Status

if TYPE_CHECKING:
    from blackboard.claims import Claim

RESULTS = "results"
"""First word of the topics of what succeeded."""
FAILURES = "failures"
"""First word of the topics of what did not. A task that was cancelled has no entry."""
INLINE_BYTES = 128 * 1024
"""Largest result that stands both in the completion and in its entry; a larger one is stored apart, once."""
_BEFORE = len('{"data":')


def result_entry(run_id: str, task_id: str) -> str:
    """Id of the entry that a task's end becomes, if it becomes one."""
    return f"{run_id}/e/{entry_name(task_id)}"


def topic(claim: Claim, completion: Completion) -> str:
    """Of the entry that this end of a task becomes."""
    first = RESULTS if completion.status is Status.SUCCEEDED else FAILURES
    return named(first, claim.capability, claim.key)


def named(first: str, capability: str, key: str) -> str:
    """The topic of what a task with this key comes to."""
    return f"{first}.{_word(capability)}.{_word(key)}"


def content(completion: Completion) -> JsonValue:
    """Of the entry that this end of a task becomes."""
    if completion.status is Status.SUCCEEDED:
        return completion.data
    error = completion.error
    told: dict[str, JsonValue] = {"type": error.type, "message": error.message} if error else {"type": "unspecified"}
    return {"status": completion.status.value, "error": told}


def report(claim: Claim, completion: Completion, data: str) -> list[str]:
    """What the script is told besides: facts about the entry, and its content or where in the completion that stands.

    Args:
        data: the result as it is stored, at the beginning of the completion; ``null`` where there is none.
    """
    if not claim.entry or completion.status is Status.CANCELLED:
        return []
    where = f"@{_BEFORE + 1} {_BEFORE + len(data)}"
    if completion.status is not Status.SUCCEEDED:
        where = data = json.dumps(content(completion))
    elif data == "null":
        where = data
    return [_facts(data, merged(claim.taint, completion.taint)), where]


def succeeded(data: str, sources: Taint) -> list[str]:
    """The same of a result that nobody reports: the completion begins with it."""
    return [_facts(data, sources), f"@{_BEFORE + 1} {_BEFORE + len(data)}"]


def _facts(data: str, sources: Taint) -> str:
    salt = secrets.token_hex(16)
    facts: dict[str, JsonValue] = {"conf": 1, "salt": salt, "sha256": digest(salt, json.loads(data))}
    if sources:
        facts["taint"] = [*sources]
    return json.dumps(facts)


def _word(text: str) -> str:
    """A part of a topic, as the script makes it of the same text."""
    return re.sub(rb"[^A-Za-z0-9_-]", b"_", text.encode())[:64].decode()
