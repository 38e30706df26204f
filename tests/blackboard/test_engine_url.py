"""A board's URL: what is refused and how, how a server is looked at, and the rules its clients follow."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from blackboard import engine as engine_module
from blackboard._probe import version
from blackboard.engine import Engine, open_engine
from blackboard.errors import BadInput, EngineUnavailable, MissingExtra
from blackboard.testing import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Engine]:
    engine = await open_engine(url)
    try:
        yield engine
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redi://localhost:6379/0", "Did you mean redis://"),
        ("http://localhost", "Write redis://"),
        ("localhost:6379", "Write redis://"),
        ("", "Write redis://"),
        ("redis://", "host is missing"),
        ("redis:///0", "host is missing"),
        ("redis://localhost:0", "port"),
        ("redis://localhost:99999", "port"),
        ("redis://localhost:six", "port"),
        ("redis://[::1", "port"),
        ("redis://localhost/main", "database is a number"),
        ("redis://localhost/-1", "database is a number"),
        ("redis://localhost?db=x", "database is a number"),
        ("redis://localhost/0?db=1", "named twice"),
        ("redis://user:a#b@localhost", "%23|#"),
        ("redis://localhost/0#x", "%23"),
        ("redis://localhost?retry_on_timeout=yes", "retry_on_timeout is unknown"),
        ("redis://localhost?pasword=x", "Did you mean password"),
        ("redis://localhost?ssl_ca_certs=/x", "use rediss://"),
        ("rediss://localhost?ssl_ca_certs=/no/such/file", "there is no /no/such/file"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "required"),
        ("redis://localhost?socket_connect_timeout=soon", "seconds"),
        ("unix://tmp/redis.sock", "three slashes"),
        ("unix://", "path is missing"),
        ("unix:///" + "x" * 120, "107 bytes"),
        ("redis+sentinel://localhost", "Name the service"),
        ("redis+sentinel://a:1,b:2/", "Name the service"),
        ("redis+sentinel://a:1,b:2/main/x", "database is a number"),
        ("redis+cluster://", "host:port,host:port"),
        ("redis+cluster://a:1,b:0", "ports from 1"),
        ("redis+cluster://a:1,,b:2", "host:port,host:port"),
        ("redis+cluster://a:1/3", "only database 0"),
        ("redis+cluster://a:1?db=2", "only database 0"),
        ("redis+cluster://a:1?sentinel_password=x", "for redis\\+sentinel"),
        ("redis+cluster://a:1?ssl_ca_certs=/x", "use rediss"),
        ("redis+clutser://a:1", "Did you mean redis\\+cluster://"),
        ("memory://a b", "memory://name"),
    ],
)
async def test_a_malformed_url_is_refused_with_field_value_and_remedy(url: str, remedy: str) -> None:
    with pytest.raises(BadInput, match=remedy) as refused:
        await open_engine(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:none/0",
        "redis://user:hunter2@localhost/none",
        "redis://user:hun/hunter2@localhost",
        "redis://user:hun#hunter2@localhost",
        "redis://user:hun@hunter2@localhost:none",
        "redis://:hunter2/0",
        "redis://default:hunter2",
        "redis://hunter2@localhost:none",
        "redi://:hunter2@localhost",
        "redis://localhost?password=hunter2&nonsense=1",
        "rediss://localhost?ssl_password=hunter2&nonsense=1",
        "unix://:hunter2@tmp/x",
        "user:hunter2@localhost",
        "redis+cluster://user:hunter2@a:1,b:0",
        "redis+cluster://user:hunter2@a:1,b:2/7",
        "redis+sentinel://:hunter2@a:1,b:2",
        "redis+sentinel://a:1,b:2/main?sentinel_password=hunter2&nonsense=1",
    ],
)
async def test_a_refusal_never_shows_the_password(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        await open_engine(url)
    assert "hunter2" not in f"{refused.value} {refused.value!r} {refused.value.value}"


async def test_an_engine_never_shows_its_password_and_uses_it() -> None:
    with RedisServer(password="hunter/2@") as running:
        async with opened(running.url) as engine:
            assert await engine.client().ping()
            assert "hunter" not in f"{engine!r} {engine.url} {engine.label} {vars(engine)}"
            assert engine.url == f"unix://:***@{running.socket}"
            assert engine.durability == "unknown"


async def test_wrong_credentials_are_reported_at_once_and_without_the_password() -> None:
    with RedisServer(password="right") as running:
        for url in (running.url.replace("right", "hunter2"), running.url.replace(":right@", "")):
            began = time.monotonic()
            with pytest.raises(EngineUnavailable, match="refused the credentials") as refused:
                await open_engine(url, connect_seconds=30)
            assert time.monotonic() - began < 25
            assert "hunter2" not in str(refused.value)


async def test_a_database_the_server_does_not_have_is_bad_input(server: RedisServer) -> None:
    with pytest.raises(BadInput, match="no such database"):
        await open_engine(f"{server.url}?db=99")


async def test_the_environment_names_the_server_when_no_url_is_given(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ARBITER_REDIS_URL", server.url)
    engine = await open_engine(data_dir=tmp_path / "unused")
    assert engine.url == server.url
    assert not (tmp_path / "unused").exists()
    await engine.close()


# -- looking at the server ---------------------------------------------------------------------------------------------


Answers = Callable[[list[str]], str]


@asynccontextmanager
async def speaking(answer: Answers) -> AsyncIterator[str]:
    """A listener that answers each command as told: stands for servers that cannot be installed here."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                parts: list[str] = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    parts.append((await reader.readexactly(size + 2))[:-2].decode())
                writer.write(answer(parts).encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
    finally:
        listener.close()


def claiming(info: str | None) -> Answers:
    def answer(parts: list[str]) -> str:
        match parts[0].upper():
            case "PING":
                return "+PONG\r\n"
            case "INFO" if info is not None:
                return f"${len(info)}\r\n{info}\r\n"
            case "CLIENT" | "SELECT":
                return "+OK\r\n"
            case _:
                return "-NOPERM this user has no permissions to run it\r\n"

    return answer


@pytest.mark.parametrize(
    ("info", "found", "needed"),
    [
        ("redis_version:6.0.16\r\nredis_mode:standalone\r\n", "redis 6.0.16", "6.2"),
        ("redis_version:2.8.0\r\n", "redis 2.8.0", "6.2"),
        ("redis_version:7.2.4\r\nvalkey_version:7.1.0\r\nserver_name:valkey\r\n", "valkey 7.1.0", "7.2"),
    ],
)
async def test_a_server_below_the_floor_is_refused_with_both_versions(info: str, found: str, needed: str) -> None:
    async with speaking(claiming(info)) as url:
        with pytest.raises(EngineUnavailable, match=rf"is {found}; at least \w+ {needed} is needed"):
            await open_engine(url)


async def test_a_valkey_is_known_by_its_own_version() -> None:
    async with speaking(claiming("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n")) as url, opened(url) as engine:
        assert engine.label.startswith("valkey 8.1.1 at redis://")


async def test_something_that_is_not_redis_is_called_that() -> None:
    async with speaking(lambda _parts: "HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(EngineUnavailable, match="does not speak Redis"):
            await open_engine(url, connect_seconds=1)


async def test_a_server_that_refuses_every_question_is_accepted() -> None:
    async with speaking(claiming(None)) as url, opened(url) as engine:
        assert engine.label.startswith("Redis of unknown version at")


async def test_the_version_is_read_from_hello_when_info_is_refused(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app2", "on", ">pw", "~*", "&*", "+@all", "-info")
        said = client.info()
    async with opened(f"unix://app2:pw@{server.socket}") as engine:
        kind = "valkey" if "valkey_version" in said else "redis"
        assert f"{kind} {said[f'{kind}_version']} at" in engine.label


@pytest.mark.parametrize(
    ("options", "tcp", "word"),
    [
        (("--cluster-enabled", "yes"), True, r"Write redis\+cluster://127.0.0.1:\d+ instead"),
        (("--replicaof", "127.0.0.1", "1"), False, "replica"),
    ],
)
async def test_a_server_no_board_can_live_on_is_refused(options: tuple[str, ...], tcp: bool, word: str) -> None:
    with RedisServer(tcp=tcp, options=options) as running, pytest.raises(EngineUnavailable, match=word):
        await open_engine(running.url)


async def test_a_server_that_may_evict_keys_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    options = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING), RedisServer(options=options) as running:
        async with opened(running.url):
            pass
    assert "allkeys-lru" in caplog.text
    assert "Set maxmemory-policy noeviction" in caplog.text


async def test_a_server_without_append_only_file_is_labelled() -> None:
    with RedisServer(options=("--appendonly", "no")) as running:
        async with opened(running.url) as engine:
            assert "a restart loses data" in engine.label


def test_versions_are_read_from_any_spelling() -> None:
    assert version("Redis server v=7.0.15 sha=0:0") == (7, 0, 15)
    assert version("7.2.4-rc1") == (7, 2, 4)
    assert version("unknown") == ()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    unused = RedisServer(tcp=True)
    port = unused.port
    unused.stop()
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    try:
        with RedisServer(options=(*options, "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no")):
            yield port, certificate
    except EngineUnavailable:
        pytest.skip("this server was built without TLS")


async def test_tls_parameters_reach_the_client(tls_server: tuple[int, Path]) -> None:
    port, certificate = tls_server
    async with opened(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}") as engine:
        assert await engine.client().ping()
        with engine.sync_client() as client:
            assert client.ping()


async def test_a_certificate_nobody_vouches_for_is_refused_at_once(tls_server: tuple[int, Path]) -> None:
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"certificate .*ssl_ca_certs"):
        await open_engine(f"rediss://localhost:{tls_server[0]}/0", connect_seconds=30)
    assert time.monotonic() - began < 25


# -- the rules for clients -----------------------------------------------------------------------------------------


async def test_a_call_that_is_not_answered_is_never_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "COMMAND_SECONDS", 0.2)
    sent: list[str] = []

    def silent(parts: list[str]) -> str:
        sent.extend(parts[1:2] if parts[0].startswith("INCR") else ())
        return "" if parts[0].startswith("INCR") else claiming("redis_version:7.0.15\r\n")(parts)

    async with speaking(silent) as url, opened(url) as engine:
        while "async" not in sent:  # the time may be up before anything was sent
            with pytest.raises(redis.TimeoutError):
                await engine.client().incr("async")
        while "sync" not in sent:
            with pytest.raises(redis.TimeoutError):
                await asyncio.to_thread(engine.sync_client(timeout_seconds=0.2).incr, "sync")
    assert sent == ["async", "sync"]


