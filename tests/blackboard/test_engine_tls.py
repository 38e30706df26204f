"""A server with TLS where the URL names none, and the other way round."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from blackboard.engine import open_engine
from blackboard.errors import EngineUnavailable
from blackboard.testing import RedisServer


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server's side, with a certificate of its own making."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test")
    folder = tmp_path_factory.mktemp("tls")
    made = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", *made],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def listening(encrypted: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Host and port of something that answers nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=encrypted)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def refusal(url: str) -> str:
    with pytest.raises(EngineUnavailable) as refused:
        await open_engine(url, connect_seconds=0.1)
    return str(refused.value)


@pytest.mark.parametrize("password", [None, "secret"])
async def test_a_server_without_tls_is_told_apart_from_none(password: str | None) -> None:
    with RedisServer(tcp=True, password=password) as server:
        url = server.url.replace("redis://", "rediss://")
        assert "It answers without TLS: write redis://" in await refusal(url)
        cluster = url.replace("rediss://", "rediss+cluster://")
        assert "It answers without TLS: write redis+cluster://" in await refusal(cluster)


async def test_a_server_with_tls_is_told_apart_from_none(encrypted: ssl.SSLContext) -> None:
    async with listening(encrypted) as place:
        assert "It speaks TLS: write rediss://" in await refusal(f"redis://{place}")
        assert "It speaks TLS: write rediss+sentinel://" in await refusal(f"redis+sentinel://{place}/main")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_what_answers_in_neither_way_is_no_server(scheme: str) -> None:
    async with listening(None) as place:
        assert "Start it, correct the URL" in await refusal(f"{scheme}://{place}")
    assert "Start it, correct the URL" in await refusal(f"{scheme}://{place}")
