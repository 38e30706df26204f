"""How soon is an entry seen by others, and what does finding one cost among many?

*Watch*: one process posts entries, another watches their topic; timed from just before the post until the watcher has the entry,
on the clock both share. Held against the barest way to tell another process, ``XADD`` and a blocking ``XREAD``.

*Query*: by topic, by a pattern, by a condition on the content and by meaning, among some and among many live entries. Held
against reading the whole log with ``XRANGE`` and looking at each in Python, which is what there is to do without indexes, and
against reading as many facts as were found where one knows they are, which is the least that there is to do.

``python -m benchmarks.entries watch|read URL SCOPE|KEY`` is the process that sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from typing import Any, cast

from benchmarks.matching import words
from benchmarks.measure import Sample, in_turn, timed
from benchmarks.processes import Child
from benchmarks.report import Row, rows
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry, stream_id
from blackboard.meaning import Meaning
from blackboard.testing import RedisServer
from registry.matching import LexicalMatcher
from registry.matching.passages import EVERYTHING, Passages

SCOPE, TOLD = "tenant:bench", "bench:told"
CONTENT = {"supplier": "Acme Holdings", "amount": 1204.5, "currency": "EUR", "note": "x" * 100}
WATCH, XREAD = "post until another process sees it", "XADD until its XREAD has it"
SCAN = "XRANGE of the log, read in Python"
_PATIENCE_SECONDS = 60.0
ONE, TEN = "XRANGE of the fact in its place", "XRANGE of as many in their places, sent together"
MOST_CHARACTERS = 100_000_000
"""Of the index of meanings: more than a process keeps by default, since 100,000 entries of this size have 26 million."""
_RANKED, _NOTE_WORDS, _ASKED_WORDS = 10, 14, 6
_AT_ONCE = 50


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await found((300,), 50, 1, say) if quick else await found((1_000, 100_000), 300, 3, say)


async def found(sizes: Sequence[int], tellings: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """The rows, for so many live entries each, and so many entries told a repetition."""
    with RedisServer(tcp=True) as server:
        async with await Board.open(server.url) as board:
            out = await _watched(board, server.url, tellings, repetitions, say)
            for number, size in enumerate(sizes):
                out += await _queried(Entries(board, f"tenant:b{number}"), size, repetitions, say)
    return out


async def _watched(board: Board, url: str, tellings: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    entries = Entries(board, SCOPE)
    client: Any = board.client

    async def post(number: int) -> None:
        await entries.post("claims.bench", {**CONTENT, "at": time.monotonic(), "number": number})

    async def add(number: int) -> None:
        await client.xadd(TOLD, {"data": json.dumps({**CONTENT, "at": time.monotonic(), "number": number})})

    measured = await in_turn(
        {
            WATCH: lambda: _told(Child("benchmarks.entries", "watch", url, SCOPE), post, tellings),
            XREAD: lambda: _told(Child("benchmarks.entries", "read", url, TOLD), add, tellings),
        },
        repetitions, say,
    )  # fmt: skip
    return rows("entries", measured, [WATCH], [XREAD])


async def _told(child: Child, tell: Callable[[int], Awaitable[None]], count: int) -> Sample:
    """Tell a process that looks on, one thing after the other, each when the one before was seen."""
    latencies: list[float] = []
    async with child:
        await child.says(_PATIENCE_SECONDS)
        for number in range(count):
            await tell(number)
            latencies.append(await child.says(_PATIENCE_SECONDS))
    return Sample(count, sum(latencies), latencies)


async def _queried(entries: Entries, size: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    wanted = size - 2  # an invoice, and one of the last
    notes = await _filled(entries, size, say)
    asking = cycle(range(max(0, size - 50), size))  # another question each time, since what a need is made of is kept
    topic, pattern, field, about, first = (
        f"{way}, {size:,} live"
        for way in ("query by topic", "by pattern", "by a condition", "by meaning", "by meaning, the first question")
    )
    meaning = Meaning(
        lambda: Passages(LexicalMatcher(read_at_most=EVERYTHING, capabilities=False)), most_characters=MOST_CHARACTERS
    )
    ranking = Entries(entries._board, entries.scope, meaning=meaning)  # pyright: ignore[reportPrivateUsage]

    async def ranked() -> list[Entry]:
        meant = next(asking)
        asked = " ".join(notes[meant].split()[:_ASKED_WORDS])
        found = (await ranking.query("claims.>", about=asked, limit=_RANKED)).entries
        assert meant in [cast(Any, one.content)["number"] for one in found], "others were ranked before it"
        return list(found)

    def query(pattern: str, where: str = "") -> Callable[[], Awaitable[Sample]]:
        async def once() -> None:
            after: str | None = None
            got = list[Any]()
            while True:
                page = await entries.query(pattern, where, after=after)
                got += page.entries
                if (after := page.after) is None:
                    break
            assert [one.content["number"] for one in got] == [wanted], "another entry was found"

        return lambda: timed(once, 1 if pattern != f"claims.invoice.{wanted}" else 20)

    async def scan() -> Sample:
        return await timed(lambda: _scanned(entries, wanted), 1)

    say(first)
    began = {first: [await timed(ranked, 1)], SCAN: [await scan()]}
    best = [stream_id(one.position) for one in await ranked()]
    (found,) = (await entries.query(f"claims.invoice.{wanted}")).entries
    measured = await in_turn(
        {
            topic: query(f"claims.invoice.{wanted}"),
            pattern: query(f"claims.*.{wanted}"),
            field: query("claims.invoice.*", f"number={wanted}"),
            about: lambda: timed(ranked, 20),
            SCAN: scan,
            ONE: lambda: timed(lambda: _placed(entries, [stream_id(found.position)]), 20),
            TEN: lambda: timed(lambda: _placed(entries, best), 20),
        },
        repetitions, say,
    )  # fmt: skip
    return (
        rows("entries", measured, [topic, pattern, field], [SCAN, ONE])
        + rows("entries", measured, [about], [SCAN, TEN])
        + rows("entries", began, [first], [SCAN])
    )


async def _filled(entries: Entries, size: int, say: Callable[[str], None]) -> Sequence[str]:
    """Post the entries, each with a note in words as unevenly common as those of a language; the notes."""
    chance = random.Random(size)
    notes = [" ".join(words(chance, _NOTE_WORDS)) for _ in range(size)]
    for start in range(0, size, _AT_ONCE):
        say(f"posting {start:,} of {size:,}")
        await asyncio.gather(
            *(
                entries.post(
                    f"claims.{'order' if k % 2 else 'invoice'}.{k}", {**CONTENT, "note": notes[k], "number": k}
                )
                for k in range(start, min(size, start + _AT_ONCE))
            )
        )
    return notes


async def _placed(entries: Entries, places: Sequence[str]) -> None:
    """Read some facts of which one knows where they are."""
    log = entries._shard.log(entries.owner)  # pyright: ignore[reportPrivateUsage]
    calls: Any = entries._board.client.pipeline(transaction=False)  # pyright: ignore[reportPrivateUsage]
    for one in places:
        calls.xrange(log, one, one)
    facts = [json.loads(fields["data"]) for ((_, fields),) in await calls.execute()]
    assert len(facts) == len(places)


async def _scanned(entries: Entries, wanted: int) -> None:
    client = cast(Any, entries._board.client)  # pyright: ignore[reportPrivateUsage]
    log = entries._shard.log(entries.owner)  # pyright: ignore[reportPrivateUsage]
    at, seen = "-", 0
    while page := await client.xrange(log, at, "+", 1000):
        at = f"({page[-1][0]}"
        seen += sum(json.loads(fields["data"])["content"]["number"] == wanted for _, fields in page)
    assert seen == 1, "another entry was found"


async def _watch(url: str, scope: str) -> None:
    async with await Board.open(url) as board:
        entries = Entries(board, scope)
        seen = entries.watch("claims.>", after=await entries.position())
        print(json.dumps("ready"), flush=True)
        async for event in seen:
            at = cast(Any, event).data.content["at"]
            print(json.dumps(time.monotonic() - at), flush=True)


async def _read(url: str, key: str) -> None:
    async with await Board.open(url) as board:
        client: Any = board.engine.blocking_client(_PATIENCE_SECONDS + 5)
        last = await client.xrevrange(key, count=1)
        at = last[0][0] if last else "0-0"
        print(json.dumps("ready"), flush=True)
        while True:
            for _, page in await client.xread({key: at}, block=int(_PATIENCE_SECONDS * 1000)):
                at = page[-1][0]
                for _, fields in page:
                    print(json.dumps(time.monotonic() - json.loads(fields["data"])["at"]), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["watch", url, scope]:
                asyncio.run(_watch(url, scope))
            case ["read", url, key]:
                asyncio.run(_read(url, key))
            case _:
                raise SystemExit("watch URL SCOPE, or read URL KEY")
