"""The whole life of an interpreter that was started for one attempt, where a loaded one cannot be forked safely.

It is confined from its first instruction by whoever started it, imports what a run needs, gives up the rest and is then a
child like any other, see :mod:`wrapper.isolation.child`. Runs generated code, so nothing here may hold anything worth stealing.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from wrapper.isolation import child, model_seam
from wrapper.isolation.lockdown import Walls
from wrapper.isolation.warming import warm


def main() -> NoReturn:
    """Entry point: ``argv[1]`` is the descriptor of the channel, ``argv[2]`` the settings."""
    channel = int(sys.argv[1])
    try:
        settings = json.loads(sys.argv[2])
        sys.argv[:] = ["capability"]
        os.umask(0o077)
        walls = Walls.make("seatbelt", frozenset(settings["without"]), [], None)
        model_seam.install()
        warm(settings["preload"])
    except Exception as error:
        # Reported to the host as the reason there is no isolation, then this process ends.
        os.write(channel, f"!{type(error).__name__}: {error}".encode("utf-8", "replace")[:500])
        os._exit(1)
    child.live(channel, 1, 2, settings["directory"], walls, settings["host"])
