"""How do the binary parts of a message travel as JSON?

Conversations are stored as JSON, while Bedrock shapes carry raw bytes in images, documents and redacted reasoning.
Bytes become ``{"$bytes": "<base64>"}`` on the way to storage and bytes again on the way to a model.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, cast

_MARK = "$bytes"


def pack(value: Any) -> Any:
    """A copy of ``value`` with every bytes object replaced by its JSON form."""
    if isinstance(value, bytes | bytearray):
        return {_MARK: base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {key: pack(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [pack(item) for item in cast("Sequence[Any]", value)]
    return value


def unpack(value: Any) -> Any:
    """A copy of ``value`` with every packed bytes object restored; the inverse of :func:`pack`."""
    if type(value) is str:  # nearly everything of a long conversation, which is copied for every call
        return value
    if type(value) is dict or isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value)
        if len(items) == 1 and isinstance(items.get(_MARK), str):
            return base64.b64decode(items[_MARK])
        return {key: unpack(item) for key, item in items.items()}
    if type(value) is list or (isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)):
        return [unpack(item) for item in cast("Sequence[Any]", value)]
    return value
