"""Is this server, and this machine's way to it, fit for a board? Each answer is a line with a remedy.

Nothing is written to the board that is asked about. Managed services refuse some questions; a question that was refused
is a warning, never a failure.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast

import redis

from blackboard import _binary, _keys, _script
from blackboard._datadir import DataDir
from blackboard._probe import FLOORS, spelled, version
from blackboard.board import FORMAT
from blackboard.engine import Engine, open_engine
from blackboard.errors import ArbiterError
from blackboard.types import Record

CLOCK_SECONDS = 2.0
"""Difference of the clocks from which on people are told."""
MEMORY_WARN, MEMORY_FAIL = 0.75, 0.95
"""Used parts of the server's memory."""


class Finding(Record):
    """One answer."""

    name: str
    level: Literal["ok", "warn", "fail"]
    said: str
    remedy: str = ""
    """What to do; empty when it is well."""


def ok(name: str, said: str) -> Finding:
    return Finding(name=name, level="ok", said=said)


def warn(name: str, said: str, remedy: str) -> Finding:
    return Finding(name=name, level="warn", said=said, remedy=remedy)


def fail(name: str, said: str, remedy: str) -> Finding:
    return Finding(name=name, level="fail", said=said, remedy=remedy)


def local_server(url: str | None, data_dir: Path | str | None) -> Finding:
    """Whether a local server could be started, and which program the data is pinned to."""
    name = "local server"
    if url or os.environ.get("ARBITER_REDIS_URL"):
        return ok(name, "not needed: a URL names the server")
    folder = Path(data_dir or os.environ.get("ARBITER_DATA_DIR") or Path.home() / ".arbiter").expanduser()
    try:
        record = DataDir(folder).read()
        writer = record.server.binary if record.server is not None else None
        chosen = _binary.choose(writer)
    except ArbiterError as error:
        return fail(name, str(error), _binary.INSTALL)
    pinned = "the data is pinned to it" if writer is not None and writer.path == chosen.path else "no data yet"
    if writer is not None and writer.path != chosen.path:
        pinned = f"the data was last written by {writer} at {writer.path}"
    return ok(name, f"{chosen} at {chosen.path}; {pinned}")


async def server(
    url: str | None, data_dir: Path | str | None, namespace: str, board: str
) -> AsyncGenerator[Finding, None]:
    """Connect, and look at everything a board needs of its server."""
    try:
        engine = await open_engine(url, data_dir=data_dir)
    except ArbiterError as error:
        yield fail("connection", str(error), "See the message; --url names another server.")
        return
    try:
        yield ok("connection", engine.label)
        client = cast(Any, engine.client())
        info = await _info(client)
        if engine.durability == "memory":
            yield ok("server", "fakeredis in this process")
        else:
            yield _version(info)
            yield _persistence(info)
            yield _eviction(info)
            yield _memory(info)
        yield _durability(engine)
        yield await _clock(client)
        yield await _format(client, namespace, board)
        yield await _scripts(client)
    finally:
        await engine.close()


async def _info(client: Any) -> Mapping[str, Any]:
    try:
        told: Mapping[str, Any] = await client.info()
    except (redis.RedisError, NotImplementedError):
        return {}
    if told and "redis_version" not in told and all(isinstance(one, dict) for one in told.values()):
        return cast("Mapping[str, Any]", next(iter(told.values())))  # a cluster answers by node
    return told


def _version(info: Mapping[str, Any]) -> Finding:
    kind = "valkey" if "valkey_version" in info else "redis"
    number = version(str(info.get(f"{kind}_version", "")))
    if not number:
        return warn("server", "it does not tell its version", f"Make sure it is at least {_floors()}.")
    if number < FLOORS[kind]:
        return fail("server", f"{kind} {spelled(number)}", f"Upgrade it to at least {_floors()}.")
    return ok("server", f"{kind} {spelled(number)}; at least {_floors()} is needed")


def _floors() -> str:
    return " or ".join(f"{kind} {spelled(floor)}" for kind, floor in FLOORS.items())


def _persistence(info: Mapping[str, Any]) -> Finding:
    if "aof_enabled" not in info:
        return warn("persistence", "it does not tell", "Make sure that it writes an append-only file.")
    if str(info["aof_enabled"]) != "1":
        return warn("persistence", "no append-only file: a restart loses runs", "CONFIG SET appendonly yes")
    if str(info.get("aof_last_write_status", "ok")) != "ok":
        return fail("persistence", "the last write of the append-only file failed", "Make room on the server's disk.")
    if _loaded(info):
        said = "append-only file, as it was when the server came back: after a crash it may end in half a script"
        return warn("persistence", said, "BGREWRITEAOF, or the restart after the next may do that half.")
    return ok("persistence", "append-only file")


