"""Secrets by handle: what generated code may have used on its behalf, and never sees.

Code writes ``{{secret:HANDLE}}`` into a header or the query of a brokered request; the broker fills it in, for the hosts the
grant binds the secret to. Whatever comes back, and whatever is told about it, has the value taken out again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from blackboard import strict_json
from blackboard.errors import BadInput
from blackboard.redaction import SHORTEST, Redaction, redacted, redacted_bytes, remember
from registry.grants import SECRET_HANDLE

PREFIX = "ARBITER_SECRET_"
FILE = "ARBITER_SECRETS_FILE"
PLACEHOLDER = re.compile(r"\{\{secret:([^{}]*)\}\}")

__all__ = ["FILE", "PLACEHOLDER", "PREFIX", "Redaction", "Secrets", "Source", "redacted", "redacted_bytes"]

Source = Callable[[str], str | None]


class Secrets:
    """Gives the value of a handle.

    Args:
        source: a callable, a mapping, or the path of a JSON file ``{"HANDLE": "value"}`` that only this user can read.
            Default: the file that ``ARBITER_SECRETS_FILE`` names, and ``ARBITER_SECRET_<HANDLE>`` (upper case, dashes as
            underscores) in the environment. A file is read now, and again whenever a value is asked for.

    Raises:
        BadInput: the file is unfit, or a handle or a value in it, or in the mapping, is none that can be used.
    """

    def __init__(self, source: Source | Mapping[str, str] | Path | str | None = None) -> None:
        if source is None:
            self._source: Source = _from_environment
            if named := os.environ.get(FILE):
                _read(Path(named))
            for name, value in os.environ.items():
                if name.startswith(PREFIX):
                    remember(name.removeprefix(PREFIX), value)
        elif isinstance(source, Mapping):
            given = cast("Mapping[str, str]", source)
            _usable(given, "secrets")
            self._source = given.get
        elif isinstance(source, str | Path):
            path = Path(source)
            _read(path, "secrets")
            self._source = lambda handle: _read(path, "secrets").get(handle)
        elif callable(source):
            self._source = source
        else:
            raise BadInput(
                "secrets", type(source).__name__, "Give a mapping from handles to values, a callable, or a path."
            )

    def get(self, handle: str) -> str | None:
        """The value; None when there is none.

        Raises:
            BadInput: it cannot be used: too short, or with characters a header cannot carry; or its file is unfit.
        """
        if not SECRET_HANDLE.fullmatch(handle):
            return None
        value = self._source(handle)
        if value is None:
            return None
        _usable({handle: value}, "secrets")
        return value


def _from_environment(handle: str) -> str | None:
    value = os.environ.get(PREFIX + handle.upper().replace("-", "_"))
    if value is None and (path := os.environ.get(FILE)):
        value = _read(Path(path)).get(handle)
    return value


def _usable(given: Mapping[str, object], field: str) -> None:
    """Refuse what could not be filled in, and keep the rest out of logs."""
    for handle, value in given.items():
        if not SECRET_HANDLE.fullmatch(handle):
            raise BadInput(
                field, handle, "Begin a handle with a letter; then letters, digits, '_' and '-', at most 64."
            )
        if not isinstance(value, str) or len(value) < SHORTEST or not value.isascii() or not value.isprintable():
            raise BadInput(
                f"{field}.{handle}", "(hidden)", f"Use at least {SHORTEST} printable ASCII characters, as text."
            )
        remember(handle, value)


def _read(path: Path, field: str = FILE) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            content: object = strict_json.loads(file.read())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        if isinstance(error, strict_json.NotStrict):
            why = str(error)
        raise BadInput(
            field, str(path), f"It cannot be read: {why}. Name a JSON file from handles to values."
        ) from None
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & 0o077:
        raise BadInput(
            field, f"{path}, mode {mode:04o}", f"Others may read it; chmod 600 {path} and let it belong to this user."
        )
    if not isinstance(content, dict):
        raise BadInput(field, str(path), "Give a JSON object from handles to values.")
    found = cast("dict[str, str]", content)
    _usable(found, field)
    return found
