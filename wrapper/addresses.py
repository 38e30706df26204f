"""Where requests of granted code may go and whom they trust there, as the operator says it; light to import."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable, Sequence

from blackboard.errors import BadInput
from registry.hosts import METADATA

AUTHORITIES = "ARBITER_CA_FILE"
_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_SETTING = "private_addresses"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20")))
"""What Python's tables take for public, by age or in part: of protocols, relays, sites and examples; see RFC 6890, 7526, 3879
and 9637."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(named: Iterable[str]) -> tuple[Network, ...]:
    """Private addresses or networks that brokered requests may go to all the same.

    Raises:
        BadInput: something that is none, is public anyway, or has addresses in it that stay closed.
    """
    if isinstance(named, str):
        raise BadInput(_SETTING, named, "Give a list of addresses and networks.")
    return tuple(map(_network, named))


def _network(text: object) -> Network:
    try:
        network = ipaddress.ip_network(text.strip() if isinstance(text, str) else "")
    except ValueError:
        raise BadInput(_SETTING, text, "Give an address such as 10.0.0.7, or a network as 10.0.0.0/24.") from None
    for closed in sorted(map(str, METADATA)):
        if ipaddress.ip_address(closed) in network:
            raise BadInput(
                _SETTING,
                text,
                f"{closed} hands out credentials of machines and stays closed; name networks without it.",
            )
    if any(network.version == local.version and network.overlaps(local) for local in _LINK_LOCAL):  # type: ignore[arg-type]
        raise BadInput(
            _SETTING, text, "Link-local addresses stay closed, whatever is named; give the machine another one."
        )
    if network.is_multicast or network.is_unspecified or (network.is_reserved and not network.is_loopback):
        raise BadInput(_SETTING, text, "That is no address of one machine.")
    if network.is_global:
        raise BadInput(_SETTING, text, "Leave it out: it is public, and a granted host is reached there anyway.")
    return network


def forbidden(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why no request goes to an address; None when one may."""
    inner = _inside(address)
    one = inner or address
    if address in METADATA or one in METADATA:
        return "it hands out credentials of machines"
    if one.is_link_local:
        return "it is link-local"
    if any(address in each for each in allowed):
        return None
    if one.is_loopback:
        return "it is this machine"
    if one.is_multicast or one.is_unspecified or one.is_reserved:
        return "it is no address of one machine"
    if not one.is_global or any(one in each for each in _SPECIAL):
        return "it is private"
    if isinstance(one, ipaddress.IPv6Address) and (one.sixtofour or one.teredo):
        return "it hides another address"
    return None


def _inside(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped


def authorities() -> str | None:
    """The file with certificates of authorities that brokered requests trust besides the public ones.

    Raises:
        BadInput: what the environment names is no such file.
    """
    path = os.environ.get(AUTHORITIES) or None
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # ssl.SSLError is one
        raise BadInput(AUTHORITIES, path, "Name a readable PEM file with certificates.") from None
    return path
