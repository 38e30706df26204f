"""Brokered HTTP: requests of isolated code, made by the wrapper, to granted hosts and to no private address.

The wrapper resolves each name once, judges every address it got, and connects to exactly one that was judged, so a name
cannot mean another address a moment later. Each redirect is judged like a new request. Nothing of this process goes along:
no proxy, cookie, credential or trace header.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urljoin

import certifi
import httpcore
from pydantic import JsonValue

from blackboard.errors import ArbiterError, BadInput
from blackboard.taint import source
from registry import Grants
from registry.hosts import matches
from wrapper.addresses import Address, Network, forbidden
from wrapper.carrying import Carrying, Gate, open_gate
from wrapper.isolation import BrokerError, NotGranted
from wrapper.secrets import PLACEHOLDER, Secrets, redacted, redacted_bytes
from wrapper.targets import Target, target_of

if TYPE_CHECKING:
    from wrapper.uses import Uses

BODY_BYTES = 512 * 1024
"""Largest body of a request."""
ANSWER_BYTES = 2 * 1024 * 1024
"""Largest body of an answer."""
SECONDS = 30.0
"""Longest time of one fetch with all its redirects."""
REDIRECTS = 5
PARTS = 50_000
"""Most pieces that an answer may come in, each of which costs this side more than the one who sends it."""
FETCHES = 100
"""Most fetches of one attempt."""
_HEADER_BYTES = 32 * 1024
_PARTS_AT_ONCE = 200
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive", "expect"}
)
log = logging.getLogger(__name__)
# Its lines quote headers, with what was filled in.
logging.getLogger("httpcore").setLevel(logging.INFO)
_resolvers = ThreadPoolExecutor(8, thread_name_prefix="arbiter-resolver")
"""A name server that does not answer keeps a thread for as long as it likes, and must not keep those that others wait for."""


def _no_such_host(target: Target) -> BrokerError:
    return BrokerError("http", f"There is no host {target.host}.")


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were judged, whatever the name is taken to mean by now."""

    def __init__(self, addresses: Sequence[Address], port: int) -> None:
        self._addresses, self._port = addresses, port
        # Its type is told only where an optional dependency is installed.
        self._backend = cast(httpcore.AsyncNetworkBackend, cast(Any, httpcore).AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failed: Exception | None = None
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(str(address), self._port, timeout=timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("no address")

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("not by path")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@cache
def _trusted(more: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if more is not None:
        context.load_verify_locations(cafile=more)
    return context


class Fetcher:
    """Makes the requests of one attempt.

    Args:
        grants: hosts, methods and secrets of the capability.
        secrets: where values of handles come from.
        private: networks that are allowed although they are not public.
        seconds: longest time of one fetch.
        authorities: file with certificates that are trusted besides the public ones.
        uses: is told of each request, and of each secret before it is sent.
        gate: asked before secrets are filled into a request: why they are not, or None.
    """

    def __init__(
        self,
        grants: Grants,
        secrets: Secrets,
        private: Sequence[Network] = (),
        seconds: float = SECONDS,
        authorities: str | None = None,
        uses: Uses | None = None,
        gate: Gate = open_gate,
    ) -> None:
        self._grants, self._secrets, self._private, self._seconds = grants, secrets, private, seconds
        self._authorities, self._uses, self._gate = authorities, uses, gate
        self.reached: set[str] = set()
        """Sources: the places requests were sent to, redirects included."""
        self._made = 0
        self.used: dict[str, str] = {}
        """Handles that were filled in, with their values; what leaves this side has them taken out."""

    async def fetch(self, args: JsonValue) -> JsonValue:
        """Answer one ``http.fetch``.

        Args:
            args: ``{"url", "method", "headers": {…}, "body": base64 or null, "seconds"}``; all but the first may be absent.

        Returns:
            ``{"status", "url", "headers": [[name, value], …], "body": base64}``.

        Raises:
            NotGranted: the manifest does not declare the host, the method or the secret.
            Withheld: the task's content may not lead to the use of a secret.
            BrokerError: ``bad_request``, ``denied`` (an address or a redirect), ``limit``, ``timeout``, ``http``.
        """
        method, url, headers, body, seconds = self._counted(args)
        try:
            async with asyncio.timeout(min(seconds, self._seconds)):
                return await self._follow(method, url, headers, body)
        except TimeoutError:
            raise BrokerError("timeout", f"No whole answer within {min(seconds, self._seconds):g} s.") from None
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            ssl.SSLError,
            OSError,
        ) as error:
            said = self._clean(f"{type(error).__name__}: {error}")
            raise BrokerError("http", f"The request failed: {said:.500}") from None

    def unreachable(self, args: JsonValue) -> BrokerError:
        """What a request is answered where none is made: the same as for a granted host that cannot be found.

        Errors for what is no request, or is not granted, as for :meth:`fetch`.
        """
        method, url, headers, *_ = self._counted(args)
        target = self._granted(target_of(PLACEHOLDER.sub("", url)), method)
        for found in PLACEHOLDER.finditer("\n".join([url, *(value for _, value in headers)])):
            self._bound(found[1], target)
        return _no_such_host(target)

    def _counted(self, args: JsonValue) -> tuple[str, str, list[tuple[str, str]], bytes, float]:
        request = _request(args)
        self._made += 1
        if self._made > FETCHES:
            raise BrokerError("limit", f"One attempt makes at most {FETCHES} requests.")
        return request

    async def _follow(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> JsonValue:
        target = self._granted(target_of(PLACEHOLDER.sub("", url)), method)
        await self._admit(Carrying((), method, url, headers, body), target)
        # Filled in only after the place was checked, so no secret decides where a request goes.
        filled = self._fill(url, target, escape=True)
        target = self._granted(target_of(filled), method)
        for hop in range(REDIRECTS + 1):
            addresses = await self._resolve(target)
            sent = [(name, self._fill(value, target)) for name, value in headers]
            _small(sent)
            open_secret = target.scheme == "http" and any(
                map(PLACEHOLDER.search, (url, *(value for _, value in headers)))
            )
            if open_secret and not all(any(one in each for each in self._private) for one in addresses):
                raise BrokerError("denied", "Secrets go over https only.")
            # The URL of a redirect is the server's; what it has of a secret was sent there before.
            await self._told(target, ("" if hop else url, *(value for _, value in headers)))
            status, answered, content = await self._once(method, target, addresses, sent, body)
            place = next((value for name, value in answered if name.lower() == "location"), None)
            if status not in (301, 302, 303, 307, 308) or place is None:
                known = list(self.used.items())
                return {
                    "status": status,
                    "url": self._clean(target.url()),
                    "headers": [[self._clean(name), self._clean(value)] for name, value in answered],
                    "body": base64.b64encode(redacted_bytes(content, known)).decode(),
                }
            method, target, headers, body = self._redirected(status, place, method, target, headers, body)
        raise BrokerError("limit", f"More than {REDIRECTS} redirects.")

    async def _admit(self, request: Carrying, target: Target) -> None:
        """Ask whether the request may carry its secrets. What a redirect takes along goes to the same place once more."""
        asked = "\n".join((request.url, *(value for _, value in request.headers)))
        handles = tuple(dict.fromkeys(PLACEHOLDER.findall(asked)))
        if not handles:
            return
        for handle in handles:
            self._bound(handle, target)
        _small(request.headers)
        named = tuple(f"{handle}@{target.place}" for handle in handles)
        if (withheld := await self._gate(request._replace(secrets=named))) is not None:
            raise withheld

    async def _told(self, target: Target, asked: Iterable[str]) -> None:
        """Put the request's secrets on record before they go."""
        if self._uses is None:
            return
        self._uses.count("http", target.place)
        for handle in sorted({found for text in asked for found in PLACEHOLDER.findall(text)}):
            try:
                await self._uses.secret(handle, target.host)
            except ArbiterError as error:
                raise BrokerError("secret", f"Its use cannot be put on record: {error}") from None

    def _redirected(
        self, status: int, place: str, method: str, target: Target, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[str, Target, list[tuple[str, str]], bytes]:
        try:
            joined = urljoin(target.url(), place)
        except ValueError as error:
            raise BrokerError("http", f"The answer redirects to what is no URL: {error}.") from None
        after = target_of(joined.partition("#")[0])
        if status == 303 or (status in (301, 302) and method == "POST"):
            method, body = ("HEAD" if method == "HEAD" else "GET"), b""
            headers = [(name, value) for name, value in headers if not name.lower().startswith("content-")]
        if target.scheme == "https" and after.scheme == "http":
            raise BrokerError("denied", "The answer redirects from https to http.")
        try:
            self._granted(after, method)
        except NotGranted as error:
            # The server's doing, not the code's.
            raise BrokerError("denied", self._clean(f"The answer redirects elsewhere. {error.message}")) from None
        if after.origin != target.origin:
            kept = [
                (name, value)
                for name, value in headers
                if name.lower() not in ("authorization", "cookie") and not PLACEHOLDER.search(value)
            ]
            headers = kept
            if redacted(after.url(), self.used.items()) != after.url():
                raise BrokerError("denied", "The answer redirects to another host with a secret in the URL.")
        return method, after, headers, body

    def _granted(self, target: Target, method: str) -> Target:
        grants = self._grants
        if not any(matches(each, target.host, target.port, target.default_port) for each in grants.http_hosts):
            raise NotGranted(
                f"{target.place} is not among the granted hosts: {', '.join(grants.http_hosts) or 'none'}."
            )
        if method not in grants.http_methods:
            raise NotGranted(f"{method} is not among the granted methods: {', '.join(grants.http_methods)}.")
        return target

    def _bound(self, handle: str, target: Target) -> None:
        bound = self._grants.secret_hosts(handle)
        if bound is None:
            raise NotGranted(f"The secret {handle!r} is not granted.")
        if not any(matches(each, target.host, target.port, target.default_port) for each in bound):
            raise NotGranted(f"The secret {handle!r} is not granted for {target.host}.")

    def _fill(self, text: str, target: Target, *, escape: bool = False) -> str:
        """A text with its secrets, for one place."""

        def value(found: re.Match[str]) -> str:
            handle = found[1]
            self._bound(handle, target)
            try:
                secret = self._secrets.get(handle)
            except BadInput as error:
                log.error("%s", error)  # may name a path, which is not for the code
                raise BrokerError(
                    "secret", f"The secret {handle!r} cannot be used; the log of the wrapper says why."
                ) from None
            if secret is None:
                raise BrokerError("secret", f"This worker has no secret {handle!r}.")
            self.used[handle] = secret
            return quote(secret, safe="") if escape else secret

        if escape:
            before, mark, query = text.partition("?")
            if PLACEHOLDER.search(before):
                raise BrokerError("bad_request", "A secret stands in a header or in the query, nowhere else in a URL.")
            return before + mark + PLACEHOLDER.sub(value, query)
        return PLACEHOLDER.sub(value, text)

    async def _resolve(self, target: Target) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                _resolvers, lambda: socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError):
            raise _no_such_host(target) from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found))
        if not addresses:
            raise _no_such_host(target)
        for address in addresses:
            if why := forbidden(address, self._private):
                raise BrokerError("denied", f"{target.host} is at an address no request goes to: {why}.")
        return addresses[:4]

    async def _once(
        self, method: str, target: Target, addresses: Sequence[Address], headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        self.reached.add(source("http", target.place))
        given = {name.lower() for name, _ in headers}
        sent = [("host", target.place), *headers]
        sent += [(name, value) for name, value in _DEFAULTS if name not in given]
        if body or method in ("POST", "PUT", "PATCH"):
            sent.append(("content-length", str(len(body))))
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=_trusted(self._authorities), network_backend=_Pinned(addresses, target.port), retries=0, http2=False
            ) as pool,
            pool.stream(
                method, httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
                headers=[(name.encode(), value.encode()) for name, value in sent], content=body or None,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)},
            ) as answer,
        ):  # fmt: skip
            answered = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
            content = bytearray()
            parts = 0
            async for part in answer.aiter_stream():
                content += part
                if (parts := parts + 1) > PARTS:
                    raise BrokerError("limit", f"The answer comes in more than {PARTS:,} pieces.")
                if parts % _PARTS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # what has arrived is given without a pause for others
                if len(content) > ANSWER_BYTES:
                    raise BrokerError("limit", f"The answer is larger than {ANSWER_BYTES} bytes.")
            return answer.status, answered, bytes(content)

    def _clean(self, text: str) -> str:
        return redacted(text, self.used.items())