def _loaded(info: Mapping[str, Any]) -> bool:
    """Whether a Redis still adds to the file it found when it started. Valkey does not do half a script.

    A file that was there has a size the next rewriting is measured by; of one begun empty that is 0. Whether the server had
    been killed or told to stop it does not say.
    """
    written = int(info.get("aof_last_rewrite_time_sec", 0)) >= 0 or int(info.get("aof_rewrite_in_progress", 0))
    return "valkey_version" not in info and int(info.get("aof_base_size", 0)) > 0 and not written


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy, bound = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory", 0) or 0)
    remedy = "CONFIG SET maxmemory-policy noeviction"
    if not policy:
        return warn("eviction", "it does not tell", f"Make sure of it: {remedy}")
    if policy == "noeviction":
        return ok("eviction", "noeviction")
    if bound:
        return fail("eviction", f"{policy}: runs are dropped when its memory is full", remedy)
    return warn("eviction", f"{policy}, without effect while maxmemory is not set", remedy)


def _memory(info: Mapping[str, Any]) -> Finding:
    used, bound = int(info.get("used_memory", 0) or 0), int(info.get("maxmemory", 0) or 0)
    limit = bound or int(info.get("total_system_memory", 0) or 0)
    if not used or not limit:
        return warn("memory", "it does not tell", "Watch it where the server runs.")
    part = used / limit
    said = f"{_size(used)} of {_size(limit)}{'' if bound else ' of the machine, maxmemory is not set'}"
    remedy = "Remove finished runs (arbiter prune), keep fewer (arbiter serve --keep), or give it more memory."
    if part >= MEMORY_FAIL:
        return fail("memory", said, remedy)
    return warn("memory", said, remedy) if part >= MEMORY_WARN else ok("memory", said)


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def _durability(engine: Engine) -> Finding:
    if engine.durability == "memory":
        return warn("durability", "memory: lasts as long as this process", "Give a URL, or none for a local server.")
    return ok("durability", engine.durability)


async def _clock(client: Any) -> Finding:
    try:
        before = time.time()
        seconds, micros = await client.time()
        after = time.time()
    except (redis.RedisError, NotImplementedError, ValueError) as error:
        return warn("clock", f"it does not tell: {error}", "Only the server's clock counts; keep it right.")
    apart = seconds + micros / 1_000_000 - (before + after) / 2
    said = f"the server's is {abs(apart):.3f} s {'ahead of' if apart > 0 else 'behind'} this one"
    if abs(apart) - (after - before) / 2 > CLOCK_SECONDS:
        remedy = (
            "Set the clocks by NTP: deadlines count on the server's, ages in --where and signatures of AWS on this one."
        )
        return warn("clock", said, remedy)
    return ok("clock", said)


async def _format(client: Any, namespace: str, board: str) -> Finding:
    try:
        found: str | None = await client.hget(_keys.meta(namespace, board), "format")
    except redis.RedisError as error:
        return fail("board", str(error), "Let this user read and write keys that begin with arb:.")
    if found is None:
        return ok("board", f"{namespace}/{board} is new")
    if found != FORMAT:
        remedy = "Use the version that made it, or export its runs with that version and import them into a new board."
        return fail("board", f"{namespace}/{board} has format {found}, this version reads {FORMAT}", remedy)
    return ok("board", f"{namespace}/{board} has format {found}")


async def _scripts(client: Any) -> Finding:
    folder = files("blackboard") / "lua"
    every = sorted(file.name.removesuffix(".lua") for file in folder.iterdir() if file.name.endswith(".lua"))
    preludes = {name for name in every if name.startswith("_")}
    names = [name for name in every if name not in preludes]
    try:
        for name in names:
            own = f"_{name.partition('_')[0]}"
            await client.script_load(_script.load(name, own if own in preludes else "_board").text)
    except redis.RedisError as error:
        remedy = "The server must allow EVALSHA, EVAL and SCRIPT LOAD to this user."
        return fail("scripts", f"it refuses to load scripts: {error}", remedy)
    return ok("scripts", f"{len(names)} loaded")
