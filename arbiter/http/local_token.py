"""The token of this machine's user: made once in the data folder, readable by that user alone, good for everything.

So a program of this user needs no ceremony, and no other user, container or web page of this machine gets in. It is taken on
the loopback interface only, and not where clients beyond this machine are let in.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from uuid import uuid4

from blackboard.errors import BadInput
from registry.keyfile import data_folder

_MOST_BYTES = 200


def path(data_dir: Path | str | None) -> Path:
    """Where the token of a data folder is, or will be."""
    return data_folder(data_dir) / "http" / "token"


def made(data_dir: Path | str | None) -> str:
    """The token, made now when there is none. Processes that start at once get the same one.

    Raises:
        BadInput: the folder or the file cannot be made, or others could have read it.
    """
    file = path(data_dir)
    try:
        file.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        if not file.exists():
            _write(file)
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status, text = os.fstat(descriptor), os.read(descriptor, _MOST_BYTES).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput("http token", str(file), f"It cannot be made or read: {error.strerror}.") from None
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or mode & 0o077:
        raise BadInput(
            "http token", f"{file}, mode {mode:04o}", "Others may have read it; remove it, and a new one is made."
        )
    if not text.startswith("arb_local_") or len(text) < 50:
        raise BadInput("http token", str(file), "It holds no token of ours; remove it, and a new one is made.")
    return text


def _write(file: Path) -> None:
    """A new token where there is none. The first of several writers wins; nobody sees half a file."""
    draft = file.with_name(f".{file.name}.{uuid4().hex}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"arb_local_{secrets.token_urlsafe(32)}\n")
            opened.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
    finally:
        os.unlink(draft)
