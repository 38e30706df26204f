"""Where a signing key comes from: a file of this user's made once, or given; never one that others may have read."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from blackboard.errors import BadInput
from registry import Signer, keyfile

SEED = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ID = Signer(KEY, "").key


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARBITER_SIGNING_KEY", raising=False)


def test_a_key_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    first = Signer.find(None, tmp_path / "data")
    path = tmp_path / "data" / "keys" / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Signer.find(None, tmp_path / "data").key == first.key
    assert os.listdir(path.parent) == ["signing.pem"]
    assert first.key not in path.read_text()


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    code = "import sys; from registry import Signer; sys.stdin.read(1); print(Signer.find(None, sys.argv[1]).key)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for one in started:
        assert one.stdin is not None
        one.stdin.write("x")
        one.stdin.flush()
    said = {one.communicate(timeout=60)[0].strip() for one in started}
    assert said == {Signer.find(None, tmp_path / "data").key}
    assert os.listdir(tmp_path / "data" / "keys") == ["signing.pem"]


@pytest.mark.parametrize("given", [PEM, base64.b64encode(SEED).decode(), f"  {PEM}\n"])
def test_a_key_can_be_given_as_text_in_the_environment_or_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    assert Signer.find(given).key == ID
    monkeypatch.setenv("ARBITER_SIGNING_KEY", given)
    assert Signer.find(None, tmp_path).key == ID
    assert not list(tmp_path.iterdir()), "nothing is made"
    file = tmp_path / "key"
    file.write_text(given)
    file.chmod(0o600)
    monkeypatch.setenv("ARBITER_SIGNING_KEY", str(file))
    assert Signer.find(None, tmp_path).key == ID


@pytest.mark.parametrize(("what", "mode"), [("file", 0o640), ("file", 0o604), ("file", 0o620), ("folder", 0o755)])
def test_what_others_may_read_or_write_is_refused_with_the_remedy(tmp_path: Path, what: str, mode: int) -> None:
    Signer.find(None, tmp_path)
    path = tmp_path / "keys" / "signing.pem"
    wide = path if what == "file" else path.parent
    wide.chmod(mode)
    with pytest.raises(BadInput, match=f"mode 0{mode:o}.*chmod {'600' if what == 'file' else '700'} {wide}"):
        Signer.find(None, tmp_path)


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Signer.find(None, tmp_path)
    other = os.geteuid() + 1
    monkeypatch.setattr("registry.keyfile.os.geteuid", lambda: other)
    with pytest.raises(BadInput, match=f"belongs to user {other - 1}, not to {other}"):
        Signer.find(None, tmp_path)


def test_what_is_no_key_is_refused_and_never_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cret" * 10
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    others = [
        secret,
        base64.b64encode(b"short").decode(),
        PEM[:60] + "\n-----END PRIVATE KEY-----\n",
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode(),
        str(tmp_path / "none"),
    ]
    for text in others:
        monkeypatch.setenv("ARBITER_SIGNING_KEY", text)
        with pytest.raises(BadInput) as caught:
            Signer.find(None, tmp_path)
        assert caught.value.field == "ARBITER_SIGNING_KEY"
        assert text[:20] not in str(caught.value)


def test_files_that_cannot_be_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Signer.find(None, tmp_path)
    path = tmp_path / "keys" / "signing.pem"
    path.rename(tmp_path / "real")
    path.symlink_to(tmp_path / "real")
    with pytest.raises(BadInput, match="cannot be read"):
        Signer.find(None, tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match="no regular file"):
        Signer.find(None, tmp_path)
    path.rmdir()
    path.write_text("nonsense")
    path.chmod(0o600)
    with pytest.raises(BadInput, match="no Ed25519 key"):
        Signer.find(None, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        Signer.find(None, tmp_path / "file")


def test_a_rotation_that_was_interrupted_goes_on_with_the_same_key(tmp_path: Path) -> None:
    old = Signer.find(None, tmp_path)
    new = Signer(keyfile.prepared(tmp_path), "")
    assert Signer(keyfile.prepared(tmp_path), "").key == new.key != old.key
    assert Signer.find(None, tmp_path).key == old.key
    keyfile.promote(tmp_path)
    assert Signer.find(None, tmp_path).key == new.key
