"""Health of a daemon over HTTP: live, ready, and not ready while it starts, drains or has no server."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from cli_process import Running

from arbiter.health import Health
from blackboard.errors import BadInput
from blackboard.testing import RedisServer


async def ask(address: str, request: str) -> tuple[int, dict[str, str]]:
    if address.startswith("http://"):
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    else:
        reader, writer = await asyncio.open_unix_connection(address)
    writer.write(request.encode())
    async with asyncio.timeout(30):
        said = (await reader.read()).decode()
    writer.close()
    if not said:
        return 0, {}
    head, _, body = said.partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_ready_says_what_the_check_says_and_live_does_not_ask(kind: str, tmp_path: Path) -> None:
    answer: list[str | Exception | None] = [None]

    async def check() -> str | None:
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    health = Health("0" if kind == "port" else f"{tmp_path}/h", check)
    await health.start()
    assert await ask(health.address, get("/ready")) == (200, {"status": "ready"})
    answer[0] = "draining"
    assert await ask(health.address, get("/ready")) == (503, {"status": "draining"})
    answer[0] = ConnectionError("no server")
    assert await ask(health.address, get("/ready")) == (503, {"status": "ConnectionError: no server"})
    assert await ask(health.address, get("/live")) == (200, {"status": "live"})
    assert (await ask(health.address, "HEAD /live HTTP/1.1\r\n\r\n")) == (200, {})
    assert (await ask(health.address, get("/metrics")))[0] == 404
    assert (await ask(health.address, "POST /live HTTP/1.1\r\n\r\n"))[0] == 405
    assert (await ask(health.address, "x" * 100_000 + "\r\n\r\n"))[0] == 0
    assert await ask(health.address, get("/live")) == (200, {"status": "live"})
    await health.close()
    with pytest.raises(OSError, match=r"."):
        await ask(health.address, get("/live"))


async def test_a_port_that_is_taken_is_refused_with_a_remedy() -> None:
    async def check() -> None:
        return None

    one = Health("0", check)
    await one.start()
    with pytest.raises(BadInput, match="Name a free port"):
        await Health(one.address.rsplit(":", 1)[1], check).start()
    with pytest.raises(BadInput):
        await Health("/no/such/folder/h", check).start()
    await one.close()


async def test_a_daemon_is_ready_until_it_ends(redis_server: RedisServer, board_name: str, tmp_path: Path) -> None:
    socket = str(tmp_path / "h")
    with Running(
        "serve", "--url", redis_server.url, "--board", board_name, "--roles", "wrapper", "--health", socket
    ) as daemon:
        await asyncio.to_thread(daemon.wait_for, "/ready")
        assert await ask(socket, get("/ready")) == (200, {"status": "ready"})
        daemon.signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.end) == 0
    with pytest.raises(OSError, match=r"."):
        await ask(socket, get("/ready"))