async def test_a_blocking_client_outwaits_the_command_timeout(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "COMMAND_SECONDS", 0.2)
    async with opened(server.url) as engine:
        waiting = asyncio.create_task(engine.blocking_client(60).blpop(["something"], timeout=60))  # type: ignore[arg-type]
        with pytest.raises(redis.TimeoutError):
            await engine.client().blpop(["nothing"], timeout=60)
        with server.client() as other:
            other.rpush("something", "here")
        assert (await waiting)[1] == "here"


async def test_more_calls_than_connections_wait_instead_of_failing(server: RedisServer) -> None:
    async with opened(server.url) as engine:
        assert await asyncio.gather(*(engine.client().echo(str(i)) for i in range(500))) == [str(i) for i in range(500)]
        blocked = engine.blocking_client(1)
        assert await asyncio.gather(*(blocked.blpop(["nothing"], timeout=0.3) for _ in range(150))) == [None] * 150


async def test_replies_are_text_and_plain_lists(server: RedisServer) -> None:
    async with opened(server.url) as engine:
        client = engine.client()
        await client.xadd("plain", {"a": "é"}, id="1-1")
        assert await client.xread({"plain": "0"}) == [["plain", [("1-1", {"a": "é"})]]]
        assert await client.eval("return redis.call('HGETALL', KEYS[1])", 1, "none") == []


async def test_closing_an_engine_closes_its_connections_and_leaves_the_server(server: RedisServer) -> None:
    engine = await open_engine(server.url)
    with server.client() as watcher:
        before = watcher.info("clients")["connected_clients"]
        command, blocking, sync = engine.client(), engine.blocking_client(1), engine.sync_client()
        await asyncio.gather(command.ping(), blocking.ping())
        sync.ping()
        assert watcher.info("clients")["connected_clients"] > before
        await engine.close()
        async with asyncio.timeout(30):
            while watcher.info("clients")["connected_clients"] > before:
                await asyncio.sleep(0.01)
        assert watcher.ping()


async def test_a_missing_reply_parser_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match="pip install"):
        await open_engine("redis://localhost")
