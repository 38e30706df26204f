"""Whether an entry means what a trigger waits for: judged once, when the activation comes, before anything rates it.

What an entry means no script can tell, so the script that writes it makes the activation of every trigger whose topic and
conditions it fits, and control, whose task stands until it was done, drops those that it does not mean. The score depends on
the entry and on the question alone, so whoever judges, and whenever, comes to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from blackboard.activation import Activation
from blackboard.entries import Entries
from blackboard.meaning import Meaning
from blackboard.triggers import LEAST, Trigger


async def judge(
    meaning: Meaning, entries: Entries, some: Sequence[tuple[Activation, Trigger]]
) -> dict[int, tuple[float | None, str]]:
    """Of each activation whose trigger asks for a meaning: the score, and why it comes to nothing, empty where it does not.

    Args:
        meaning: ranks by the encoder of the matcher where it has one, else by words.
        entries: those of the run.

    Raises:
        ModelUnavailable: the encoder cannot be reached.
    """
    found: dict[int, tuple[float | None, str]] = {}
    by_entry: dict[str, list[tuple[Activation, Trigger]]] = {}
    for one, trigger in some:
        if trigger.about:
            by_entry.setdefault(one.entry, []).append((one, trigger))
    for entry_id, waiting in by_entry.items():
        entry = await entries.read(entry_id, load=False)
        if entry is None or not entry.counts:
            why = f"its entry is {entry.state if entry else 'gone'}"
            found |= {one.number: (None, why) for one, _ in waiting}
            continue
        abouts = list(dict.fromkeys(trigger.about for _, trigger in waiting))
        scores = dict(
            zip(abouts, await asyncio.to_thread(meaning.scores, entry.topic, entry.content, abouts), strict=True)
        )
        for one, trigger in waiting:
            score = round(scores[trigger.about], 4)
            least = LEAST if trigger.least is None else trigger.least
            why = ""
            if entry.said_version != one.entry_version:
                why = f"its entry was amended since; version {entry.said_version} makes activations of its own"
            elif score < least:
                why = f"what it says answers by {score:.2f} to {trigger.about!r}, and at least {least:g} is asked"
            found[one.number] = (score, why)
    return found
