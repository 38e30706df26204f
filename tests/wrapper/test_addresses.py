"""Addresses that no brokered request goes to, and those that an operator opens."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from blackboard.errors import BadInput
from wrapper.addresses import forbidden, networks


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.1.1", "100.64.0.1",
        "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1",
        "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:db8::1",
        "2001:0:5db8:d822:0:0:80ff:fffe", "192.0.0.192", "192.0.0.8", "192.88.99.1", "fec0::1", "3fff::1", "::ffff:192.88.99.1",
    ],
)  # fmt: skip
def test_no_request_goes_to_an_address_that_is_not_public(text: str) -> None:
    assert forbidden(ipaddress.ip_address(text)) is not None


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_not_refused(text: str) -> None:
    assert forbidden(ipaddress.ip_address(text)) is None


def test_only_what_is_named_is_opened_and_never_where_credentials_are_handed_out() -> None:
    opened = networks(["10.0.0.0/8", "fd00:1::/32", "127.0.0.1"])
    assert forbidden(ipaddress.ip_address("10.1.2.3"), opened) is None
    assert forbidden(ipaddress.ip_address("10.1.2.3"), networks(["10.1.2.4"])) is not None
    everything = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    for closed in (
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "64:ff9b::a9fe:1",
        "fd20:ce::254",
        "169.254.170.23",
        "fd00:ec2::23",
        "fd00:c1::a9fe:a9fe",
        "192.0.0.192",
    ):
        assert forbidden(ipaddress.ip_address(closed), everything) is not None


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["localhost"], "such as 10.0.0.7"), (["10.0.0.1/8"], "10.0.0.0/24"), ([10], "such as 10.0.0.7"),
        ("10.0.0.1", "Give a list"), (["169.254.169.254"], "credentials"), (["fd00:ec2::/32"], "fd00:ec2::"),
        (["10.0.0.0/8", "100.64.0.0/10"], "100.100.100.200"), (["169.254.1.0/24"], "Link-local"), (["fe80::1"], "Link-local"),
        (["0.0.0.0/0"], "credentials"), (["224.0.0.1"], "no address of one machine"), (["8.8.8.8"], "public"),
    ],
)  # fmt: skip
def test_an_address_that_stays_closed_or_needs_no_opening_is_refused_with_the_reason(named: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        networks(named)
    assert error.value.field == "private_addresses"
