"""Archived events given again: as runs that are made once, and to a bus in order, with bounded patience."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter as command
from tenacity import wait_none
from test_archive import saved

from arbiter.archive import Filter, read, select
from arbiter.patterns import Pattern
from arbiter.replaying import HttpTarget, Json, NotDelivered, Replayed, replay_runs, replay_to
from blackboard.board import Board
from blackboard.errors import BadInput, BlobMissing
from blackboard.testing import RedisServer
from blackboard.types import Limits

FOREIGN: dict[str, Any] = {
    "specversion": "1.0", "id": "o-1", "source": "/shop", "type": "com.shop.order.placed", "time": "2026-01-02T03:04:05Z",
    "data": {"total": 250},
}  # fmt: skip


async def archived(board: Board, path: Path, *more: dict[str, Any]) -> Path:
    lines = [event.model_dump_json() async for event in select(board, Filter())]
    return saved(path, "".join(f"{line}\n" for line in [*lines, *map(json.dumps, more)]))


async def data_of(board: Board, run: str) -> Any:
    return (await board.history(run))[0].data


@pytest.fixture
async def file(redis_server: RedisServer, board_name: str, tmp_path: Path) -> Path:
    """Two runs of another board and an event of somebody else."""
    async with await Board.open(redis_server.url, board=board_name + "o") as origin:
        await origin.submit({"n": 1}, tenant="acme", limits=Limits(rounds=3), idempotency_key="mine")
        await origin.submit("second")
        return await archived(origin, tmp_path / "archive", FOREIGN)


async def test_requests_become_runs_once_for_each_replay_and_say_what_they_are_of(board: Board, file: Path) -> None:
    made: list[Replayed] = []
    for _ in range(2):
        made.clear()
        assert await replay_runs(board, read(file), name="again", made=made.append) == 3
    assert len(await board.runs()) == 3
    # Runs that were accepted in the same millisecond are in no particular order.
    runs = [await data_of(board, one.run_id) for one in made]
    first, second, foreign = (next(r for r in runs if r.request == q) for q in ({"n": 1}, "second", FOREIGN))
    assert (first.request, first.tenant, first.limits.rounds) == ({"n": 1}, "acme", 3)
    assert (second.request, foreign.request) == ("second", FOREIGN)
    told = made[runs.index(first)].event
    assert first.replay_of.model_dump() == {"name": "again", "source": told["source"], "id": told["id"]}
    assert await replay_runs(board, read(file), name="and again", tenant="lab", limits=Limits(rounds=1)) == 3
    assert len(await board.runs()) == 6
    assert {run.tenant for run in await board.runs()} == {"acme", "default", "lab"}


async def test_without_a_name_an_event_that_was_submitted_is_the_run_it_was(board: Board, file: Path) -> None:
    key = f"{FOREIGN['source']}\0{FOREIGN['id']}"
    run = await board.submit(FOREIGN, idempotency_key=key)
    made: list[Replayed] = []
    wanted = Filter(pattern=Pattern({"source": ["/shop"], "data": {"total": [{"numeric": [">", 100]}]}}))
    await replay_runs(board, read(file, wanted), made=made.append)
    assert [one.run_id for one in made] == [run]
    assert (await data_of(board, run)).replay_of is None


async def test_a_direct_call_is_left_out_and_stops_nothing(board: Board, tmp_path: Path) -> None:
    await board.submit_call("count", {"n": 1}, lane="work")
    await board.submit("second")
    file = await archived(board, tmp_path / "archive")
    assert await replay_runs(board, read(file), name="again") == 1
    assert [(await data_of(board, run.id)).request for run in await board.runs()].count("second") == 2


async def test_a_large_request_is_replayed_while_its_value_is_there(board: Board, tmp_path: Path) -> None:
    large = {"rows": ["x" * 1000] * 400}
    run = await board.submit(large)
    file = await archived(board, tmp_path / "archive")
    made: list[Replayed] = []
    await replay_runs(board, read(file), name="again", made=made.append)
    again = await data_of(board, made[0].run_id)
    assert await board.load(made[0].run_id, again.request) == large
    await board.blobs.delete_run(run)
    with pytest.raises(BlobMissing):
        await replay_runs(board, read(file), name="later")


async def test_a_board_that_does_not_take_a_request_stops_the_replay_with_the_reason(board: Board, file: Path) -> None:
    await board.submit("other", tenant="default", idempotency_key=f"{FOREIGN['source']}\0{FOREIGN['id']}")
    with pytest.raises(NotDelivered, match="2 requests were submitted; o-1 was not: CONFLICT") as caught:
        await replay_runs(board, read(file))
    assert caught.value.delivered == 2


def test_events_are_chosen_by_time_and_pattern_whoever_wrote_them(file: Path) -> None:
    assert [event["id"] for event in read(file, Filter(until=1_800_000_000 - 86_400 * 30, subject=""))] == ["o-1"]
    assert list(read(file, Filter("com.shop.*", since=1_800_000_000_000))) == []
    file.write_text('{"id": 1}\n', "utf-8")
    with pytest.raises(BadInput, match="archive:1"):
        list(read(file))


async def test_a_callable_gets_events_in_order_and_marked_and_the_failing_one_is_named() -> None:
    events = [{**FOREIGN, "id": f"o-{number}"} for number in range(7)]
    taken: list[Sequence[Json]] = []

    async def send(some: Sequence[Json]) -> None:
        if some[0]["id"] == "o-6":
            raise RuntimeError("full")
        taken.append(some)

    assert await replay_to(send, events[:6], name="again", batch=3) == 6
    assert [[event["id"] for event in some] for some in taken] == [["o-0", "o-1", "o-2"], ["o-3", "o-4", "o-5"]]
    assert {event["replayof"] for some in taken for event in some} == {"again"}
    with pytest.raises(NotDelivered, match="6 events were delivered; the next, /shop o-6, was not: full") as caught:
        await replay_to(send, events, batch=3)
    assert caught.value.delivered == 6
    assert all("replayof" not in event for some in taken[2:] for event in some)


class Bus:
    """A real HTTP server that answers as told and keeps what it took."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.posts: list[tuple[dict[str, str], Any]] = []
        bus = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code = bus.answers.pop(0) if bus.answers else 202
                if code < 300:
                    bus.posts.append((dict(self.headers), body))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def target(url: str, **more: Any) -> HttpTarget:
    made = HttpTarget(url, **more)
    made.wait = wait_none()
    return made


