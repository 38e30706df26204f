"""Brokered HTTP against real servers on loopback: granted hosts, judged addresses, redirects, caps, and secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from blackboard.errors import BadInput
from blackboard.taint import source
from registry import Grants
from wrapper import fetching
from wrapper.addresses import networks
from wrapper.fetching import ANSWER_BYTES, Fetcher, NotGranted
from wrapper.isolation import BrokerError
from wrapper.secrets import Secrets

SECRET = "s3cr3t/+value=="
HERE = networks(["127.0.0.1"])


class Site(BaseHTTPRequestHandler):
    """Says back what it was asked, redirects where it is told, floods or drips."""

    seen: list[tuple[str, str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        sent = {name.lower(): value for name, value in self.headers.items()}
        type(self).seen.append((self.command, self.path, sent, body))
        path, _, query = self.path.partition("?")
        if path == "/to":
            self.send_response(int(query[:3]))
            self.send_header("Location", query[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "/flood":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(ANSWER_BYTES // 65536 + 40):
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif path == "/crumbs":
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for _ in range(int(query) // 1000):
                    self.wfile.write(b"1\r\nx\r\n" * 1000)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass
        elif path == "/drip":
            try:
                while True:
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    if type(self).over.wait(0.05):
                        return
            except OSError:
                pass
        else:
            content = json.dumps({"path": self.path, "headers": sent, "body": body.decode()}).encode()
            self.send_response(200)
            self.send_header("X-Echo", sent.get("authorization", ""))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_DELETE = do_GET

    over = threading.Event()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, type[Site]]]:
    kind = type("OneSite", (Site,), {"seen": [], "over": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", kind
    kind.over.set()
    server.shutdown()
    server.server_close()


def fetcher(*hosts: str, private: Any = HERE, seconds: float = 10.0, **grants: Any) -> Fetcher:
    return Fetcher(Grants(http_hosts=hosts, **grants), Secrets({"TOKEN": SECRET}), private, seconds)


async def got(one: Fetcher, url: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    answer: Any = await one.fetch({"url": url, **more})
    return answer, json.loads(base64.b64decode(answer["body"]))


async def refused(one: Fetcher, url: str, **more: Any) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await one.fetch({"url": url, **more})
    return caught.value


async def test_a_granted_host_answers_and_nothing_of_this_process_goes_along(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, kind = site
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    answer, said = await got(fetcher(host), f"http://{host}/a?b=1", headers={"X-One": "1"})
    assert (answer["status"], answer["url"], said["path"]) == (200, f"http://{host}/a?b=1", "/a?b=1")
    assert set(said["headers"]) == {"host", "x-one", "user-agent", "accept", "accept-encoding"}
    one = fetcher(host, http_methods=("POST",))
    _, said = await got(one, f"http://{host}/", method="POST", body=base64.b64encode(b"hello").decode())
    assert (said["body"], kind.seen[-1][0]) == ("hello", "POST")


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://other.example/", {}),
        ("http://127.0.0.1/", {}),
        ("http://127.0.0.1:1/", {}),
        ("http://HOST/", {"method": "DELETE"}),
        ("http://HOST/", {"headers": {"x": "{{secret:TOKEN}}"}}),
        ("http://HOST/?x={{secret:OTHER}}", {}),
    ],
)
async def test_what_is_not_declared_is_more_than_was_granted(
    site: tuple[str, type[Site]], url: str, more: dict[str, Any]
) -> None:
    host, kind = site
    assert isinstance(await refused(fetcher(host), url.replace("HOST", host), **more), NotGranted)
    assert kind.seen == []


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("ftp://HOST/", {}),
        ("HOST/", {}),
        ("http://user:pass@HOST/", {}),
        ("http://HOST/\r\nX: 1", {}),
        ("http://HOST\\@evil/", {}),
        ("http://h\u00f6st/", {}),
        ("http://HOST/", {"headers": {"Host": "evil"}}),
        ("http://HOST/", {"headers": {"X": "a\r\nY: b"}}),
        ("http://HOST/", {"headers": {"Transfer-Encoding": "chunked"}}),
        ("http://HOST/", {"headers": {"Proxy-Authorization": "x"}}),
        ("http://HOST/", {"method": "get"}),
        ("http://HOST/", {"body": "not base64!"}),
        ("http://HOST/", {"seconds": -1}),
        ("http://HOST/", {"seconds": -(10**400)}),
        ("http://HOST/", {"verify": False}),
        ("http://HOST/{{secret:TOKEN}}", {}),
    ],
)
async def test_what_is_no_request_is_refused_before_anything_is_sent(
    site: tuple[str, type[Site]], url: str, more: dict[str, Any]
) -> None:
    host, kind = site
    error = await refused(fetcher(host, secrets=("TOKEN",)), url.replace("HOST", host), **more)
    assert (error.type, isinstance(error, NotGranted)) == ("bad_request", False)
    assert kind.seen == []


async def test_an_ipv6_address_is_granted_in_brackets_however_the_url_writes_it() -> None:
    class Six(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    kind = type("SixSite", (Site,), {"seen": []})
    try:
        server = Six(("::1", 0), kind)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"[::1]:{server.server_address[1]}"
        one = Fetcher(
            Grants(http_hosts=(place,), secrets=(f"TOKEN@{place}",)), Secrets({"TOKEN": SECRET}), networks(["::1"])
        )
        asked = {"url": f"http://{place.replace('::1', '0:0::1')}/x", "headers": {"Authorization": "{{secret:TOKEN}}"}}
        answer: Any = await one.fetch(cast(Any, asked))
        assert (answer["status"], answer["url"]) == (200, f"http://{place}/x")
        assert kind.seen[0][2]["host"] == place
        assert kind.seen[0][2]["authorization"] == SECRET
        assert one.reached == {source("http", place)}
        error = await refused(Fetcher(Grants(http_hosts=(place,)), Secrets({})), f"http://{place}/")
        assert "this machine" in error.message
        for other in (f"http://[::2]:{server.server_address[1]}/", "http://[::1]/"):
            assert isinstance(await refused(one, other), NotGranted)
        assert (await refused(one, f"http://[::1%25lo]:{server.server_address[1]}/")).type == "bad_request"
    finally:
        server.shutdown()
        server.server_close()


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names mean what the test says, one answer for each question; the last one stays."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host not in ("trusted.example", b"trusted.example"):
            return real(host, port, *args, **more)
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(str(host))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


async def test_a_name_that_is_bound_again_changes_nothing(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once; and the connection goes to the address that was judged, not to what the name means by then."""
    host, kind = site
    port = host.split(":")[1]
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    await got(fetcher(f"trusted.example:{port}"), f"http://trusted.example:{port}/")
    assert len(asked) == 1
    assert kind.seen[-1][2]["host"] == f"trusted.example:{port}"


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"]])
async def test_a_granted_name_at_a_private_address_is_refused(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    host, kind = site
    port = host.split(":")[1]
    resolving(monkeypatch, answer)
    error = await refused(fetcher(f"trusted.example:{port}", private=()), f"http://trusted.example:{port}/")
    assert (error.type, isinstance(error, NotGranted)) == ("denied", False)
    assert "127.0.0.1" not in error.message, "the code does not learn how names resolve here"
    assert kind.seen == []


async def test_redirects_are_followed_only_to_where_a_request_could_go(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, kind = site
    answer, said = await got(fetcher(host), f"http://{host}/to?302:/there?x=1", seconds=10**400)
    assert (answer["url"], said["path"]) == (f"http://{host}/there?x=1", "/there?x=1")
    for place in ("http://169.254.169.254/latest/meta-data", "http://other.example/", "http://127.0.0.1:1/", "//evil/"):
        error = await refused(fetcher(host), f"http://{host}/to?302:{place}")
        assert (error.type, isinstance(error, NotGranted)) == ("denied", False), "the server's doing, not the code's"
    assert (await refused(fetcher(host), f"http://{host}/to?302:file:///etc/passwd")).type == "bad_request"
    assert (await refused(fetcher(host), f"http://{host}/to?302:/to?302:/to")).type
    assert (await refused(fetcher(host), f"http://{host}/to?302:http://[::1")).type == "http", "what is no URL at all"
    resolving(monkeypatch, ["10.0.0.1"])
    port = host.split(":")[1]
    error = await refused(
        fetcher(host, f"trusted.example:{port}"), f"http://{host}/to?307:http://trusted.example:{port}/"
    )
    assert "private" in error.message
    assert all(path.startswith(("/to", "/there")) for _, path, _, _ in kind.seen)


async def test_endless_redirects_end(site: tuple[str, type[Site]]) -> None:
    host, kind = site
    place = f"http://{host}/x"
    for _ in range(12):
        place = f"http://{host}/to?302:{place}"
    assert (await refused(fetcher(host), place)).type == "limit"
    assert len(kind.seen) == 6


async def test_an_answer_that_is_too_large_or_never_ends_is_cut(site: tuple[str, type[Site]]) -> None:
    host, _ = site
    assert (await refused(fetcher(host), f"http://{host}/flood")).type == "limit"
    started = asyncio.get_running_loop().time()
    assert (await refused(fetcher(host, seconds=0.5), f"http://{host}/drip")).type == "timeout"
    assert asyncio.get_running_loop().time() - started < 30, "each byte in time, the whole not"


async def test_an_answer_in_more_pieces_than_it_is_worth_is_cut_and_holds_nobody_up(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = site
    monkeypatch.setattr(fetching, "PARTS", 5_000)
    answer: Any = await fetcher(host).fetch({"url": f"http://{host}/crumbs?4000"})
    assert len(base64.b64decode(answer["body"])) == 4000
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    assert (await refused(fetcher(host), f"http://{host}/crumbs?20000")).type == "limit"
    beside.cancel()
    assert turns > 5_000 // 200, "others had their turn while its pieces were taken"


async def test_names_are_looked_up_without_the_threads_that_others_wait_for(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that never answers keeps a thread; there are as few as the machine has processors."""
    host, _ = site
    name = f"trusted.example:{host.split(':')[1]}"
    answering = threading.Event()
    threads: list[str] = []

    def look_up(*_: Any, **__: Any) -> Any:
        threads.append(threading.current_thread().name)
        answering.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        assert (await refused(fetcher(name, seconds=0.3), f"http://{name}/")).type == "timeout"
    finally:
        answering.set()
    assert [each.partition("_")[0] for each in threads] == ["arbiter-resolver"]


async def test_a_secret_is_filled_in_for_its_host_and_taken_out_of_everything_that_comes_back(
    site: tuple[str, type[Site]], caplog: pytest.LogCaptureFixture
) -> None:
    host, kind = site
    one = fetcher(host, secrets=(f"TOKEN@{host}",))
    with caplog.at_level(logging.DEBUG):
        answer: Any = await one.fetch(
            {"url": f"http://{host}/?key={{{{secret:TOKEN}}}}", "headers": {"Authorization": "Bearer {{secret:TOKEN}}"}}
        )
    _, path, sent, _ = kind.seen[-1]
    assert sent["authorization"] == f"Bearer {SECRET}"
    assert path == "/?key=s3cr3t%2F%2Bvalue%3D%3D"
    told = json.dumps(answer) + base64.b64decode(answer["body"]).decode()
    assert "[secret:TOKEN]" in told
    for form in (SECRET, "s3cr3t%2F%2Bvalue%3D%3D", base64.b64encode(SECRET.encode()).decode()):
        assert form not in told
        assert form not in caplog.text


async def test_a_secret_does_not_follow_a_redirect_to_another_host(
    site: tuple[str, type[Site]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, kind = site
    port = host.split(":")[1]
    resolving(monkeypatch, ["127.0.0.1"])
    other = f"trusted.example:{port}"
    one = fetcher(host, other, secrets=(f"TOKEN@{host}",))
    headers = {"Authorization": "{{secret:TOKEN}}", "X-Plain": "1"}
    await got(one, f"http://{host}/to?307:http://{other}/there", headers=headers)
    assert kind.seen[-1][2]["host"] == other
    assert "authorization" not in kind.seen[-1][2]
    assert kind.seen[-1][2]["x-plain"] == "1"
    error = await refused(one, f"http://{host}/to?307:http://{other}/?k={{{{secret:TOKEN}}}}")
    assert "secret" in error.message
    assert SECRET not in error.message
    assert isinstance(await refused(one, f"http://{other}/", headers=headers), NotGranted)


async def test_a_secret_goes_over_https_only_unless_the_address_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["93.184.216.34"])
    one = fetcher("trusted.example", secrets=("TOKEN",))
    error = await refused(one, "http://trusted.example/", headers={"Authorization": "{{secret:TOKEN}}"})
    assert "https only" in error.message


async def test_a_secret_that_is_not_there_or_unfit_is_told_by_its_handle(site: tuple[str, type[Site]]) -> None:
    host, kind = site
    for value in (None, "abc", "line\nbreak"):
        one = Fetcher(Grants(http_hosts=(host,), secrets=("TOKEN",)), Secrets({"TOKEN": value}.get), HERE)
        error = await refused(one, f"http://{host}/", headers={"X": "{{secret:TOKEN}}"})
        assert (error.type, "TOKEN" in error.message, "break" in error.message) == ("secret", True, False)
    assert kind.seen == []


@pytest.mark.parametrize(
    ("grants", "field"),
    [
        ({"http_methods": ["get"]}, "http_methods"),
        ({"files": ["relative"]}, "files"),
        ({"files": ["/a/x", "/b/x"]}, "files"),
        ({"files": ["x=/a/../b"]}, "files"),
        ({"secrets": ["1x"]}, "secrets"),
        ({"secrets": ["X@api.example.com"]}, "secrets"),
        ({"sockets": ["x"]}, "sockets"),
    ],
)
def test_grants_that_make_no_sense_are_refused_with_field_and_remedy(grants: dict[str, Any], field: str) -> None:
    from registry import Manifest

    with pytest.raises(BadInput) as caught:
        Manifest.of({"name": "x", "description": "x", "input_schema": {"type": "object"}, "grants": grants})
    assert field in caught.value.field


def test_grants_from_before_methods_keep_their_form() -> None:
    assert "http_methods" not in Grants(http_hosts=("a.example",)).model_dump(mode="json")
    assert Grants(http_methods=("POST",)).model_dump(mode="json")["http_methods"] == ["POST"]
    assert Grants(files=("/a/b.csv", "rates=/etc/rates")).inputs() == {"b.csv": "/a/b.csv", "rates": "/etc/rates"}
