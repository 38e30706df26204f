"""The supervised local server: started once, shared, and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import local_support
import pytest
import redis
from local_support import count, kill, pid_of, run_python, wrapper

from blackboard import _local, _socket_place
from blackboard._binary import Binary
from blackboard._datadir import DataDir
from blackboard.engine import open_engine, stop_local
from blackboard.errors import BadInput, EngineUnavailable
from blackboard.testing import RedisServer

data_dir = local_support.data_dir
no_given_server = local_support.no_given_server
real = local_support.real


async def test_a_local_server_is_started_labelled_and_left_running(data_dir: Path) -> None:
    engine = await open_engine(data_dir=data_dir)
    assert engine.durability == "local"
    assert engine.url.startswith("unix:///")
    assert engine.label.startswith("local redis-server ") or engine.label.startswith("local valkey-server ")
    first = pid_of(data_dir)
    await engine.close()
    again = await open_engine(data_dir=str(data_dir))
    assert await again.client().ping()
    assert pid_of(data_dir) == first
    await again.close()


async def test_the_data_directory_comes_from_the_environment(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBITER_DATA_DIR", str(data_dir))
    engine = await open_engine()
    assert str(data_dir / "redis") in engine.label
    await engine.close()
    assert stop_local()


async def test_the_local_server_writes_every_change_and_drops_no_key(data_dir: Path) -> None:
    engine = await open_engine(data_dir=data_dir)
    config = await engine.client().config_get()
    assert {name: config[name] for name in ("appendonly", "appendfsync", "save", "maxmemory-policy", "port")} == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "port": "0",
    }
    await engine.close()


async def test_writes_go_to_disk_at_once_on_request_and_whoever_starts_the_server_keeps_to_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opened(durability: Any = None) -> tuple[str, str]:
        engine = await open_engine(data_dir=data_dir, durability=durability)
        try:
            told = await engine.client().config_get("appendfsync")
            return engine.durability, told["appendfsync"]
        finally:
            await engine.close()

    assert await opened() == ("local", "everysec")
    assert await opened("local-sync") == ("local-sync", "always"), "the running server is told"
    assert await opened() == ("local-sync", "always"), "nobody lowers it by saying nothing"
    kill(data_dir)
    assert await opened() == ("local-sync", "always"), "nor by bringing the server back"
    assert await opened("local") == ("local", "everysec")
    stop_local(data_dir)
    monkeypatch.setenv("ARBITER_DURABILITY", "local-sync")
    assert await opened() == ("local-sync", "always")
    monkeypatch.setenv("ARBITER_DURABILITY", "sync")
    with pytest.raises(BadInput, match="Use local or local-sync"):
        await opened()
    with pytest.raises(BadInput, match="It is a setting of the local server"):
        await open_engine("memory://", durability="local-sync")


async def test_the_record_never_promises_more_than_the_server_does(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await count(data_dir)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_local, "_log_writes", dies)
        with pytest.raises(KeyboardInterrupt):
            _local.start(data_dir, True)
    assert _local.start(data_dir).sync is False
    assert _local.start(data_dir, True).sync is True
    with monkeypatch.context() as patched:
        patched.setattr(_local, "_log_writes", dies)
        with pytest.raises(KeyboardInterrupt):
            _local.start(data_dir, False)
    assert _local.start(data_dir).sync is False


def test_eight_processes_opening_one_directory_share_one_server(data_dir: Path) -> None:
    code = """
        import asyncio, sys
        from blackboard.engine import open_engine
        async def main():
            print("ready", flush=True)
            sys.stdin.readline()
            engine = await open_engine(data_dir=sys.argv[1])
            await engine.client().incr("n")
            print((await engine.client().info("server"))["process_id"], flush=True)
            await engine.close()
        asyncio.run(main())
    """
    openers = [run_python(code, str(data_dir)) for _ in range(8)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    servers = {opener.communicate(timeout=60)[0].strip() for opener in openers}
    assert [opener.returncode for opener in openers] == [0] * 8
    assert servers == {str(pid_of(data_dir))}
    assert asyncio.run(count(data_dir)) == 9


async def test_threads_racing_to_open_share_one_server(data_dir: Path) -> None:
    found = await asyncio.gather(*(open_engine(data_dir=data_dir) for _ in range(8)))
    servers = {(await engine.client().info("server"))["process_id"] for engine in found}
    assert len(servers) == 1
    for engine in found:
        await engine.close()


async def test_two_directories_have_two_servers_and_two_databases(tmp_path: Path, data_dir: Path) -> None:
    other = tmp_path / "other"
    assert await count(data_dir) == 1
    assert await count(other) == 1
    assert pid_of(data_dir) != pid_of(other)


async def test_a_link_to_a_data_directory_leads_to_the_same_server(tmp_path: Path, data_dir: Path) -> None:
    assert await count(data_dir) == 1
    (tmp_path / "link").symlink_to(data_dir)
    assert await count(tmp_path / "link") == 2


async def test_a_killed_server_is_brought_back_with_its_data_on_the_same_socket(data_dir: Path) -> None:
    engine = await open_engine(data_dir=data_dir)
    command, beat = engine.client(), engine.sync_client()
    assert await command.incr("n") == 1
    beat.ping()
    while (await command.info("persistence"))["aof_buffer_length"]:  # not written while an earlier part is being synced
        await asyncio.sleep(0)
    kill(data_dir)
    with pytest.raises(redis.ConnectionError):
        await command.incr("n")
    await engine.ensure()
    assert await command.incr("n") == 2
    with contextlib.suppress(redis.ConnectionError):  # its connection was to the server that died
        beat.ping()
    assert beat.get("n") == "2"
    before = pid_of(data_dir)
    await engine.ensure()
    assert pid_of(data_dir) == before
    await engine.close()


async def test_ensuring_an_engine_of_a_url_starts_nothing() -> None:
    with RedisServer() as running:
        engine = await open_engine(running.url)
        running.kill9()
        await engine.ensure()
        with pytest.raises(redis.ConnectionError):
            await engine.client().ping()
        await engine.close()


async def test_a_server_outlives_the_process_that_started_it(data_dir: Path) -> None:
    code = """
        import asyncio, sys
        from blackboard.engine import open_engine
        async def main():
            engine = await open_engine(data_dir=sys.argv[1])
            await engine.client().incr("n")
            print("ready", flush=True)
            sys.stdin.readline()
        asyncio.run(main())
    """
    starter = run_python(code, str(data_dir))
    assert starter.stdout is not None
    assert starter.stdout.readline() == "ready\n"
    server = pid_of(data_dir)
    starter.kill()
    starter.communicate()
    assert await count(data_dir) == 2
    assert pid_of(data_dir) == server
    assert os.getsid(server) != os.getsid(0)


def test_a_server_is_given_no_secret_of_its_starters_environment(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(wrapper(tmp_path, real)))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "hunter2")
    _local.start(data_dir)
    assert "hunter2" not in (tmp_path / "environment").read_text()
    assert "LC_ALL=C" in (tmp_path / "environment").read_text()


def test_a_server_comes_back_on_the_socket_it_had_even_when_another_place_is_free_now(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="arb-x-"))
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        with monkeypatch.context() as patch:
            make_private = _socket_place.make_private
            patch.setattr(
                _socket_place, "make_private", lambda at: make_private(at) if runtime in at.parents else "taken"
            )
            first = _local.start(data_dir)
        assert first.socket.startswith(str(runtime))
        kill(data_dir)
        assert _local.start(data_dir).socket == first.socket
        stop_local(data_dir)
    finally:
        shutil.rmtree(runtime)


@pytest.mark.parametrize("moment", ["_launch", "_finish"])
async def test_the_next_opener_finishes_what_a_killed_starter_began(data_dir: Path, moment: str) -> None:
    assert await count(data_dir) == 1
    kill(data_dir)
    code = """
        import os, signal, sys
        from pathlib import Path
        from blackboard import _local
        setattr(_local, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        _local.start(Path(sys.argv[1]))
    """
    starter = run_python(code, str(data_dir), moment)
    starter.communicate(timeout=30)
    assert starter.returncode == -signal.SIGKILL
    assert DataDir(data_dir).read().starting is not None
    assert await count(data_dir) == 2
    assert DataDir(data_dir).read().starting is None


async def test_a_server_that_lost_its_socket_is_replaced_without_losing_data(data_dir: Path) -> None:
    engine = await open_engine(data_dir=data_dir)
    await engine.client().incr("n")
    first = pid_of(data_dir)
    os.unlink(engine.url.removeprefix("unix://"))
    assert await count(data_dir) == 2
    assert pid_of(data_dir) != first
    await engine.ensure()
    await engine.close()


async def test_a_directory_in_use_by_an_unreachable_server_is_never_opened_twice(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await count(data_dir) == 1
    directory = DataDir(data_dir)
    record = directory.read()
    assert record.server is not None
    hidden = record.server.model_copy(update={"socket": "/nowhere/other-container.sock"})
    directory.write(record.model_copy(update={"server": hidden}))
    with pytest.raises(EngineUnavailable, match=f"cannot be reached from here.*kill {pid_of(data_dir)}"):
        await open_engine(data_dir=data_dir)
    directory.write(record)
    assert await count(data_dir) == 2


async def test_a_server_that_hangs_is_reported_and_not_doubled(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_local, "STOP_SECONDS", 0.2)
    assert await count(data_dir) == 1
    server = pid_of(data_dir)
    monkeypatch.setattr(_local, "_answers", lambda _socket: False)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(EngineUnavailable, match="runs but does not answer"):
            await open_engine(data_dir=data_dir)
    finally:
        os.kill(server, signal.SIGCONT)
    monkeypatch.undo()
    assert pid_of(data_dir) == server


# -- stopping ----------------------------------------------------------------------------------------------------------


async def test_stopping_ends_the_server_keeps_the_data_and_says_whether_there_was_one(data_dir: Path) -> None:
    assert stop_local(data_dir) is False
    assert data_dir.name not in os.listdir(data_dir.parent)
    assert await count(data_dir) == 1
    assert stop_local(data_dir) is True
    assert not DataDir(data_dir).server_lives()
    assert stop_local(data_dir) is False
    assert await count(data_dir) == 2


def test_starting_leaves_no_child_and_no_thread_behind(data_dir: Path) -> None:
    before = threading.active_count()
    _local.start(data_dir)
    assert threading.active_count() == before
    parent = int(Path(f"/proc/{pid_of(data_dir)}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
