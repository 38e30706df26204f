"""What the tests of compaction share."""

from __future__ import annotations

from typing import Any

from strict import Play

from blackboard.compaction import Compaction, compact
from blackboard.entries import Entries
from blackboard.sealing import verify


async def log(notes: Entries) -> list[tuple[str, dict[str, str]]]:
    client: Any = notes.board.client
    return await client.xrange(notes.log_key)


async def sizes(notes: Entries) -> list[int]:
    """How much is in the tables of a scope: headers, versions of topics, operations."""
    client: Any = notes.board.client
    keys = notes.board.shard_of(notes.owner).entries(notes.owner)[:3]
    return [await client.hlen(key) for key in keys]


async def some(play: Play, notes: Entries) -> dict[str, str]:
    """Entries in every state; id of each by what becomes of it."""
    found: dict[str, str] = {}
    for name in ("live", "amended", "retracted", "taken", "expired", "lasting"):
        seconds = {"expired": 5.0, "lasting": 5000.0}.get(name)
        found[name] = (await notes.post(f"a.{name}", {"says": name}, seconds=seconds)).id
    for number in range(3):
        await notes.amend(found["amended"], {"says": f"amended {number}"})
    await notes.retract(found["retracted"], "wrong")
    assert (await notes.take("a.taken")) is not None
    await play.clock.advance(10)
    return found


async def compacted(play: Play, notes: Entries, **how: Any) -> Compaction:
    """Compact all there is, unless a test says otherwise."""
    done = await compact(play.board, notes.scope, **{"older_than": 0.0, **how})
    await play.sound()
    found = await verify(notes)
    assert found.faults == ()
    assert found.readable_from == done.readable_from
    return done
