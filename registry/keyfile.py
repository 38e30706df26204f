"""Where a signing key comes from: given, in the environment, or a file of this user's that is made when it is first needed.

The file is PEM (PKCS 8, unencrypted) in ``<data folder>/keys``. A folder or a file that others can read or write, or that
belongs to another user, is refused: a key that others may have read proves nothing.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from blackboard.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ENVIRONMENT = "ARBITER_SIGNING_KEY"
_FOLDER, _FILE, _NEXT = "keys", "signing.pem", "signing-next.pem"
_MOST_BYTES = 16 * 1024
_SEED_BYTES = 32


def data_folder(data_dir: Path | str | None) -> Path:
    """The data folder: the one given, ``ARBITER_DATA_DIR``, else ``~/.arbiter``."""
    return Path(data_dir or os.environ.get("ARBITER_DATA_DIR") or Path.home() / ".arbiter").expanduser()


def key_path(data_dir: Path | str | None) -> Path:
    """Where the key of a data folder is, or will be."""
    return data_folder(data_dir) / _FOLDER / _FILE


def given_key() -> str | None:
    """What the environment says about the key; None when it says nothing."""
    return os.environ.get(ENVIRONMENT) or None


def parse(field: str, text: str) -> Ed25519PrivateKey:
    """The key in a text: PEM, the base64 of its 32 raw bytes, or the path of a file that holds one of them.

    Args:
        field: where the text came from, for messages. The text itself is in none of them.

    Raises:
        BadInput: it is none of these, or the file may not be used.
    """
    text = text.strip()
    if text.startswith("-----BEGIN"):
        return _pem(field, text.encode())
    if (raw := _raw(text)) is not None:
        return raw
    path = Path(text).expanduser()
    if len(text) > 4096 or "\n" in text or "\0" in text or not path.exists():
        raise BadInput(
            field, "(hidden)", "It is no PEM text, no base64 of 32 bytes and no existing file; give one of these."
        )
    return read(path)


def read(path: Path) -> Ed25519PrivateKey:
    """The key in a file that only this user can read.

    Raises:
        BadInput: it cannot be read, others may read or write it, it is another user's, or it holds no such key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(
            "signing key", str(path), f"It cannot be read: {error.strerror}. Give a file of this user's."
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput("signing key", str(path), "It is no regular file; give one.")
        _private("signing key", path, status, 0o600)
        content = os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
    if content.lstrip().startswith(b"-----BEGIN"):
        return _pem(f"signing key {path}", content)
    try:
        raw = _raw(content.decode("ascii").strip())
    except UnicodeDecodeError:
        raw = None
    if raw is None:
        raise BadInput(
            "signing key", str(path), "It holds no Ed25519 key as PEM or base64; put it right or move it away."
        )
    return raw


def _private(field: str, path: Path, status: os.stat_result, mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise BadInput(
            field,
            str(path),
            f"It belongs to user {status.st_uid}, not to {os.geteuid()}; use a key of this user's own.",
        )
    found = stat.S_IMODE(status.st_mode)
    if found & 0o077:
        remedy = "If nobody else can have read it"
        raise BadInput(
            field, f"{path}, mode {found:04o}",
            f"Others may read or change it. {remedy}: chmod {mode:o} {path}. Otherwise make a new key and revoke this one.",
        )  # fmt: skip


def _pem(field: str, content: bytes) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(field, "(hidden)", "It is no private key in PEM without a password; give one.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(field, type(key).__name__, "Give an Ed25519 key.")
    return key


def _raw(text: str) -> Ed25519PrivateKey | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        seed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Ed25519PrivateKey.from_private_bytes(seed) if len(seed) == _SEED_BYTES else None


def made(data_dir: Path | str | None) -> Ed25519PrivateKey:
    """The key of a data folder, made now when there is none. Processes that start at once get the same one.

    Raises:
        BadInput: the folder or the file may not be used, or cannot be made.
    """
    path = key_path(data_dir)
    _folder(path.parent)
    if not path.exists():
        _write(path)
    return read(path)


def prepared(data_dir: Path | str | None) -> Ed25519PrivateKey:
    """The key that is to follow the one in use; the same one until :func:`promote` puts it there."""
    path = key_path(data_dir).with_name(_NEXT)
    _folder(path.parent)
    if not path.exists():
        _write(path)
    return read(path)


def promote(data_dir: Path | str | None) -> None:
    """Put the prepared key in the place of the one in use, which is gone afterwards."""
    path = key_path(data_dir)
    os.replace(path.with_name(_NEXT), path)
    _sync(path.parent)


def _folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(folder)
    except OSError as error:
        remedy = f"It cannot be made: {error.strerror}. Use another data folder, or give a key in {ENVIRONMENT}."
        raise BadInput("keys folder", str(folder), remedy) from None
    if not stat.S_ISDIR(status.st_mode):
        raise BadInput("keys folder", str(folder), "It is no folder; move it away.")
    _private("keys folder", folder, status, 0o700)


def _write(path: Path) -> None:
    """A new key at a path where there is none. The first of several writers wins; nobody sees half a file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
            os.link(draft, path)
            _sync(path.parent)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    except OSError as error:
        remedy = f"It cannot be made: {error.strerror}. Use another data folder, or give a key in {ENVIRONMENT}."
        raise BadInput("signing key", str(path), remedy) from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
