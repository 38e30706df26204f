"""Sizes and shapes of what is put on the board: JSON that can be read back, within stated bounds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from blackboard.claims import Claim
from blackboard.errors import BadInput, Oversized
from blackboard.taint import merged
from blackboard.types import Completion

PAYLOAD_BYTES = 64 * 1024 * 1024
"""Largest request, input, result and checkpoint, as JSON. What is larger than a board's ``inline_bytes`` is stored apart."""
REPORT_BYTES = 1024 * 1024
"""Largest report of a running attempt, and most of a completion beside its result, as JSON."""
STEP_BYTES = 8 * 1024 * 1024
"""Largest message of a model, and largest answer, as JSON."""
# A value that contains itself is too deep, like any other that is: looking for it at each level would take a fifth of the time.
_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_APART = {"data"}
_ENVELOPE_LEVELS = 8
"""How deep events and models put a value into others."""


def dump(value: Any, field: str, limit: int) -> str:
    """Compact JSON of a value.

    Raises:
        BadInput: not JSON (NaN and Infinity included), or JSON that could not be read back: half a surrogate pair,
            more than about 200 levels. One such event would make the whole log unreadable.
        Oversized: larger than ``limit`` bytes.
    """
    return _bounded(value, field, limit, read_back=True)


def _bounded(value: Any, field: str, limit: int, *, read_back: bool) -> str:
    try:
        text = _COMPACT.encode(value)
        if read_back:
            from_json("[" * _ENVELOPE_LEVELS + text + "]" * _ENVELOPE_LEVELS)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(field, type(value).__name__, f"It must be JSON: {error}.") from error
    if len(text) > limit:
        raise Oversized(
            field,
            f"{len(text):,} bytes",
            f"At most {limit:,} bytes are taken; keep larger data elsewhere and pass its URL.",
        )
    return text


def dump_completion(claim: Claim, completion: Completion) -> tuple[str, str]:
    """The completion as it is stored, without its data, and the data. :func:`join` puts them together.

    Whose it is, is the claim's to say and not the handler's.
    """
    own: dict[str, Any] = {
        "orchestration_id": claim.run_id, "tool_use_id": claim.tool_use_id, "node": claim.capability,
        "attempts": claim.attempt, "worker": claim.worker, "taint": [*merged(claim.taint, completion.taint)],
    }  # fmt: skip
    said = completion.model_dump(mode="json", exclude_none=True, exclude=_APART)
    data = dump(completion.data, "completion.data", PAYLOAD_BYTES)
    if (error := said.pop("error", None)) is not None:
        # The message stands last, so that the script that decides can add to it why no attempt follows.
        message = error.pop("message")
        own["error"] = {**error, "message": message}
    # Of what a handler wrote itself only these can hold what could not be read back.
    told = bool(error or completion.stdout or completion.stderr)
    return _bounded(said | own, "completion", REPORT_BYTES, read_back=told), data


def join(fields: str, name: str, value: str) -> str:
    """JSON of an object with one more member, given as JSON, which is not read."""
    return f'{{"{name}":{value},{fields[1:]}'


def fingerprint(request: JsonValue) -> str:
    """Hash of what a request says, whatever order its fields were written in."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
