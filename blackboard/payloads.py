"""Sizes and shapes of what is put on the board: JSON that can be read back, within stated bounds."""

from __future__ import annotations

import hashlib
import json
import math
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


_SURE_LEVELS = 100
"""As deep as this JSON can be read back for certain."""


def dump(value: Any, field: str, limit: int) -> str:
    """Compact JSON of a value.

    Raises:
        BadInput: not JSON (NaN and Infinity included), or JSON that could not be read back: half a surrogate pair,
            more than about 200 levels. One such event would make the whole log unreadable.
        Oversized: larger than ``limit`` bytes.
    """
    try:
        text = _COMPACT.encode(value)
        if not _plain(text):
            from_json("[" * _ENVELOPE_LEVELS + text + "]" * _ENVELOPE_LEVELS)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(field, type(value).__name__, f"It must be JSON: {error}.") from error
    return _no_longer(text, field, limit)


def _no_longer(text: str, field: str, limit: int) -> str:
    if len(text) > limit:
        raise Oversized(
            field,
            f"{len(text):,} bytes",
            f"At most {limit:,} bytes are taken; keep larger data elsewhere and pass its URL.",
        )
    return text


def _plain(text: str) -> bool:
    """Whether JSON is certain to be read back without trying: no half of a surrogate pair is in it, and it can't be too deep."""
    return "\\ud" not in text and text.count("[") + text.count("{") <= _SURE_LEVELS


def dump_completion(claim: Claim, completion: Completion) -> tuple[str, str]:
    """The completion as it is stored, without its data, and the data. :func:`join` puts them together.

    Whose it is, is the claim's to say and not the handler's.
    """
    taint = merged(claim.taint, completion.taint)
    given = (
        completion.orchestration_id,
        completion.tool_use_id,
        completion.node,
        completion.attempts,
        completion.worker,
    )
    own = (claim.run_id, claim.tool_use_id, claim.capability, claim.attempt, claim.worker)
    if given != own or completion.taint != taint:
        named = ("orchestration_id", "tool_use_id", "node", "attempts", "worker")
        completion = completion.model_copy(update=dict(zip(named, own, strict=True)) | {"taint": taint})
    data = dump(completion.data, "completion.data", PAYLOAD_BYTES)
    # Of what a handler wrote itself only these can hold what could not be read back.
    if completion.error or completion.stdout or completion.stderr or not math.isfinite(completion.usage.seconds):
        said = completion.model_dump(mode="json", exclude_defaults=True, exclude=_APART)
        if (error := said.pop("error", None)) is not None:
            # The message stands last, so that the script that decides can add to it why no attempt follows.
            message = error.pop("message")
            said["error"] = {**error, "message": message}
        return dump(said, "completion", REPORT_BYTES), data
    fields = completion.model_dump_json(exclude_defaults=True, exclude=_APART)
    return _no_longer(fields, "completion", REPORT_BYTES), data


def join(fields: str, name: str, value: str) -> str:
    """JSON of an object with one more member, given as JSON, which is not read."""
    return f'{{"{name}":{value},{fields[1:]}'


def fingerprint(request: JsonValue) -> str:
    """Hash of what a request says, whatever order its fields were written in."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
