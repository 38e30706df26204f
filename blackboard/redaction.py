"""Taking secret values out of texts: of logs, and of the errors that are stored on a board.

A process remembers the values it was given; each of them, and its usual codings (percent, base64, hexadecimal, JSON), becomes
``[secret:HANDLE]``. A value in a disguise of somebody's own is not recognised.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import JsonValue

from blackboard.types import Completion, Failure

SHORTEST = 4
"""Shorter values are not remembered: taking them out of a text would take out everything."""
_MOST = 1000
_INSIDE = 8
"""Characters that a piece of base64 must have to be looked for; fewer could be anything."""
_ROOMS = (
    "arbiter",
    "blackboard",
    "fabricator",
    "registry",
    "wrapper",
    "strands",
    "httpx",
    "httpcore",
    "uvicorn",
    "botocore",
)

_CREDENTIALS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_API_KEY", "OPENAI_API_KEY",
    "OLLAMA_API_KEY",
)  # fmt: skip

_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
"""Lists of ``name=value`` that go to whoever collects traces, percent-encoded; keys of access are among them."""

_known: OrderedDict[str, str] = OrderedDict()
_pattern: list[tuple[re.Pattern[str], dict[str, str]]] = []
_lock = threading.Lock()


def remember(handle: str, value: str | None) -> None:
    """Take a value out of this process's logs and stored errors from now on. The latest 1,000 are remembered.

    Args:
        handle: what stands in its place.
        value: nothing happens without one, or with one of fewer than 4 characters.
    """
    if value is None or len(value) < SHORTEST or _known.get(value) == handle:
        return
    with _lock:
        _known[value] = handle
        _known.move_to_end(value)
        while len(_known) > _MOST:
            _known.popitem(last=False)
        _pattern.clear()


def remember_credentials(url: str | None = None) -> None:
    """Remember what the environment of this process says to get into other systems, and the password of a board's URL."""
    for name in _CREDENTIALS:
        remember(name, os.environ.get(name))
    for name in _HEADERS:
        for pair in os.environ.get(name, "").split(","):
            header, _, value = pair.partition("=")
            remember(f"header-{header.strip().lower()}", unquote(value.strip()))
    for text in (url, os.environ.get("ARBITER_REDIS_URL")):
        try:
            password = urlsplit(text or "").password
        except ValueError:  # whoever opens it says so
            continue
        remember("redis-password", unquote(password) if password else None)


def forget() -> None:
    """Forget every value, as between tests."""
    with _lock:
        _known.clear()
        _pattern.clear()


def clean(text: str) -> str:
    """A text without the values this process remembers."""
    if not _known:
        return text
    with _lock:
        if not _pattern:
            forms = dict(_forms([(handle, value) for value, handle in _known.items()]))
            _pattern.append((re.compile("|".join(map(re.escape, forms))), forms))
        found, forms = _pattern[0]
    return found.sub(lambda match: forms[match[0]], text)


def cleaned(value: JsonValue) -> JsonValue:
    """The same for every text in a JSON value, names of its fields included."""
    if not _known:
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    if isinstance(value, dict):
        return {clean(name): cleaned(each) for name, each in value.items()}
    return value


def cleaned_failure(error: Failure) -> Failure:
    """An error without the values this process remembers."""
    if not _known:
        return error
    evidence = cast("dict[str, JsonValue]", cleaned(error.evidence))
    return error.model_copy(update={"message": clean(error.message), "evidence": evidence})


def cleaned_completion(completion: Completion) -> Completion:
    """A completion whose error and kept output are without them. Its result is left as it is."""
    if not _known:
        return completion
    return completion.model_copy(
        update={
            "error": None if completion.error is None else cleaned_failure(completion.error),
            "stdout": clean(completion.stdout),
            "stderr": clean(completion.stderr),
        }
    )


class Redaction(logging.Filter):
    """Takes the values this process remembers out of log records; add it to a handler. It changes them for all behind it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record; True."""
        if _known:
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            try:
                record.msg = clean(record.getMessage())
            except (
                TypeError,
                ValueError,
            ):  # arguments that do not fit, told as they are: whoever logs must not be stopped by it
                record.msg = clean(f"{record.msg} {record.args!r}")
            record.args = ()
            record.exc_text = clean(record.exc_text) if record.exc_text else record.exc_text
            record.stack_info = clean(record.stack_info) if record.stack_info else record.stack_info
        return True


def install() -> None:
    """Clean what our own loggers, and those of the libraries that see credentials, say in this process, whoever handles it.

    Filters of loggers do not see what their descendants say, so this goes where records are made. Calling it again does
    nothing.
    """
    made = logging.getLogRecordFactory()
    if getattr(made, "_cleans", False):
        return
    cleaning = Redaction()

    def make(*args: Any, **more: Any) -> logging.LogRecord:
        record = made(*args, **more)
        if _known and (record.name or "").partition(".")[0] in _ROOMS:  # a copy has its name later
            cleaning.filter(record)
        return record

    make._cleans = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)


def redacted(text: str, known: Iterable[tuple[str, str]]) -> str:
    """A text without values: each, and its usual codings, becomes ``[secret:HANDLE]``.

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
        mark, raw = f"[secret:{handle}]", value.encode()
        plain = base64.b64encode(raw).decode()
        percent = quote(value, safe="")
        for form in (
            value, percent, percent.lower(), quote(value), quote_plus(value), json.dumps(value)[1:-1], plain,
            plain.rstrip("="), base64.urlsafe_b64encode(raw).decode(), raw.hex(), raw.hex().upper(), *_inside(raw),
        ):  # fmt: skip
            found.setdefault(form, mark)
    # The longest first: a value may begin with another one.
    return sorted(found.items(), key=lambda pair: -len(pair[0]))


def _inside(raw: bytes) -> Iterable[str]:
    """What base64 of a longer text has of a value within it, wherever it begins: ``Basic dXNlcjpwYXNz…``."""
    for before in range(3):
        bits = 8 * (before + len(raw))
        first, last = -(-8 * before // 6), bits // 6
        for coded in (base64.b64encode, base64.urlsafe_b64encode):
            piece = coded(b"\0" * before + raw).decode()[first:last]
            if len(piece) >= _INSIDE:
                yield piece
