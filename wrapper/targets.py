"""Where a brokered request goes: a URL taken apart, once, so that all judge and use the same host and port."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from wrapper.isolation import BrokerError

URL_CHARACTERS = 8_000
"""Longest URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked place to send a request to."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def default_port(self) -> bool:
        return self.port == {"http": 80, "https": 443}[self.scheme]

    @property
    def place(self) -> str:
        """Its name, with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.default_port else f"{host}:{self.port}"

    def url(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"


def target_of(url: str) -> Target:
    """Where a URL leads.

    Raises:
        BrokerError: it is none, or one with a name, a password or another scheme.
    """
    if len(url) > URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise BrokerError("bad_request", "The URL is no URL; write host names as ASCII and escape the rest.")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        if ":" in host:
            if "%" in host:
                raise ValueError("an address in a URL has no zone")
            host = str(ipaddress.IPv6Address(host))  # however it was written
    except ValueError as error:
        raise BrokerError("bad_request", f"The URL is no URL: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise BrokerError("bad_request", "Give an absolute URL that begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise BrokerError(
            "bad_request", "Name and password do not belong into a URL; use a header and a granted secret."
        )
    if port == 0:
        raise BrokerError("bad_request", "Port 0 is none.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme], path)
