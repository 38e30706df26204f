"""Loading and calling the board's Lua scripts: one text, one SHA, one place for retries and for error words.

A script is a file in ``lua/``. Files named ``_*.lua`` are preludes that several scripts share; what a script uses of its
preludes is put in front of it. Every key a script touches is declared in ``KEYS``; ``ARGV`` holds strings only.

Every script is idempotent, so a call whose reply was lost is simply sent again here. redis-py's own retries are off
(they re-send calls that are not idempotent, and multiply with ours).
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_random_exponential,
)

from blackboard.errors import (
    BoardFull,
    Conflict,
    EngineUnavailable,
    Fenced,
    LeaseLost,
    QuotaExceeded,
    ScriptRefused,
    Stale,
    UnknownRecord,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)
_SILENCE_SECONDS = 2.0
"""How long calls are repeated before the log says so."""
_AGAIN_SECONDS = 60.0
"""It does not say so again in this time: all that a process calls is repeated alike."""

TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    TryAgainError,
    ClusterError,
    AskError,
)
"""What a server that is restarting, failing over or unreachable makes redis-py raise."""

_PASSING = re.compile(r"(?:^|-)(?:READONLY|NOREPLICAS|MASTERDOWN|LOADING|CLUSTERDOWN|UNBLOCKED) ")
"""The same, told in words: of a blocked call that ends, and where a script before Redis 7 met it."""

_FULL = re.compile(r"(?:^|-)OOM ")
"""A server without memory, where a script before Redis 7 met it."""

_UNWRITABLE = re.compile(r"(?:^|-)MISCONF ")
"""A server that cannot write to its disk: it refuses what changes anything, and PING."""

RETRY_SECONDS = 15.0
"""How long a call is repeated before :class:`EngineUnavailable`; longer than a local restart or a failover of 5 s. A
client whose servers take longer to fail over says so itself, as ``patience_seconds``."""

_REFUSALS: dict[str, type[ScriptRefused]] = {
    "FENCED": Fenced,
    "UNKNOWN": UnknownRecord,
    "CONFLICT": Conflict,
    "QUOTA": QuotaExceeded,
    "STALE": Stale,
    "LEASE": LeaseLost,
}


class Script:
    """One Lua text with its SHA-1, as ``EVALSHA`` wants it."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


PRELUDES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "_entries": ("_entry_keys", "_entries"),
    "_results": ("_board", "_results", "_premises"),
    "_taking_over": ("_board", "_results", "_premises", "_taking_over"),
    "_noticing": ("_board", "_entry_board", "_entries", "_premises", "_activations", "_noticing"),
    "_agenda": ("_board", "_agenda", "_activations"),
    "_agenda_taking_over": ("_board", "_agenda", "_activations", "_results", "_premises", "_taking_over"),
}
"""The preludes that are not one file of that name."""


@cache
def load(name: str, prelude: str = "_board") -> Script:
    """The script ``lua/<name>.lua`` behind a prelude: a file of that name, or what :data:`PRELUDES` says."""
    return Script(name, assembled([source(one) for one in parts(name, prelude)]))


def parts(name: str, prelude: str) -> tuple[str, ...]:
    """The files a script is made of, its own last."""
    return (*PRELUDES.get(prelude, (prelude,)), name)


def source(name: str) -> str:
    """The text of the file ``lua/<name>.lua``."""
    return (files("blackboard") / "lua" / f"{name}.lua").read_text("utf-8")


def assembled(texts: Sequence[str]) -> str:
    """The last of the texts behind what it uses of those before it.

    A server makes every function of a script anew at each call, also those that are not called: of the shared ones a
    script uses a third, and the others would take a fifth of its time. A text is taken apart at the lines that begin at
    its margin: ``local function name`` and ``local name, name = ...`` may be left out, any other statement may not.
    """
    *shared, own = texts
    statements: list[list[str]] = []
    for line in "\n".join(shared).splitlines():
        if not line.strip() or line.startswith("--"):
            continue
        if statements and line.startswith((" ", "end", "}", ")")):
            statements[-1].append(line)
        else:
            statements.append([line])
    used, kept = set(_words(own)), [own]
    for lines in statements[::-1]:  # what a statement uses stands before it
        text = "\n".join(lines) + "\n"
        defines = _DEFINES.match(text)
        if defines is None or used.intersection(_words(defines[1])):
            used.update(_words(text))
            kept.append(text)
    return "".join(reversed(kept))


_DEFINES = re.compile(r"local (?:function )?([\w, ]+)")
_STRINGS_AND_COMMENTS = re.compile(r"'(?:[^'\\\n]|\\.)*'|--[^\n]*")


def _words(text: str) -> list[str]:
    """Names in a Lua text, besides those of fields."""
    return re.findall(r"(?<![\w.])[A-Za-z_]\w*", _STRINGS_AND_COMMENTS.sub("''", text))


def refusal(error: ResponseError) -> ScriptRefused | None:
    """The typed error for a script's own ``CODE detail`` reply; None when the error is not one of ours."""
    code, _, detail = str(error).partition(" ")
    if not detail.startswith("| "):
        return None
    return typed(code, detail[2:])


def typed(code: str, detail: str) -> ScriptRefused:
    """The error that a script's word for a refusal stands for."""
    return _REFUSALS.get(code, ScriptRefused)(code, detail)


