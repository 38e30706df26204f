"""Secrets by handle: what generated code may have used on its behalf, and never sees.

Code writes ``{{secret:HANDLE}}`` into a header or the query of a brokered request; the broker fills it in, for the hosts the
grant binds the secret to. Whatever comes back, and whatever is told about it, has the value taken out again.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast
from urllib.parse import quote, quote_plus

from blackboard.errors import BadInput
from registry.manifest import SECRET_HANDLE

PREFIX = "ARBITER_SECRET_"
FILE = "ARBITER_SECRETS_FILE"
PLACEHOLDER = re.compile(r"\{\{secret:([^{}]*)\}\}")
_SHORTEST = 4
"""Values shorter than this are refused: taking them out of an answer would take out everything."""

_given: dict[str, str] = {}
"""What this process was given so far, for its own log."""

Source = Callable[[str], str | None]


class Secrets:
    """Gives the value of a handle.

    Args:
        source: a callable, a mapping, or the path of a JSON file ``{"HANDLE": "value"}`` that only this user can read.
            Default: the file that ``ARBITER_SECRETS_FILE`` names, and ``ARBITER_SECRET_<HANDLE>`` (upper case, dashes as
            underscores) in the environment.
    """

    def __init__(self, source: Source | Mapping[str, str] | Path | str | None = None) -> None:
        if source is None:
            self._source: Source = _from_environment
        elif isinstance(source, Mapping):
            self._source = cast("Mapping[str, str]", source).get
        elif isinstance(source, str | Path):
            path = Path(source)
            self._source = lambda handle: _read(path).get(handle)
        else:
            self._source = source

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
        if len(value) < _SHORTEST or not value.isascii() or not value.isprintable():
            raise BadInput(f"secret {handle}", "(hidden)", "Use at least 4 printable ASCII characters.")
        _given[handle] = value
        return value


def _from_environment(handle: str) -> str | None:
    value = os.environ.get(PREFIX + handle.upper().replace("-", "_"))
    if value is None and (path := os.environ.get(FILE)):
        value = _read(Path(path)).get(handle)
    return value


def _read(path: Path) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            content: object = json.load(file)
    except (OSError, ValueError) as error:
        raise BadInput(FILE, str(path), f"It cannot be read as a JSON object: {type(error).__name__}.") from None
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & 0o077:
        raise BadInput(
            FILE, f"{path}, mode {mode:04o}", f"Others may read it; chmod 600 {path} and let it belong to this user."
        )
    if not isinstance(content, dict):
        raise BadInput(FILE, str(path), "Give a JSON object from handles to values.")
    return {str(key): str(value) for key, value in cast("dict[object, object]", content).items()}


class Redaction(logging.Filter):
    """Takes secrets that were used out of log records; add it to a handler. The record is changed for all behind it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record; True."""
        if _given:
            known = list(_given.items())
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.msg, record.args = redacted(record.getMessage(), known), ()
            record.exc_text = redacted(record.exc_text, known) if record.exc_text else record.exc_text
        return True


def redacted(text: str, known: Iterable[tuple[str, str]]) -> str:
    """A text without values: each, and its usual codings (percent, base64, JSON), becomes ``[secret:HANDLE]``.

    Args:
        known: pairs of handle and value.
    """
    for value, mark in _forms(known):
        text = text.replace(value, mark)
    return text


def redacted_bytes(body: bytes, known: Iterable[tuple[str, str]]) -> bytes:
    """The same for bytes."""
    for value, mark in _forms(known):
        body = body.replace(value.encode(), mark.encode())
    return body


def _forms(known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for handle, value in known:
        mark = f"[secret:{handle}]"
        plain = base64.b64encode(value.encode()).decode()
        for form in (
            value, quote(value, safe=""), quote(value), quote_plus(value), json.dumps(value)[1:-1], plain,
            plain.rstrip("="), base64.urlsafe_b64encode(value.encode()).decode(),
        ):  # fmt: skip
            found.setdefault(form, mark)
    # The longest first: a value may begin with another one.
    return sorted(found.items(), key=lambda pair: -len(pair[0]))
