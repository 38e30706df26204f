"""How the tasks of a version ended: since it was registered, and lately. Counted by the script that ends them.

A success costs nothing beyond its count. With each failure of a version's own doing the board keeps how many tasks had succeeded
until then, for the latest :data:`WINDOW` of them: between two failures lie as many successes as the two numbers differ, so
the order of the latest tasks is known to the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

OWN = frozenset(
    (
        *(
            "syntax_error",
            "import_error",
            "missing_handler",
            "signature_mismatch",
            "handler_error",
            "exited",
            "crashed",
        ),
        *("timeout", "not_json", "result_too_large", "output_schema", "topic_schema", "protocol"),
    )
)
"""Errors that speak against code. Of others somebody else may be the cause: who called it, a model, a budget, a peer, a process
that died, work that waited too long. While one of those is down, whatever needs it fails, and none of it is worse than before."""
WINDOW = 50
"""How many of the latest tasks of a version are the recent ones. ``_board.lua`` keeps as many failures."""


class Ended(NamedTuple):
    """Tasks of a version that say something about its code."""

    succeeded: int = 0
    failed: int = 0
    """Those that ended by its own doing, see :data:`OWN`."""
    lately_succeeded: int = 0
    """Of the latest ones, as many as :data:`WINDOW`."""
    lately_failed: int = 0


def together(counts: Sequence[tuple[str | None, str | None]]) -> Ended:
    """What the shards of a board counted for a version.

    Args:
        counts: of each shard, how many succeeded, and what it knows of failures: how many, then for each of the latest how many
            had succeeded until then.
    """
    read = [(int(succeeded or 0), [int(each) for each in (failures or "0").split()]) for succeeded, failures in counts]
    # Runs are spread evenly, so of each shard its part of the window is about as recent as that of any other.
    part = -(-WINDOW // max(1, len(read)))
    good = bad = 0
    for succeeded, (_, *at) in read:
        left, until = part, succeeded
        for one in reversed(at):
            good += (run := min(left, max(0, until - one)))
            left -= run
            if not left:
                break
            bad, left, until = bad + 1, left - 1, one
        else:
            good += min(left, until)
    return Ended(sum(one for one, _ in read), sum(failures[0] for _, failures in read), good, bad)
