"""Garbage collection in a process that works on many tasks for long."""

from __future__ import annotations

import gc

_OBJECTS = 10_000
"""How many more objects there are, beside those given back, before the youngest are looked at; Python has 700."""


def long_lived() -> None:
    """Look for cycles less often from now on, and no more among what is there already. For the program, not for a library.

    Some fifty objects come and go with an attempt and none of them in a cycle. Those of one claim alone are more than 700, so
    the collector looked at work in progress over and over, and now and then at every module: a tenth of an attempt's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
