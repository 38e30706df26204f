"""Reading a board's URL: what is accepted, what is refused and why, and how it is shown without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from blackboard.errors import BadInput

FORMS = (
    "Write redis://host:6379/0, rediss://host:6379/0 (TLS), unix:///path/to/socket, redis+cluster://host:6379,host:6379, "
    "redis+sentinel://host:26379,host:26379/service/0 or memory://; leave it out for a local server."
)
_SEVERAL = ("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
"""Schemes that name several hosts; the one with ``rediss`` is for TLS."""
_SCHEMES = ("redis", "rediss", "unix", "memory", *_SEVERAL)
_PORTS = {"cluster": 6379, "sentinel": 26379}
_OF_SENTINELS = ("sentinel_username", "sentinel_password")

_COMMON = ("db", "username", "password", "client_name", "socket_connect_timeout")
_TLS = (
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_check_hostname",
    "ssl_min_version",
    "ssl_ciphers",
)
_SECRETS = "password|sentinel_password|ssl_password|ssl_ca_data"
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_SOCKET_PATH_BYTES = 107
"""A socket's path is held in 108 bytes on Linux, its closing zero included."""


@dataclass(frozen=True)
class Address:
    """A URL that was read and found good. ``repr`` and ``str`` show no secret."""

    scheme: str
    masked: str
    full: str
    """The URL with its secrets, as a client needs it."""
    name: str = ""
    """The name of a ``memory://`` store, empty for a nameless one; the service of Sentinels."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Where a cluster or its Sentinels are asked first; empty for a single server."""
    sentinel: tuple[tuple[str, str], ...] = ()
    """Credentials for the Sentinels themselves, by parameter."""

    def __repr__(self) -> str:
        return f"Address({self.masked!r})"

    __str__ = __repr__


