"""Does an input or a result fit its schema? Asked so that neither can hold up whoever asks.

What a check may cost is bounded, whatever schema and value are; see :mod:`registry.bounds`. Megabytes take seconds all the
same, so they are looked at beside the event loop.
"""

from __future__ import annotations

import asyncio
from itertools import islice

from pydantic import JsonValue

from registry import Manifest, validate_input, validate_output

_FEW = 2_000
_CHARACTERS = 100
"""Characters of a text that count as one value."""


async def unfit(manifest: Manifest, value: JsonValue) -> list[str]:
    """How an input differs from the input schema; empty when it fits."""
    return (
        await asyncio.to_thread(validate_input, manifest, value) if _large(value) else validate_input(manifest, value)
    )


async def misfits(manifest: Manifest, value: JsonValue) -> list[str]:
    """How a result of isolated code differs from the output schema; empty when it fits."""
    if manifest.output_schema is not None and _large(value):
        return await asyncio.to_thread(validate_output, manifest, value)
    return validate_output(manifest, value)


def _large(value: JsonValue) -> bool:
    """Whether it has more than a few thousand values, or texts as long; looks at no more than that."""
    left, inner = _FEW, [value]
    while inner and left > 0:
        one = inner.pop()
        if isinstance(one, str):
            left -= len(one) // _CHARACTERS
        elif isinstance(one, list | dict):
            members = list(islice(one.values() if isinstance(one, dict) else one, left))
            left -= len(members)
            inner += [each for each in members if isinstance(each, list | dict | str)]
            if isinstance(one, dict):
                left -= sum(map(len, islice(one, len(members)))) // _CHARACTERS
    return left <= 0