async def test_events_are_posted_as_cloudevents_alone_or_in_batches(bus: Bus) -> None:
    events = [{**FOREIGN, "id": f"o-{number}"} for number in range(3)]
    send = target(bus.url, headers={"Authorization": "Bearer x"})
    assert await replay_to(send, events, batch=2) == 3
    (first, two), (second, one) = bus.posts
    assert (first["Content-Type"], two) == ("application/cloudevents-batch+json; charset=UTF-8", events[:2])
    assert (second["Content-Type"], one) == ("application/cloudevents+json; charset=UTF-8", events[2])
    assert first["Authorization"] == "Bearer x"


async def test_a_target_that_is_busy_is_asked_again_within_bounds_and_one_that_refuses_is_not(bus: Bus) -> None:
    bus.answers = [503, 429, 500]
    assert await replay_to(target(bus.url), [FOREIGN]) == 1
    bus.answers = [503] * 10
    with pytest.raises(NotDelivered, match=r"0 events were delivered.*answered 503"):
        await replay_to(target(bus.url, attempts=3), [FOREIGN])
    assert len(bus.answers) == 7
    for code in (400, 302):
        bus.answers = [code] * 2
        with pytest.raises(NotDelivered, match=f"answered {code}"):
            await replay_to(target(bus.url), [FOREIGN])
        assert len(bus.answers) == 1, "a refusal is final"
    assert len(bus.posts) == 1
    with pytest.raises(NotDelivered, match="cannot be reached"):
        await replay_to(target("http://127.0.0.1:1/", attempts=2), [FOREIGN])
    with pytest.raises(BadInput, match="Use http://"):
        HttpTarget("file:///etc/passwd")


async def test_the_command_replays_to_a_file_a_board_and_a_url(
    redis_server: RedisServer, board_name: str, file: Path, tmp_path: Path, bus: Bus
) -> None:
    here = ["--url", redis_server.url, "--board", board_name]
    chosen = tmp_path / "chosen"
    pattern = '{"type": [{"anything-but": {"prefix": "dev.arbiter.task."}}]}'
    done = command("replay", str(file), "--to", str(chosen), "--name", "again", "--pattern", pattern)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "3 events")
    assert {event["replayof"] for event in read(chosen)} == {"again"}
    first = command("replay", str(file), "--to", "board", *here)
    again = command("replay", str(file), "--to", "board", *here)
    assert first.stdout == again.stdout
    assert len(first.stdout.split()) == 3
    posted = command("replay", str(file), "--to", bus.url, "--type", "run.accepted", "--header", "X-Key: k")
    assert posted.returncode == 0, posted.stderr
    ((headers, body),) = bus.posts
    assert (headers["X-Key"], len(body)) == ("k", 2)
    assert command("replay", str(file), "--to", str(chosen)).returncode == 2
    wrong = command("replay", str(file), "--to", "-", "--pattern", '{"type": "x"}')
    assert (wrong.returncode, "pattern.type" in wrong.stderr) == (2, True)