def full(error: ResponseError) -> BoardFull | None:
    """The typed error of a server that refused a script's first write for want of memory or disk; None for any other error."""
    if unwritable(error):
        return BoardFull(
            "The server cannot write to its disk, so it takes nothing; nothing was written. Make room where its data are, and "
            "call again."
        )
    if not (isinstance(error, OutOfMemoryError) or _FULL.search(str(error))):
        return None
    return BoardFull(
        "The server has no memory left; nothing was written. Let old runs be archived or deleted, raise its maxmemory, "
        "or add servers, and call again."
    )


def unwritable(error: ResponseError) -> bool:
    """Whether a server refuses what changes anything because it cannot write to its disk."""
    return bool(_UNWRITABLE.search(str(error)))


def passing(error: BaseException) -> bool:
    """Whether a call that raised this was refused or lost for a reason that passes, so that repeating it makes sense."""
    return isinstance(error, TRANSIENT) or (isinstance(error, ResponseError) and bool(_PASSING.search(str(error))))


async def retrying(call: Callable[[], Awaitable[T]], *, seconds: float = RETRY_SECONDS) -> T:
    """Repeat an idempotent asynchronous call while the server is unreachable, for at most ``seconds``.

    Raises:
        EngineUnavailable: the server stayed unreachable.
    """
    began = time.monotonic()
    try:
        # Nearly every call ends here: the machinery of repeating is only built for those that need it.
        return await call()
    except redis.RedisError as error:
        if not passing(error):
            raise
        failed: Exception | None = error

    async def attempt() -> T:
        nonlocal failed
        if failed is not None:  # the call above was the first attempt: wait after it like after any other
            error, failed = failed, None
            raise error
        return await call()

    try:
        reply: T = await AsyncRetrying(**_patience(seconds - (time.monotonic() - began)))(attempt)
    except redis.RedisError as error:
        if not passing(error):
            raise
        raise EngineUnavailable(_unreachable(error, seconds)) from error
    _SILENCE.over()
    return reply


async def run(
    client: redis.asyncio.Redis,
    script: Script,
    keys: Sequence[str],
    args: Sequence[str | int],
    recover: Callable[[], Awaitable[None]] | None = None,
    seconds: float | None = None,
) -> Any:
    """Call a script, repeating it while the server is unreachable.

    ``recover`` is awaited after a lost connection, before the call is repeated; it brings a supervised server back.
    ``seconds`` bounds the repeating; default: the client's ``patience_seconds``, else :data:`RETRY_SECONDS`.

    Raises:
        ScriptRefused: the script's guard refused (or one of its subclasses); nothing was written.
        EngineUnavailable: the server stayed unreachable that long.
        BoardFull: the server has no memory for what the script would write first; nothing was written.
    """

    async def call() -> Any:
        try:
            return await client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(script.text, len(keys), *keys, *args)
        except redis.ConnectionError:
            if recover is not None:
                await recover()
            raise

    try:
        return await retrying(call, seconds=patience(client) if seconds is None else seconds)
    except ResponseError as error:
        known = refusal(error) or full(error)
        if known is None:
            raise
        raise known from None


def run_sync(
    client: redis.Redis, script: Script, keys: Sequence[str], args: Sequence[str | int], seconds: float
) -> Any:
    """The same for a thread with a connection of its own; gives up after ``seconds``."""

    def call() -> Any:
        try:
            return client.evalsha(script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.eval(script.text, len(keys), *keys, *args)

    try:
        return Retrying(**_patience(seconds))(call)
    except redis.RedisError as error:
        if not passing(error):
            raise
        raise EngineUnavailable(_unreachable(error, seconds)) from error


def patience(client: object) -> float:
    """How long calls of this client are repeated, in seconds."""
    return float(getattr(client, "patience_seconds", RETRY_SECONDS))


def _patience(seconds: float) -> dict[str, Any]:
    return {
        "retry": retry_if_exception(passing),
        "wait": wait_random_exponential(multiplier=0.02, max=1.0),
        # Asked once more in any case: the time may have passed while this process was frozen, and nothing was tried in it.
        "stop": stop_all(stop_after_delay(max(0.0, seconds)), stop_after_attempt(2)),
        "before_sleep": _SILENCE.goes_on,
        "reraise": True,
    }


class _Silence:
    """Tells the log that a server does not answer, and that it does again, once for all that is repeated meanwhile."""

    def __init__(self) -> None:
        self._told: float | None = None
        self._since = 0.0

    def goes_on(self, state: RetryCallState) -> None:
        """A call is going to be repeated."""
        lasts, now = state.seconds_since_start or 0.0, time.monotonic()
        if lasts < _SILENCE_SECONDS or (self._told is not None and now - self._told < _AGAIN_SECONDS):
            return
        if self._told is None:
            self._since = now - lasts
        self._told = now
        why = state.outcome.exception() if state.outcome is not None else None
        _log.warning("Redis has not answered for %.0f s (%s); calls are repeated", now - self._since, why)

    def over(self) -> None:
        """A call that was repeated was answered."""
        if self._told is not None:
            _log.warning("Redis answers again, after %.0f s", time.monotonic() - self._since)
            self._told = None


_SILENCE = _Silence()


def _unreachable(error: Exception, seconds: float) -> str:
    return f"Redis did not answer for {seconds:g} s ({error}). Check that the server is running and the URL is right."
