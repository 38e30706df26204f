"""Brokered HTTPS against a real server on loopback, with certificates of an authority of its own."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from blackboard.errors import BadInput
from registry import Grants
from wrapper.addresses import AUTHORITIES, authorities, networks
from wrapper.fetching import Fetcher
from wrapper.isolation import BrokerError
from wrapper.secrets import Secrets

NAME = "intern.example"
HERE = networks(["127.0.0.1"])


@dataclass
class Authority:
    """Signs certificates; ``path`` is its own, for those who trust it."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of our own")])
        own = self._built(self._name, self._key, 30).add_extension(x509.BasicConstraints(True, None), True)
        signs = x509.KeyUsage(
            False,
            False,
            False,
            False,
            False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        subject = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        own = own.add_extension(signs, True).add_extension(subject, False)
        self.path = self.folder / "authority.pem"
        self.path.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _built(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60)).not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(authority, False)
        )  # fmt: skip

    def certificate(self, name: str, days: int = 30) -> Path:
        """Key and certificate for a host name or address, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name))]
        except ValueError:
            names = [x509.DNSName(name)]
        built = self._built(x509.Name([]), key, days).add_extension(x509.SubjectAlternativeName(names), True)
        path = self.folder / f"{name}-{days}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path


class Site(BaseHTTPRequestHandler):
    """Keeps what it was asked, and redirects where it is told."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        type(self).seen.append({name.lower(): value for name, value in self.headers.items()})
        path, _, place = self.path.partition("?")
        content = b"hello"
        self.send_response(302 if path == "/to" else 200)
        if path == "/to":
            self.send_header("Location", place)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve with a certificate, under a name that is found at this machine; gives the place and what is seen."""
    servers: list[ThreadingHTTPServer] = []
    original = socket.getaddrinfo

    def found(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        return original("127.0.0.1" if host == NAME else host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)

    def start(certificate: Path) -> tuple[str, list[dict[str, str]]]:
        kind = type("OneSite", (Site,), {"seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"{NAME}:{server.server_address[1]}", kind.seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetcher(host: str, trusted: Path | None) -> Fetcher:
    grants = Grants(http_hosts=(host,), secrets=(f"KEY@{host}",))
    return Fetcher(grants, Secrets({"KEY": "the-value"}), HERE, 10.0, str(trusted) if trusted else None)


async def test_a_host_of_our_own_is_asked_by_its_name_and_a_secret_goes_along(serve: Any, authority: Authority) -> None:
    host, seen = serve(authority.certificate(NAME))
    answer: Any = await fetcher(host, authority.path).fetch(
        {"url": f"https://{host}/", "headers": {"Authorization": "Bearer {{secret:KEY}}"}}
    )
    assert (answer["status"], base64.b64decode(answer["body"])) == (200, b"hello")
    assert (seen[0]["host"], seen[0]["authorization"]) == (host, "Bearer the-value")
    assert "the-value" not in json.dumps(answer)


@pytest.mark.parametrize("what", ["unknown authority", "another name", "expired", "address instead of name"])
async def test_who_cannot_prove_to_be_the_host_is_told_nothing(serve: Any, authority: Authority, what: str) -> None:
    name = {"another name": "other.example", "address instead of name": "127.0.0.1"}.get(what, NAME)
    host, seen = serve(authority.certificate(name, -1 if what == "expired" else 30))
    trusted = None if what == "unknown authority" else authority.path
    with pytest.raises(BrokerError) as caught:
        await fetcher(host, trusted).fetch({"url": f"https://{host}/?k={{{{secret:KEY}}}}"})
    assert caught.value.type == "http"
    assert "certificate" in str(caught.value).lower()
    assert "the-value" not in str(caught.value)
    assert seen == []


async def test_a_redirect_never_leaves_https(serve: Any, authority: Authority) -> None:
    host, seen = serve(authority.certificate(NAME))
    with pytest.raises(BrokerError, match="from https to http"):
        await fetcher(host, authority.path).fetch({"url": f"https://{host}/to?http://{host}/"})
    assert len(seen) == 1


def test_authorities_are_named_by_the_environment_and_a_file_that_is_none_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(AUTHORITIES, raising=False)
    assert authorities() is None
    monkeypatch.setenv(AUTHORITIES, str(authority.path))
    assert authorities() == str(authority.path)
    (tmp_path / "none.pem").write_text("hello")
    for path in (tmp_path / "none.pem", tmp_path / "not-there.pem"):
        monkeypatch.setenv(AUTHORITIES, str(path))
        with pytest.raises(BadInput, match="PEM file"):
            authorities()
