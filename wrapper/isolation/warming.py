"""What a process that is to run code has imported before it has any: so that the code need not pay for it."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence

_ALWAYS = (
    "asyncio",
    "inspect",
    "traceback",
    "linecache",
    "concurrent.futures",
    "wrapper.isolation.hotload",
    "wrapper.sdk",
)


def warm(names: Sequence[str]) -> None:
    """Import what every run uses, and further modules by name.

    Raises:
        RuntimeError: one of them started a thread.
    """
    for name in (*_ALWAYS, *names):
        importlib.import_module(name)
    if "strands" in sys.modules:
        importlib.import_module("wrapper.isolation.brokered_model")
    alone = threading.active_count() == 1
    try:
        alone = alone and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        pass
    if not alone:
        raise RuntimeError(f"preloading {list(names)} started a thread; a forked child could deadlock")
