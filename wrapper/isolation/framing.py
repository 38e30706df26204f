"""Frames of the private channel: 4-byte big-endian length, then one strict UTF-8 JSON object.

Both ends use this file, so it imports the standard library only. Strict means: no NaN or Infinity, no lone surrogates,
string keys, none of them twice, bounded depth. What cannot be said strictly is refused by the sender and is a violation for
the receiver.
"""

from __future__ import annotations

import json
import math
import struct
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
OPEN_CALLS = 4
"""Calls a child may have unanswered at once."""
READY = b"R"
"""Said by a child that is locked down and waits for its job."""
VERSION = 1

_INTEGER_BITS = 14_000  # below the 4,300 digits where CPython refuses to convert between text and int


class NotJson(ValueError):
    """A value has no strict JSON form. ``path`` says where (``$.rows[3].total``), ``reason`` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class Violation(ValueError):
    """The other end broke the protocol."""


_Path = tuple["_Path | None", "str | int"]


def _text(path: _Path | None) -> str:
    parts: list[str] = []
    while path is not None:
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step[:80]}")
    return "$" + "".join(reversed(parts)).encode("utf-8", "replace").decode()


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


def check(value: object, depth: int = DEPTH) -> None:
    """Refuse what strict JSON cannot say; iterative, so that depth cannot exhaust the stack.

    Raises:
        NotJson: with the place and the reason.
    """
    stack: list[tuple[object, _Path | None, int]] = [(value, None, 0)]
    while stack:
        item, path, level = stack.pop()
        if isinstance(item, dict):
            pairs = cast("dict[object, object]", item).items()
        elif isinstance(item, list | tuple):
            pairs = enumerate(cast("list[object]", item))
        else:
            if reason := _scalar(item):
                raise NotJson(_text(path), reason)
            continue
        if level >= depth:
            raise NotJson(_text(path), f"nested deeper than {depth} levels")
        for key, child in pairs:
            if not isinstance(key, str | int) or (isinstance(item, dict) and not isinstance(key, str)):
                raise NotJson(_text(path), f"key {key!r:.80} is {type(key).__name__}; keys must be str")
            if isinstance(key, str) and (reason := _scalar(key)):
                raise NotJson(_text(path), reason)
            if isinstance(child, dict | list | tuple):
                stack.append((cast(object, child), (path, key), level + 1))
            elif reason := _scalar(child):
                raise NotJson(_text((path, key)), reason)


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
