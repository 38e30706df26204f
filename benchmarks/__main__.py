"""``python -m benchmarks``: run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    board,
    comparison,
    conversation,
    entries,
    history,
    idle,
    isolation,
    left_over,
    load,
    machine,
    matching,
    noisy,
    recovery,
    report,
    rounds,
    schedules,
    startup,
    workers,
)

Benchmark = Callable[[bool, Callable[[str], None]], Coroutine[Any, Any, list[report.Row]]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "board": board.measure,
    "workers": workers.measure,
    "peers": comparison.measure,
    "recovery": recovery.measure,
    "load": load.measure,
    "idle": idle.measure,
    "noisy": noisy.measure,
    "rounds": rounds.measure,
    "isolation": isolation.measure,
    "left_over": left_over.measure,
    "startup": startup.measure,
    "history": history.measure,
    "conversation": conversation.measure,
    "schedules": schedules.measure,
    "entries": entries.measure,
    "matching": matching.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller: rougher")
    parser.add_argument("--only", action="append", choices=sorted(BENCHMARKS), metavar="NAME", help="run only this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to a file as well")
    parser.add_argument(
        "--publish", type=Path, metavar="PAGE", help="put the table under the heading Results of this page as well"
    )
    parser.add_argument(
        "--peers-python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter that has some of the peers",
    )
    options = parser.parse_args()
    if options.peers_python:
        os.environ[comparison.PYTHONS] = os.pathsep.join(options.peers_python)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    facts = machine.facts()
    found: list[report.Row] = []
    failed = False
    began = time.perf_counter()
    for name in options.only or BENCHMARKS:
        started = time.perf_counter()
        try:
            found += asyncio.run(BENCHMARKS[name](options.quick, _progress(name)))
        except Exception:  # the others' numbers are still worth having; the exit status tells
            failed = True
            logging.exception("%s failed", name)
        _say(f"{name}: {time.perf_counter() - started:.0f} s", end="\n")
    seconds = time.perf_counter() - began
    print(f"{report.heading(facts, seconds)}\n\n{report.markdown(found)}")
    if options.publish is not None:
        page = options.publish.read_text("utf-8")
        options.publish.write_text(report.published(page, facts, seconds, found), "utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(facts, found), indent=1), "utf-8")
    return int(failed)


def _progress(name: str) -> Callable[[str], None]:
    if sys.stderr.isatty():
        return lambda text: _say(f"{name}: {text}")
    return lambda _: None


def _say(text: str, end: str = "") -> None:
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
