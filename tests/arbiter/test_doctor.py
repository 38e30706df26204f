"""The doctor: each thing that can be wrong is made wrong on a real server, and is told with a remedy."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter as command
from cli_process import records

from arbiter import doctor
from arbiter.doctor import examine
from blackboard import checkup
from blackboard.board import Board
from blackboard.checkup import Finding, local_server, server
from blackboard.engine import open_engine, stop_local
from blackboard.testing import RedisServer

HEALTHY = ("connection", "server", "persistence", "eviction", "memory", "durability", "clock", "board", "scripts")


async def look(url: str, board: str = "main", data_dir: Path | None = None) -> dict[str, Finding]:
    return {finding.name: finding async for finding in server(url, data_dir, "arbiter", board)}


@pytest.fixture
async def other() -> AsyncIterator[RedisServer]:
    """A server of its own, to be misconfigured."""
    with RedisServer() as one:
        yield one


async def test_a_good_server_is_all_well_and_is_left_as_it_was(redis_server: RedisServer, board_name: str) -> None:
    found = await look(redis_server.url, board_name)
    assert {name: one.level for name, one in found.items()} == dict.fromkeys(HEALTHY, "ok")
    assert not any(one.remedy for one in found.values())
    with redis_server.client() as client:
        assert client.exists(f"arb:{{arbiter/{board_name}}}:meta") == 0


@pytest.mark.parametrize(
    ("setting", "name", "level", "remedy"),
    [
        ({"appendonly": "no"}, "persistence", "warn", "appendonly yes"),
        ({"maxmemory-policy": "allkeys-lru"}, "eviction", "warn", "noeviction"),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "eviction", "fail", "noeviction"),
        ({"maxmemory": "1500000"}, "memory", "warn", "arbiter prune"),
        ({"maxmemory": "100000"}, "memory", "fail", "arbiter prune"),
    ],
)
async def test_a_setting_that_endangers_runs_is_told(
    other: RedisServer, setting: Mapping[str, str], name: str, level: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other.client() as client:
        if setting.get("maxmemory") == "1500000":
            used = client.info("memory")["used_memory"]  # type: ignore[index]
            setting = {"maxmemory": str(int(used / 0.85))}
        for key, value in setting.items():
            client.config_set(key, value)
    finding = (await look(other.url))[name]
    assert finding.level == level, finding
    assert remedy in finding.remedy


async def test_a_log_that_was_not_written_anew_since_the_server_came_back_is_told(
    other: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other.client() as client:
        if "valkey_version" in client.info("server"):  # pyright: ignore[reportUnknownMemberType]
            pytest.skip("a Valkey does not do half a script after a crash")
        client.set("some", "thing")
        assert (await look(other.url))["persistence"].level == "ok"
        with monkeypatch.context() as left:
            left.setattr("redis.Redis.bgrewriteaof", lambda self: None)  # pyright: ignore[reportUnknownLambdaType]
            other.restart()
        finding = (await look(other.url))["persistence"]
        assert (finding.level, "BGREWRITEAOF" in finding.remedy) == ("warn", True)
        client.bgrewriteaof()  # pyright: ignore[reportUnknownMemberType]
        assert (await look(other.url))["persistence"].level == "ok"


async def test_a_server_that_cannot_be_reached_or_refuses_scripts_fails_with_a_remedy(
    other: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_engine.__kwdefaults__, "connect_seconds", 0.2)
    [unreachable] = [
        one async for one in server(f"unix://{tmp_path}/none", None, "arbiter", "main") if one.level == "fail"
    ]
    assert unreachable.name == "connection"
    with other.client() as client:
        client.acl_setuser("limited", enabled=True, passwords=["+x"], keys=["*"], commands=["+@all", "-@scripting"])
        client.acl_setuser("blind", enabled=True, passwords=["+x"], keys=["no:*"], commands=["+@all", "-info"])
    limited = await look(other.url.replace("unix://", "unix://limited:x@"))
    assert (limited["scripts"].level, "EVALSHA" in limited["scripts"].remedy) == ("fail", True)
    blind = await look(other.url.replace("unix://", "unix://blind:x@"))
    assert (blind["board"].level, "arb:" in blind["board"].remedy) == ("fail", True)
    assert {blind[name].level for name in ("server", "persistence", "eviction", "memory")} == {"warn"}


async def test_a_board_of_another_format_fails(redis_server: RedisServer, board_name: str) -> None:
    async with await Board.open(redis_server.url, board=board_name) as board:
        await board.client.hset(f"arb:{{arbiter/{board_name}}}:meta", "format", "99")
    finding = (await look(redis_server.url, board_name))["board"]
    assert (finding.level, "99" in finding.said, "import" in finding.remedy) == ("fail", True, True)


async def test_clocks_that_differ_are_told(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(checkup.time, "time", lambda: real() - 100)
    finding = (await look(redis_server.url))["clock"]
    assert finding.level == "warn"
    assert re.search(r" (99\.9|100\.0)\d\d s ahead of", finding.said)


async def test_a_store_in_memory_is_told_to_last_nothing() -> None:
    found = await look("memory://")
    assert (found["durability"].level, found["scripts"].level) == ("warn", "ok")


def test_the_local_server_is_found_and_its_pin_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARBITER_REDIS_URL", raising=False)
    assert "no data yet" in local_server(None, tmp_path).said
    assert "not needed" in local_server("redis://elsewhere", tmp_path).said
    monkeypatch.setenv("ARBITER_REDIS_SERVER", "/bin/true")
    broken = local_server(None, tmp_path)
    assert (broken.level, "ARBITER_REDIS_SERVER" in broken.said) == ("fail", True)


def test_the_command_examines_everything_and_its_exit_code_says_whether_something_fails(tmp_path: Path) -> None:
    script = tmp_path / "model.json"
    script.write_text(json.dumps({"scenes": [{"turns": ["ready"]}]}))
    env = {"ARBITER_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path)}
    try:
        done = command("doctor", "--model", f"scripted:{script}", "--call", "--json", env=env)
        found = {one["name"]: one for one in records(done.stdout)}
        assert (done.returncode, done.stderr) == (0, "")
        assert {one["level"] for one in found.values()} == {"ok"}
        expected = {
            "python",
            "hiredis",
            "extras",
            "local server",
            *HEALTHY,
            "signing key",
            "matching",
            "isolation",
            "model",
        }
        assert set(found) == expected
        assert "answered" in found["model"]["said"]
        again = command("doctor", "--model", "oracle:x", env=env)
        assert again.returncode == 1
        assert "the data is pinned to it" in again.stdout
        assert "fail model" in again.stdout
        assert "→ Name another with --model" in again.stdout
    finally:
        stop_local(tmp_path / "data")


async def test_isolation_that_cannot_be_had_and_a_model_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from blackboard.errors import IsolationUnavailable
    from wrapper.isolation import ProcessIsolation, detection

    monkeypatch.setattr(detection, "_refusal", [])

    async def start(self: Any) -> None:
        raise IsolationUnavailable("no fork here")

    monkeypatch.setattr(ProcessIsolation, "start", start)
    for name in ("ARBITER_MODEL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "PYTHON", (9, 0))
    found = {one.name: one async for one in examine(url="memory://")}
    said = found["isolation"].said
    assert found["isolation"].level == "fail"
    assert "zygote-ns: no fork here" in said
    assert "zygote-lsm: no fork here" in said
    assert "Allow user namespaces" in found["isolation"].remedy
    assert (found["python"].level, found["model"].level) in (("fail", "warn"), ("fail", "ok"))
