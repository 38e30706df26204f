"""Where the local server keeps its files and its socket, and who may reach them."""

from __future__ import annotations

import os
from pathlib import Path

import local_support
import pytest
from local_support import count, mode

from blackboard import _socket_place
from blackboard.engine import open_engine, stop_local
from blackboard.errors import BadInput, EngineUnavailable

data_dir = local_support.data_dir
no_given_server = local_support.no_given_server


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
