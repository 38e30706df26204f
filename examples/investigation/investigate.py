"""Find out which changes of bank accounts were forged: `python examples/investigation/investigate.py`.

Makes the documents, starts the embedded local server and some `arbiter serve` processes beside this one, and lets them work it
out: no plan, no account, no credentials. The model that writes the missing source plays a script and says so; documents, sources,
exam, isolation and board are real.

    --workers N     processes that work on it (2)
    --kills N       kill one of them with SIGKILL at N random moments, and start another one (0)
    --picture FILE  where the picture of the board goes (board.svg beside the documents)
    --data-dir DIR  documents and server (a new temporary folder)
    --url URL       a Redis of your own
    --noise N       letters about something else (200)
    --small         a case of three forgeries and two real changes
    --seed N        of the moments (1)
    --json          the answer as one line of JSON
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import make_data  # noqa: E402

from arbiter import AgendaTerms, Arbiter, Inquiry, Limits, Posting, Query, RunResult  # noqa: E402
from arbiter.board_picture import board_picture  # noqa: E402
from blackboard.engine import stop_local  # noqa: E402
from blackboard.entry import Entry  # noqa: E402

BOARD = "investigation"
LEASE_SECONDS = 2.0
"""Short, so that what a killed worker had begun is soon begun again."""
TOLD = ("case", "files", "requests", "bids", "awards", "answers", "unanswered", "hypotheses", "evidence", "report")
TERMS = AgendaTerms(until=Query(topic="report"), concurrency=8)
LIMITS = Limits(tasks=5000, rounds=50, seconds=600)


class Workers:
    """The processes that work on it."""

    def __init__(self, place: list[str], count: int, kills: int, seed: int, log: Path) -> None:
        self._place, self._kills, self._log = place, kills, log
        self._chance = random.Random(seed)
        self._running = [self._start() for _ in range(count)]
        self.killed = 0

    def _start(self) -> subprocess.Popen[bytes]:
        model = f"scripted:{HERE / 'script' / 'model.json'}"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable, "-m", "arbiter", "serve", "--model", model, "--grace", "0", "--lease", str(LEASE_SECONDS),
                    "--capabilities", str(HERE / "capabilities.py"), "--taint-policy", str(HERE / "policy.json"), *self._place,
                ],
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
            )  # fmt: skip

    async def die(self) -> None:
        """Kill one of them now and then."""
        while self.killed < self._kills:
            await asyncio.sleep(0.3 + 1.5 * self._chance.random())
            which = self._chance.randrange(len(self._running))
            self._running[which].kill()
            self._running[which].wait()
            self.killed += 1
            self._running[which] = self._start()

    def close(self) -> None:
        for one in self._running:
            one.terminate()
        for one in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(10)
            one.kill()
            one.wait()


async def investigate(options: argparse.Namespace, folder: Path) -> tuple[RunResult, dict[str, Any], str]:
    """Have the case in a folder worked out: the run, what there is to say about it, and the picture of its board."""
    place = ["--data-dir", str(folder / "server"), "--board", BOARD] + (["--url", options.url] if options.url else [])
    began = time.monotonic()
    async with Arbiter(options.url, data_dir=folder / "server", board=BOARD, roles=()) as a:
        workers = Workers(place, options.workers, options.kills, options.seed, folder / "workers.log")
        dying = asyncio.create_task(workers.die())
        try:
            known = [Posting("case.folder", {"folder": str(folder / "documents")})]
            run_id = await a.submit(Inquiry(known, TERMS), limits=LIMITS)
            telling = tell(a, run_id, options.json)
            result, _ = await asyncio.gather(a.result(run_id, timeout=LIMITS.seconds), telling)
        finally:
            dying.cancel()
            workers.close()
        entries = await everything(a, run_id)
        activations = await a.agenda(run_id).activations()
    answer = json.loads(result.answer) if result.answer and result.status == "succeeded" else None
    return result, {
        "run": run_id, "status": result.status, "answer": answer, "entries": len(entries), "activations": len(activations),
        "killed": workers.killed,
        "sources": sorted({one.capability for one in activations} | {task.capability for task in result.state.work}),
        "seconds": round(time.monotonic() - began, 1),
    }, board_picture(entries, activations)  # fmt: skip


async def tell(a: Arbiter, run_id: str, quiet: bool) -> None:
    """Say what is written, as it is written; of levels with many entries only how many there are."""
    counts: Counter[str] = Counter()
    async for event in a.entries.within(f"run:{run_id}").watch(after="-"):
        topic, author = str(event.data.topic), getattr(event.data, "author", None)
        level = topic.partition(".")[0]
        counts[level] += 1
        if quiet:
            continue
        if level in TOLD:
            said = json.dumps(getattr(event.data, "content", None), ensure_ascii=False)
            print(
                f"{author.name if author else '':>24} {topic}: {said if len(said) < 90 else said[:89] + '…'}",
                flush=True,
            )
        elif counts[level] in (1, 10) or counts[level] % 25 == 0:
            print(f"{author.name if author else '':>24} {level}: {counts[level]} so far", flush=True)


async def everything(a: Arbiter, run_id: str) -> list[Entry]:
    """All live entries of the run."""
    found: list[Entry] = []
    after: str | None = None
    while True:
        page = await a.entries.within(f"run:{run_id}").query(limit=1000, after=after)
        found += page.entries
        if (after := page.after) is None:
            return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("workers", 2), ("kills", 0), ("seed", 1), ("noise", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("data-dir", "picture", "url"):
        parser.add_argument(f"--{name}")
    for name in ("json", "small"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    # A temporary folder is not removed with the process: the picture is in it.
    folder = Path(options.data_dir or tempfile.mkdtemp(prefix="investigation-"))
    case = make_data.build(options.noise, **({"forged": 3, "changed": 2} if options.small else {}))
    make_data.write(folder / "documents", case)
    try:
        result, told, drawn = asyncio.run(investigate(options, folder))
    finally:
        stop_local(folder / "server")
    picture = Path(options.picture or folder / "board.svg")
    picture.write_text(drawn, encoding="utf-8")
    truth = {"forged": case.truth.forged, "payments": [*case.truth.payments], "cents": case.truth.cents}
    told |= {"right": told["answer"] == truth, "documents": len(case.files), "picture": str(picture)}
    if options.json:
        print(json.dumps(told))
        return 0 if told["right"] else 1
    if told["answer"] is None:
        print(f"{told['status']}: {result.error.message if result.error else ''}")
        return 1
    print(
        f"\n{len(told['answer']['forged'])} changes were forged ({', '.join(told['answer']['forged'])}); "
        f"{len(told['answer']['payments'])} payments of {told['answer']['cents'] / 100:,.2f} EUR went astray. "
        f"That is {'what was planted' if told['right'] else 'not what was planted'}.\n"
        f"{told['documents']} documents, {len(told['sources'])} sources, {told['activations']} activations, {told['entries']} "
        f"entries, {told['killed']} workers killed, {told['seconds']:g} s. The one that was fabricated was written by a scripted "
        f"model.\nThe board: {told['picture']}"
    )
    return 0 if told["right"] else 1


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)
