"""Signatures on versions: who vouches that this code, with these grants, passed that exam.

A signature is Ed25519 (RFC 8032) over a **statement**, the canonical JSON of ``format``, ``capability``, ``version`` (the
content hash of manifest and code), ``manifest`` (SHA-256 of its text, provenance included), ``artifact`` (SHA-256 of the
code), ``exam`` (SHA-256 of the exam record's text, empty without one), ``grants``, ``created`` and ``key``. Stored is only
what cannot be had elsewhere: format, time, key and signature. The rest of the statement is made anew, each time, from
what is about to be run, so a signature says nothing about anything else.

Which keys count is up to the board, see :mod:`blackboard.trust`; a process may narrow that down with ``ARBITER_TRUSTED_KEYS``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from blackboard.audit import somebody as somebody
from blackboard.catalog_records import Signed, StoredVersion
from blackboard.errors import ArbiterError, BadInput
from blackboard.trust import KEY_ID, TrustedKey
from blackboard.types import Record
from registry import keyfile
from registry.content import canonical, sha256
from registry.grants import Grants

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = "arbiter-version-1"
PINS = "ARBITER_TRUSTED_KEYS"
_PROVEN_KEPT = 4096

Reason = Literal["unsigned", "damaged", "unknown_key", "revoked_key", "revoked", "mismatch", "exam"]


class SignatureRefused(ArbiterError):
    """A version may not run, because nobody whose word counts here vouches for it as it is.

    Args:
        name, sha: the version.
        reason: stable word: ``unsigned``, ``damaged`` (the record of it), ``unknown_key``, ``revoked_key``, ``revoked`` (the
            version), ``mismatch`` (something signed was changed), ``exam`` (it did not pass).
        message: what was found and what to do.
        key: id of the key that is said to have signed; empty when unknown.
    """

    def __init__(self, name: str, sha: str, reason: Reason, message: str, key: str = "") -> None:
        super().__init__(f"{name} {sha[:12]} is not run: {message}")
        self.name, self.sha, self.reason, self.key = name, sha, reason, key


class Signature(Record):
    """A signature as it is stored with a version."""

    format: Literal["arbiter-version-1"] = FORMAT
    key: str = Field(pattern=rf"^{KEY_ID.pattern}$")
    """Id of the key: the first 32 hexadecimal digits of the SHA-256 of the raw public key."""
    created: str = Field(pattern=r"^[0-9]{1,16}$")
    """Milliseconds since the epoch, on the server's clock."""
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""
        return int(self.created) / 1000

    @classmethod
    def read(cls, text: str) -> Signature:
        """The signature in a stored text, of which there is exactly one form.

        Raises:
            ValueError: it is in another form.
        """
        found = cls.model_validate(json.loads(text))
        if canonical(found.model_dump()) != text:
            raise ValueError("it is not in canonical form")
        return found


def key_id(public: bytes) -> str:
    """The id of a raw public key."""
    return hashlib.sha256(public).hexdigest()[:32]


def statement(
    *, name: str, sha: str, manifest: str, artifact_sha: str, exam: str | None, grants: Grants, created: str, key: str
) -> bytes:
    """What is signed. ``manifest`` and ``exam`` are the stored texts."""
    return canonical(
        {
            "format": FORMAT,
            "capability": name,
            "version": sha,
            "manifest": sha256(manifest),
            "artifact": artifact_sha,
            "exam": "" if exam is None else sha256(exam),
            "grants": grants.model_dump(mode="json"),
            "created": created,
            "key": key,
        }
    ).encode()


class Signer:
    """Signs versions with one key.

    Args:
        key: the private key.
        origin: where it came from, in words.
    """

    def __init__(self, key: Ed25519PrivateKey, origin: str) -> None:
        self._key, self.origin = key, origin
        public = key.public_key().public_bytes_raw()
        self.public = public.hex()
        """The raw public key in hex."""
        self.key = key_id(public)
        """Its id."""

    def __repr__(self) -> str:
        return f"<signer {self.key} from {self.origin}>"

    @classmethod
    def find(cls, given: str | Path | None = None, data_dir: Path | str | None = None) -> Signer:
        """The key that is to sign: the one given, the one in ``ARBITER_SIGNING_KEY``, else the data folder's.

        Args:
            given: PEM, base64 of the 32 raw bytes, or the path of a file with one of them.
            data_dir: the data folder; its key is made when there is none. Default ``ARBITER_DATA_DIR``, then ``~/.arbiter``.

        Raises:
            BadInput: it cannot be read, or others could have read it.
        """
        if given is not None:
            return cls(keyfile.parse("signing_key", str(given)), "signing_key")
        if (text := keyfile.given_key()) is not None:
            return cls(keyfile.parse(keyfile.ENVIRONMENT, text), keyfile.ENVIRONMENT)
        return cls(keyfile.made(data_dir), str(keyfile.key_path(data_dir)))

    def signed(
        self,
        *,
        name: str,
        sha: str,
        manifest: str,
        artifact_sha: str,
        exam: str | None,
        grants: Grants,
        created_ms: int,
        by: str | None = None,
    ) -> Signed:
        """A signature over a version, as the catalog stores it.

        Args:
            manifest, exam: the texts that are stored with it.
            created_ms: the server's time.
            by: who signs, for the audit. Default: the user of this process.
        """
        created = str(created_ms)
        said = statement(
            name=name, sha=sha, manifest=manifest, artifact_sha=artifact_sha, exam=exam, grants=grants,
            created=created, key=self.key,
        )  # fmt: skip
        signature = Signature(key=self.key, created=created, signature=self._key.sign(said).hex())
        return Signed(
            text=canonical(signature.model_dump()), key=self.key, public=self.public, created=created,
            by=somebody() if by is None else by,
        )  # fmt: skip


