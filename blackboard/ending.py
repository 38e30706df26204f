"""Ending tasks for certain.

One cancellation is not enough for code that waits in ``asyncio.wait_for``, as that of a user or of a library may: before
Python 3.12 it drops a cancellation that arrives in the instant in which what it waits for has ended
(python/cpython#86296). A loop that lives on such code would go on for ever, and whoever waits for its end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again and again until each has ended. What they raise is dropped."""
    going = set(tasks)
    while going:
        for task in going:
            task.cancel()
        ended, going = await asyncio.wait(going, timeout=_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()
