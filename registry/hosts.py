"""Hosts that code may be granted: how they are written, and which requests each of them means.

A grant names one host, or with ``*.`` in front everything below a domain. Below a public suffix, such as ``com`` or ``co.uk``,
are the domains of everybody, so that would be no bound at all. Which suffixes are public is a long list that changes every
week (the Public Suffix List); here only its two most regular parts are known: every top-level domain, and the
second-level ones that registries of countries use for the same few purposes.
"""

from __future__ import annotations

import ipaddress
import re

from blackboard.errors import BadInput

METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::23",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    )
)
"""Where clouds hand out credentials; some of these look public. Nothing opens them."""

_REMEDY = (
    "Give a host name in lower case, without scheme, path or final dot; '*.' may stand before it, and ':PORT' behind it where "
    "that is not the scheme's own. An IPv6 address stands in brackets: [2001:db8::7]."
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_WRITTEN = re.compile(r"(?P<name>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[1-9][0-9]{0,4}))?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_OF_REGISTRIES = frozenset(
    "ac co com edu gob gouv gov govt gv go ltd mil ne net nhs nom or org plc sch school".split()  # noqa: SIM905
)
"""Second-level domains of countries below which everybody of a kind registers."""


def check_host(given: str, field: str = "http_hosts") -> None:
    """Refuse what is no host that can be granted.

    Raises:
        BadInput: it is none, is never reached, or means the hosts of everybody.
    """
    written = _WRITTEN.fullmatch(given)
    if written is None or not 0 < int(written["port"] or 1) < 1 << 16:
        raise BadInput(field, given, _REMEDY)
    name = written["name"]
    if name.startswith("["):
        _check_address(name[1:-1], given, field)
        return
    domain = name.removeprefix("*.")
    labels = domain.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        _check_address(name, given, field)
        return
    if len(domain) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise BadInput(field, given, _REMEDY)
    if name != domain and _everybodys(labels):
        raise BadInput(
            field,
            given,
            f"Below {domain} are the domains of everybody; name a domain of one owner, as *.example.{domain}.",
        )


def _check_address(text: str, given: str, field: str) -> None:
    try:
        address = ipaddress.ip_address(text if "%" not in text else "")
    except ValueError:
        raise BadInput(
            field, given, "Write an address in full, as 192.0.2.7 or [2001:db8::7]; it has no '*' and no zone."
        ) from None
    canonical = str(address)
    if text != canonical or (address.version == 6) != given.startswith("["):
        raise BadInput(field, given, f"Write it as {canonical if address.version == 4 else f'[{canonical}]'}.")
    if address in METADATA or address.is_link_local:
        raise BadInput(
            field, given, "No request goes there: machines get credentials of their own from such addresses."
        )


def _everybodys(labels: list[str]) -> bool:
    return len(labels) == 1 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _OF_REGISTRIES)


def matches(granted: str, host: str, port: int, default_port: bool) -> bool:
    """Whether a granted host means this one.

    Args:
        granted: such as ``api.example.com``, ``*.example.com``, ``host:8443`` or ``[2001:db8::7]``.
        host: a name, or an address as it is printed, without brackets.
        default_port: the port is that of the scheme.
    """
    written = _WRITTEN.fullmatch(granted)
    if written is None:
        return False
    if (int(written["port"]) != port) if written["port"] else not default_port:
        return False
    name = written["name"]
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name.strip("[]")