def pinned() -> frozenset[str] | None:
    """The keys this process accepts of those a board trusts; None accepts all of them.

    Raises:
        BadInput: the environment names something that is no key id.
    """
    text = os.environ.get(PINS)
    if not text:
        return None
    ids = frozenset(word for word in text.replace(",", " ").split())
    for each in ids:
        if not KEY_ID.fullmatch(each):
            raise BadInput(PINS, each, "Give ids of keys, 32 hexadecimal digits each, with commas between them.")
    return ids


class Verifier:
    """Decides whether a stored version may run. Remembers only proofs: that these bytes have that signature of that key."""

    def __init__(self) -> None:
        self._proven: OrderedDict[tuple[bytes, str, str], None] = OrderedDict()

    def check(self, stored: StoredVersion, grants: Grants, trust: str | None) -> Signature:
        """The signature of a version, if it is one that counts.

        Args:
            stored: the version; that its manifest is what its hash says was checked before.
            grants: of that manifest.
            trust: the board's entry for the key that signed.

        Raises:
            SignatureRefused: it does not count; the message says why and what to do.
            BadInput: the environment narrows the keys down with something that is none.
        """

        def refuse(reason: Reason, message: str, key: str = "") -> SignatureRefused:
            return SignatureRefused(stored.name, stored.sha, reason, message, key)

        look = (
            f"Look at it with 'arbiter capabilities show {stored.name}', then 'arbiter capabilities sign {stored.name}', "
            "or have it made and examined anew."
        )
        if stored.revoked:
            raise refuse(
                "revoked", "this version was revoked. Use another one, or have it made anew with changed content."
            )
        if stored.signature is None:
            raise refuse("unsigned", f"it has no signature. {look}")
        try:
            signature = Signature.read(stored.signature)
        except (ValueError, RecursionError):
            raise refuse("damaged", f"its signature is damaged. {look}") from None
        key = signature.key
        pins = pinned()
        if pins is not None and key not in pins:
            raise refuse("unknown_key", f"key {key} signed it, which {PINS} does not name here.", key)
        if trust is None:
            raise refuse(
                "unknown_key", f"key {key} signed it, which this board does not trust. 'arbiter keys trust' on the machine "
                f"that has the key, if that is right. {look}", key,
            )  # fmt: skip
        try:
            trusted = TrustedKey.read(key, trust)
            public = bytes.fromhex(trusted.public)
        except (ValueError, RecursionError):
            raise refuse(
                "damaged", f"the board's entry for key {key} is damaged; 'arbiter keys trust' it again.", key
            ) from None
        if key_id(public) != key or trusted.public != public.hex():
            raise refuse("damaged", f"the board's entry for key {key} holds another key; look who changed it.", key)
        if trusted.revoked_at(int(signature.created)) or trusted.revoked_at(stored.signed_ms):
            raise refuse("revoked_key", f"key {key} signed it, and what it signed then is revoked. {look}", key)
        said = statement(
            name=stored.name, sha=stored.sha, manifest=stored.manifest,
            artifact_sha=stored.artifact_sha or "", exam=stored.exam, grants=grants,
            created=signature.created, key=key,
        )  # fmt: skip
        if not self._holds(said, signature.signature, public):
            raise refuse(
                "mismatch", f"the signature of key {key} is for something else; it was changed or copied. {look}", key
            )
        return signature

    def _holds(self, said: bytes, signature: str, public: bytes) -> bool:
        proof = (said, signature, public.hex())
        if proof in self._proven:
            self._proven.move_to_end(proof)
            return True
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature), said)
        except (InvalidSignature, ValueError):
            return False
        self._proven[proof] = None
        if len(self._proven) > _PROVEN_KEPT:
            self._proven.popitem(last=False)
        return True


def read_quietly(text: str | None) -> Signature | None:
    """The signature in a text for a display, unverified; None when there is none or it is damaged."""
    if text is None:
        return None
    try:
        return Signature.read(text)
    except (ValueError, ValidationError, RecursionError):
        return None
