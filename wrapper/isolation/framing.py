"""Frames of the private channel: 4-byte big-endian length, then one strict UTF-8 JSON object.

Both ends use this file, so it imports the standard library only. Strict means: no NaN or Infinity, no lone surrogates,
string keys, none of them twice, bounded depth. What cannot be said strictly is refused by the sender and is a violation for
the receiver.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import NoReturn, cast

HEADER = struct.Struct(">I")
REQUEST_BYTES = 4 << 20
"""Largest ``run`` frame."""
CALL_BYTES = 1 << 20
"""Largest ``call`` frame."""
RETURN_BYTES = 4 << 20
"""Largest ``ret`` frame."""
RESULT_BYTES = 8 << 20
"""Largest encoded result; its frame may be :data:`ENVELOPE_BYTES` larger."""
ENVELOPE_BYTES = 64 << 10
DEPTH = 64
"""Deepest nesting of a value."""
CONTAINERS = 500_000
"""Most lists and objects of one frame: an empty one takes two bytes here and eighty where it is read."""
OPEN_CALLS = 4
"""Calls a child may have unanswered at once."""
READY = b"R"
"""Said by a child that is locked down and waits for its job."""
CALLS = 10_000
"""Calls of one run in all."""
CALLS_BYTES = 256 << 20
"""Bytes of all calls of one run."""
VERSION = 1

_CROWDED = f"more than {CONTAINERS:,} lists and objects"
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or what begins like one and never ends: it always matches to somewhere, so no byte is looked at twice."""
_INTEGER_BITS = 14_000  # below the 4,300 digits where CPython refuses to convert between text and int


class NotJson(ValueError):
    """A value has no strict JSON form. ``path`` says where (``$.rows[3].total``), ``reason`` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class Violation(ValueError):
    """The other end broke the protocol."""


def _text(path: Sequence[str | int | None]) -> str:
    parts = [f"[{step}]" if isinstance(step, int) else f".{step[:80]}" for step in path if step is not None]
    return "$" + "".join(parts).encode("utf-8", "replace").decode()


def _scalar(value: object) -> str | None:
    """Why a scalar cannot be said, or None when it can."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return "text holds a lone surrogate"
        return None
    if isinstance(value, int):
        return "integer is too long" if value.bit_length() > _INTEGER_BITS else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not JSON"
    return f"{type(value).__name__} is not JSON"


def _members(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, dict):
        return iter(cast("dict[object, object]", value).items())
    return enumerate(cast("list[object]", value))


def check(value: object, depth: int = DEPTH) -> None:
    """Refuse what strict JSON cannot say; iterative, so that depth cannot exhaust the stack.

    Raises:
        NotJson: with the place and the reason.
    """
    if not isinstance(value, dict | list | tuple):
        if reason := _scalar(value):
            raise NotJson("$", reason)
        return
    # Where it is: the members of each value that is open, and the last key of each.
    stack: list[Iterator[tuple[object, object]]] = [_members(cast(object, value))]
    keys: list[str | int | None] = [None]
    objects, held = [isinstance(value, dict)], 1
    while stack:
        for key, child in stack[-1]:
            if not isinstance(key, str | int) or (objects[-1] and not isinstance(key, str)):
                raise NotJson(_text(keys[:-1]), f"key {key!r:.80} is {type(key).__name__}; keys must be str")
            if isinstance(key, str) and (reason := _scalar(key)):
                raise NotJson(_text(keys[:-1]), reason)
            if isinstance(child, dict | list | tuple):
                keys[-1] = key
                held += 1
                if len(stack) >= depth:
                    raise NotJson(_text(keys), f"nested deeper than {depth} levels")
                if held > CONTAINERS:
                    raise NotJson("$", _CROWDED)
                stack.append(_members(cast(object, child)))
                objects.append(isinstance(child, dict))
                keys.append(None)
                break
            if reason := _scalar(child):
                keys[-1] = key
                raise NotJson(_text(keys), reason)
        else:
            stack.pop()
            objects.pop()
            keys.pop()


def _crowded(body: bytes) -> bool:
    """Whether a body holds more lists and objects than are taken; told before it is parsed, in time linear in its size."""
    if body.count(b"[") + body.count(b"{") <= CONTAINERS:
        return False
    bare = _STRING.sub(b"", body)
    return bare.count(b"[") + bare.count(b"{") > CONTAINERS


def encode(value: object, depth: int = DEPTH) -> bytes:
    """Strict JSON bytes of a value, without a frame.

    Raises:
        NotJson: the value has no strict JSON form.
    """
    check(value, depth)
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson("$", str(error)) from error


def frame(body: bytes) -> bytes:
    """A body with its length in front."""
    return HEADER.pack(len(body)) + body


def _constant(text: str) -> NoReturn:
    raise Violation(f"{text} is not JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Whoever reads such an object takes another member of it for the one that counts.
        raise Violation("an object has a key twice")
    return found


def decode(body: bytes) -> dict[str, object]:
    """The JSON object in a frame's body.

    Raises:
        Violation: not strict UTF-8 JSON, not an object, a key twice, or too deep.
    """
    if _crowded(body):
        raise Violation(_CROWDED)
    try:
        value: object = json.loads(body.decode("utf-8"), parse_constant=_constant, object_pairs_hook=_object)
        check(value, DEPTH + 4)
    except Violation:
        raise
    except (ValueError, RecursionError) as error:
        raise Violation(f"frame is not strict JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise Violation("frame is not a JSON object")
    return cast("dict[str, object]", value)
