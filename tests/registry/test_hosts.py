"""Hosts that can be granted, what is refused as one, and which requests each means."""

from __future__ import annotations

import json

import pytest

from blackboard.errors import BadInput
from registry import Grants, Manifest
from registry.content import canonical
from registry.hosts import check_host, matches

ANY = {"type": "object"}


@pytest.mark.parametrize(
    "given",
    [
        "api.example.com", "*.example.com", "*.example.co.uk", "intern:8443", "localhost", "10.0.0.7", "10.0.0.7:8080",
        "[2001:db8::7]", "[2001:db8::7]:8443", "[::1]", "xn--e1afmkfd.xn--p1ai", "a-b.example.com", "_x.example.com", "1.example",
    ],
)  # fmt: skip
def test_hosts_and_addresses_can_be_granted(given: str) -> None:
    check_host(given)


@pytest.mark.parametrize(
    "given", ["*.com", "*.uk", "*.co.uk", "*.com.au", "*.ac.jp", "*.gov.br", "*.com:8443", "*.localhost"]
)
def test_a_wildcard_below_which_everybody_registers_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match=r"domains of everybody; name a domain of one owner, as \*\.example\."):
        check_host(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "Give a host name"), ("*", "Give a host name"), ("a.*.com", "Give a host name"), ("*.*.example.com", "Give"),
        ("Example.com", "lower case"), ("example.com.", "final dot"), ("https://example.com", "without scheme"),
        ("example.com/x", "path"), ("me@example.com", "Give a host name"), ("a..b", "Give"), ("a.-b", "Give"),
        ("x" * 64 + ".com", "Give"), ("example.com:", "Give"), ("example.com:0", "Give"), ("example.com:65536", "Give"),
        ("2001:db8::7", "in brackets"), ("[2001:DB8:0::7]", r"as \[2001:db8::7\]"), ("[2001:db8::7%eth0]", "zone"),
        ("[10.0.0.7]", "as 10.0.0.7"), ("1.2.3", "in full"), ("0x7f.1", "in full"), ("2130706433", "in full"),
        ("*.10.0.0.7", "in full"), ("010.0.0.7", "in full"), ("169.254.169.254", "credentials"), ("[fe80::1]", "credentials"),
        ("[fd00:ec2::254]", "credentials"),
    ],
)  # fmt: skip
def test_what_is_no_host_or_is_never_reached_is_refused(given: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        Grants(http_hosts=(given,))
    assert error.value.field == "http_hosts"


def test_a_granted_host_means_that_host_and_port_only() -> None:
    assert matches("api.example.com", "api.example.com", 443, True)
    assert not matches("api.example.com", "api.example.com", 8443, False)
    assert not matches("api.example.com", "xapi.example.com", 443, True)
    assert matches("api.example.com:8443", "api.example.com", 8443, False)
    assert matches("*.example.com", "a.example.com", 443, True)
    assert not matches("*.example.com", "example.com", 443, True)
    assert not matches("*.example.com", "evilexample.com", 443, True)
    assert matches("[2001:db8::7]:8443", "2001:db8::7", 8443, False)
    assert not matches("[2001:db8::7]:8443", "2001:db8::7", 443, True)
    assert not matches("[2001:db8::7]", "2001:db8::8", 443, True)


def test_a_version_that_was_registered_by_earlier_rules_is_still_read() -> None:
    made = Manifest(name="wide", description="Reach much.", input_schema=ANY, grants={"http_hosts": ["*.example.com"]})
    stored = json.loads(made.text())
    stored["grants"]["http_hosts"] = ["*.com"]
    assert Manifest.stored(canonical(stored)).grants.http_hosts == ("*.com",)
    with pytest.raises(BadInput, match=r"manifest\.grants\.http_hosts"):
        Manifest.of(stored)