def _small(headers: Iterable[tuple[str, str]]) -> None:
    if sum(len(name) + len(value) for name, value in headers) > _HEADER_BYTES:
        raise BrokerError("limit", f"The headers are larger than {_HEADER_BYTES} bytes.")


_DEFAULTS = (("user-agent", "arbiter"), ("accept", "*/*"), ("accept-encoding", "identity"))


def _request(args: JsonValue) -> tuple[str, str, list[tuple[str, str]], bytes, float]:
    if not isinstance(args, dict) or not set(args) <= {"url", "method", "headers", "body", "seconds"}:
        raise BrokerError("bad_request", "http.fetch takes an object with url, method, headers, body and seconds.")
    given = cast(Mapping[str, Any], args)
    method, url, headers = given.get("method") or "GET", given.get("url"), cast(object, given.get("headers") or {})
    body, seconds = given.get("body"), given.get("seconds")
    seconds = SECONDS if seconds is None else seconds
    if not isinstance(method, str) or not re.fullmatch(r"[A-Z]{1,20}", method):
        raise BrokerError("bad_request", "The method is a word in capitals.")
    if not isinstance(url, str) or not isinstance(headers, dict):
        raise BrokerError("bad_request", "The URL is text and the headers are an object.")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise BrokerError("bad_request", "Give a number of seconds above 0.")
    seconds = min(seconds, SECONDS)
    checked: list[tuple[str, str]] = []
    for name, value in cast("dict[str, Any]", headers).items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("proxy-"):
            raise BrokerError("bad_request", f"The header {name[:100]!r} cannot be set.")
        if not isinstance(value, str) or not value.isascii() or not (value == "" or value.isprintable()):
            raise BrokerError("bad_request", f"The value of the header {name!r} is no printable ASCII text.")
        checked.append((name, value))
    content = b""
    if body is not None:
        try:
            content = base64.b64decode(cast(str, body), validate=True)
        except (ValueError, TypeError):
            raise BrokerError("bad_request", "The body is not base64.") from None
    if len(content) > BODY_BYTES:
        raise BrokerError("limit", f"The body is larger than {BODY_BYTES} bytes.")
    return method, url, checked, content, float(seconds)
