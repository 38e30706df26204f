"""``python -m arbiter.testing matrix``: the whole crash matrix, in real processes, on a real server."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from arbiter.testing import report
from arbiter.testing.cases import Case, Outcome
from arbiter.testing.injection import BOUNDARIES
from arbiter.testing.kept import Kept
from arbiter.testing.matrix import STORIES, Matrix, opened
from blackboard.errors import ArbiterError, BadInput
from blackboard.testing import RedisServer

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
_WRITE_EVERY = 10
"""Cases between two writings of the table: what is known stays when a long run is stopped."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m arbiter.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    matrix = commands.add_parser("matrix", help="play every case, or some")
    matrix.add_argument("--seed", type=int, default=1, help="order of the cases, and which a sample takes (1)")
    matrix.add_argument("--only", action="append", default=[], metavar="CASE",
                        help="a case id, or a pattern such as 'wrapper:complete:*'; may be repeated")  # fmt: skip
    matrix.add_argument("--sample", type=int, metavar="N", help="play N cases, chosen by the seed")
    matrix.add_argument("--minutes", type=float, help="start no further case after so long")
    matrix.add_argument("--boundary", action="append", choices=sorted(BOUNDARIES), help="only these faults")
    matrix.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1),
                        help="cases at a time (three per processor, since most of a case is waiting)")  # fmt: skip
    matrix.add_argument("--story", metavar="MODULE:FUNCTION", help="what the processes play, instead of the five here")
    matrix.add_argument("--keep", type=Path, metavar="FILE",
                        help="keep what passed there, and go on with the rest when the code is the same")  # fmt: skip
    matrix.add_argument("--list", action="store_true", help="print the case ids and play none")
    matrix.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    return parser.parse_args()


async def _matrix(options: argparse.Namespace) -> int:
    outcomes: list[Outcome] = []
    stories = {"loop": options.story} if options.story else STORIES
    async with opened(stories) as matrix:
        every, cases = await _chosen(matrix, options)
        if options.list:
            print("\n".join(case.id for case in cases))
            return 0
        server = await _server()
        began, kept = time.monotonic(), Kept(options.keep, server, *stories.values())
        try:
            await _played(matrix, cases, options, _Table(every, outcomes, options, server, kept))
        finally:
            print(f"{report.summary(outcomes)}; seed {options.seed}, {time.monotonic() - began:.0f} s", flush=True)
    # What was never reached proves nothing: a misspelt call must not pass for a good one.
    words = {outcome.word for outcome in outcomes}
    return 0 if "passed" in words and "failed" not in words else 1


async def _chosen(matrix: Matrix, options: argparse.Namespace) -> tuple[list[Case], list[Case]]:
    """Every case there is, and those that are to be played, in their order."""
    exact = [one for one in options.only if "*" not in one]
    if exact and len(exact) == len(options.only):
        cases = [Case.parse(one) for one in exact]
        return cases, cases
    every = await matrix.cases(options.boundary or BOUNDARIES)
    cases = [
        case for case in every if not options.only or any(fnmatch.fnmatchcase(case.id, one) for one in options.only)
    ]
    # Each has its own place, since which calls are made often enough to count is not quite the same each time.
    cases.sort(key=lambda case: random.Random(f"{options.seed} {case.id}").random())
    if not cases:
        raise BadInput("--only", " ".join(options.only), "No call of the stories fits. --list prints those there are.")
    return every, cases[: options.sample] if options.sample else cases


@dataclass(slots=True)
class _Table:
    """What is known so far: kept in a file, and written as a table between the marks of a page."""

    every: list[Case]
    outcomes: list[Outcome]
    options: argparse.Namespace
    server: str
    kept: Kept
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.kept.add(outcome, self._seconds())
        if len(self.outcomes) % _WRITE_EVERY == 0:
            self.write()

    def write(self) -> None:
        if self.options.write:
            text = report.markdown(
                self.outcomes, of=self.every, seed=self.options.seed, seconds=self._seconds(), server=self.server
            )
            _write(self.options.write, text)

    def _seconds(self) -> float:
        return self.kept.seconds + time.monotonic() - self.began


async def _played(matrix: Matrix, cases: list[Case], options: argparse.Namespace, table: _Table) -> None:
    table.outcomes += [table.kept.outcomes[case.id] for case in cases if case.id in table.kept.outcomes]
    waiting = [case for case in reversed(cases) if case.id not in table.kept.outcomes]
    for story in {case.story for case in waiting}:
        await matrix.baseline(story)
    until = time.monotonic() + (options.minutes * 60 if options.minutes else 1e9)

    async def worker() -> None:
        while waiting and time.monotonic() < until:
            try:
                outcome = await matrix.run(waiting.pop())
            except asyncio.CancelledError:
                waiting.clear()
                raise
            table.add(outcome)
            place = f"[{len(table.outcomes)}/{len(cases)}]"
            print(f"{place} {outcome.word:11} {outcome.seconds:5.1f} s  {outcome.case.id}", flush=True)
            for problem in outcome.problems[:5]:
                print(f"      {problem[:500]}", flush=True)
            if outcome.problems:
                story = f" --story {options.story}" if options.story else ""
                print(f"      again: python -m arbiter.testing matrix{story} --only '{outcome.case.id}'", flush=True)

    try:
        # When it is interrupted, each ends its case before the server goes away.
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, options.jobs)):
                group.create_task(worker())
    finally:
        table.write()


def _write(page: Path, table: str) -> None:
    """Put the table between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")


async def _server() -> str:
    with RedisServer() as server:
        client = cast(Any, server.client())
        told: dict[str, Any] = client.info("server")
        client.close()
    return f"Redis {told['redis_version']}"


def main() -> int:
    try:
        return asyncio.run(_matrix(_arguments()))
    except ArbiterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