def masked(url: str) -> str:
    """The URL with everything that may be a secret replaced by ``***``; works on malformed ones too."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    hidden = re.sub(
        r"((?:^|[?&])(?:password|sentinel_password|ssl_password|ssl_ca_data)=)[^&]*",
        r"\1***",
        rest,
        flags=re.IGNORECASE,
    )
    before, at, after = hidden.rpartition("@")
    if at:
        user, colon, _ = before.partition(":")
        hidden = f"{user}:***@{after}" if colon else f"***@{after}"
    elif scheme != "unix" and not hidden.startswith("["):
        # ":secret" with a forgotten "@host" is where a port would be.
        hidden = re.sub(r"^([^:/?]*):(?!\d{1,5}(?:[,/?#]|$)).*?(?=[/?#]|$)", r"\1:***", hidden)
    return f"{scheme}{mark}{hidden}"


def read(url: object) -> Address:
    """Check a board's URL.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``, with the credentials, the database and the TLS
            parameters that redis-py's ``from_url`` takes; ``redis+cluster://`` and ``redis+sentinel://`` with several
            hosts.

    Returns:
        The address, with a form that is safe to show.

    Raises:
        BadInput: it is not such a URL. The message shows it without secrets and says what to write instead.
    """
    if not isinstance(url, str):
        raise BadInput("url", url, FORMS)
    text = url.strip()
    shown = masked(text)
    scheme, mark, rest = text.partition("://")
    if not mark:
        raise BadInput("url", shown, FORMS)
    scheme = scheme.lower()
    text = f"{scheme}://{rest}"
    if scheme not in _SCHEMES:
        close = get_close_matches(scheme, _SCHEMES, n=1)
        raise BadInput("url", shown, f"Did you mean {close[0]}://? {FORMS}" if close else FORMS)
    if scheme in _SEVERAL:
        return _several(scheme, rest, shown)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadInput("url", shown, _port_remedy(text)) from None
    if parts.fragment or "#" in text:
        raise BadInput("url", shown, "A '#' cuts the URL short; write %23 for it.")
    if scheme == "memory":
        return _memory(parts, text, shown)
    if scheme == "unix":
        _check_socket(parts, shown)
    else:
        if not parts.hostname:
            raise BadInput("url", shown, f"The host is missing: {scheme}://localhost:6379/0.")
        if port == 0:
            raise BadInput("url", shown, "The port must be from 1 to 65535.")
    _check_query(parts, shown)
    _check_database(parts, shown)
    return Address(scheme, shown, text)


def _several(scheme: str, rest: str, shown: str) -> Address:
    """A cluster or Sentinels: hosts parted by commas; what follows them is read as for a single server."""
    base, _, kind = scheme.partition("+")
    if "#" in rest:
        raise BadInput("url", shown, "A '#' cuts the URL short; write %23 for it.")
    before, mark, query = rest.partition("?")
    authority, _, path = before.partition("/")
    login, at, listed = authority.rpartition("@")
    hosts = tuple(_host(one, _PORTS[kind], shown) for one in listed.split(","))
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", service):
            raise BadInput(
                "url", shown, "Name the service the Sentinels watch: redis+sentinel://host:26379,host:26379/service/0."
            )
    own = tuple((name[len("sentinel_") :], value) for name, value in parse_qsl(query) if name in _OF_SENTINELS)
    if own and kind == "cluster":
        raise BadInput("url", shown, "sentinel_username and sentinel_password are for redis+sentinel://.")
    query = "&".join(each for each in query.split("&") if each.partition("=")[0] not in _OF_SENTINELS)
    host = f"[{hosts[0][0]}]" if ":" in hosts[0][0] else hosts[0][0]
    full = f"{base}://{login}{at}{host}:{hosts[0][1]}/{path}{mark if query else ''}{query}"
    try:
        parts = urlsplit(full)
    except ValueError:
        raise BadInput("url", shown, _port_remedy(full)) from None
    _check_query(parts, shown)
    _check_database(parts, shown)
    named = [parts.path[1:], *(value for name, value in parse_qsl(parts.query) if name == "db")]
    if kind == "cluster" and any(value not in ("", "0") for value in named):
        raise BadInput("url", shown, "A cluster has only database 0; leave the database out.")
    return Address(scheme, shown, full, service, hosts, own)


def _host(one: str, port: int, shown: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@\s]+)(?::(\d{1,5}))?", one.strip())
    number = int(match[2]) if match and match[2] else port
    if match is None or not 1 <= number <= 65_535:
        raise BadInput("url", shown, "Write the hosts as host:port,host:port with ports from 1 to 65535.")
    return match[1].strip("[]"), number


def _memory(parts: SplitResult, text: str, shown: str) -> Address:
    name = parts.netloc + parts.path.rstrip("/")
    if parts.query or not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", name):
        raise BadInput(
            "url", shown, "Write memory:// or memory://name; a name is made of letters, digits, '.', '_', '-'."
        )
    return Address("memory", shown, text, name)


def _port_remedy(text: str) -> str:
    if "/" in text.partition("://")[2].rpartition("@")[0]:
        return "A '/' in a password must be written %2F."
    return (
        "The port must be a number from 1 to 65535; a ':', '/', '@', '#' or '[' in a password must be percent-encoded."
    )


def _check_socket(parts: SplitResult, shown: str) -> None:
    if parts.netloc.rpartition("@")[2]:
        raise BadInput("url", shown, "A socket's path is absolute; with three slashes: unix:///path/to/socket.")
    path = unquote(parts.path)
    if path in ("", "/"):
        raise BadInput("url", shown, "The socket's path is missing: unix:///path/to/socket.")
    if len(path.encode()) > _SOCKET_PATH_BYTES:
        raise BadInput("url", shown, f"The operating system allows {_SOCKET_PATH_BYTES} bytes for a socket's path.")


def _check_query(parts: SplitResult, shown: str) -> None:
    allowed = _COMMON + (_TLS if parts.scheme == "rediss" else ())
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            if name in _TLS:
                raise BadInput("url", shown, f"{name} is for TLS: use rediss://.")
            close = get_close_matches(name, allowed, n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise BadInput("url", shown, f"The parameter {name} is unknown. {hint}Known are: {', '.join(allowed)}.")
        if name in _FILES and not Path(value).exists():
            raise BadInput("url", shown, f"{name}: there is no {value}.")
        if name == "ssl_cert_reqs" and value not in ("required", "optional", "none"):
            raise BadInput("url", shown, "ssl_cert_reqs is required (the default), optional or none.")
        if name == "socket_connect_timeout" and not re.fullmatch(r"\d+(\.\d+)?", value):
            raise BadInput("url", shown, "socket_connect_timeout is a number of seconds.")
        if name == "ssl_min_version" and not value.isdecimal():
            raise BadInput("url", shown, "ssl_min_version is a number, such as 771 for TLS 1.2.")


def _check_database(parts: SplitResult, shown: str) -> None:
    named = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == "db"]
    if parts.scheme != "unix" and parts.path not in ("", "/"):
        named.append(unquote(parts.path[1:]))
    if any(not (value.isascii() and value.isdecimal()) for value in named):
        raise BadInput("url", shown, "The database is a number from 0: redis://host:6379/0.")
    if len({int(value) for value in named}) > 1:
        raise BadInput("url", shown, "The database is named twice, differently; write it once.")
