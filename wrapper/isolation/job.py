"""What an isolated run is asked, what it answers, and the interface every isolation backend has."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from pydantic import JsonValue

from blackboard.errors import ArbiterError, BadInput
from blackboard.types import Failure, Status
from wrapper.context import TaskContext
from wrapper.isolation.framing import RESULT_BYTES

Op = Literal["call", "inspect", "import", "mistakes"]
"""What is done with source: see :class:`Job`."""

Broker = Callable[[str, JsonValue], Awaitable[JsonValue]]
"""Answers a call of the code: ``await broker(method, args)``, for example ``("model.invoke", {"messages": …})``.

What it raises reaches the code as a typed error and never ends the host: raise :class:`BrokerError` to choose the type
and the message. Of any other exception the code is told nothing but a reference, under which the log has the rest.
"""

_UPPER = {
    "wall_seconds": 86_400.0,
    "cpu_seconds": 86_400.0,
    "memory_bytes": 1 << 40,
    "file_bytes": 1 << 30,
    "result_bytes": RESULT_BYTES,
    "log_bytes": 16 << 20,
}


class BrokerError(ArbiterError):
    """A broker's refusal, passed to the code as it is.

    Args:
        type: stable word such as ``denied``, ``limit`` or ``model_error``.
        message: for the author of the code; must hold no secret.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type, self.message = type, message


class NotGranted(BrokerError):
    """The code asked for something its manifest does not declare."""

    def __init__(self, message: str) -> None:
        super().__init__("denied", message)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds of one run. Every one must be positive and finite.

    Raises:
        BadInput: a limit is not positive, or above what the protocol and the parked children allow.
    """

    wall_seconds: float = 30.0
    """From handing over the code to its result: import, handler and encoding."""
    cpu_seconds: float = 30.0
    """Processor time, rounded up to whole seconds."""
    memory_bytes: int = 1 << 30
    """Address space the code may add to what the warm interpreter already maps."""
    file_bytes: int = 16 << 20
    """Size of any one file it writes; also bounds raw writes to stdout and stderr."""
    result_bytes: int = 8 << 20
    """Size of the encoded result."""
    log_bytes: int = 1 << 20
    """How much of each of stdout and stderr is kept."""

    def __post_init__(self) -> None:
        for name, upper in _UPPER.items():
            value: float = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= upper):
                raise BadInput(f"limits.{name}", value, f"Give a number above 0 and at most {upper}.")


def _no_input() -> Mapping[str, JsonValue]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one source text.

    Args:
        source: the whole module; strict UTF-8 text.
        sha256: lower-case hex SHA-256 of ``source`` in UTF-8. Checked by the host before anything is sent and by
            the child before anything is compiled.
        name: the capability's name, for tracebacks and evidence.
        input: keyword arguments of ``handler``.
        limits: bounds of this run.
        op: ``call`` runs ``handler(**input)``; ``import`` loads the module and describes the real handler;
            ``inspect`` and ``mistakes`` parse only and import nothing: the one tells what the source contains, the other which
            mistakes could be planted in it, at most ``input["most"]``.
        grants: methods the code may call through the broker; None leaves the decision to the broker alone.
        task: the task the code runs for, which ``sdk.current_task()`` tells it; None for runs of ours that are for none.
        packages: top-level modules it may import beside the standard library; None does not look.
    """

    source: str
    sha256: str
    name: str
    input: Mapping[str, JsonValue] = field(default_factory=_no_input)
    limits: JobLimits = field(default_factory=JobLimits)
    op: Op = "call"
    grants: tuple[str, ...] | None = None
    task: TaskContext | None = None
    packages: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        source: str,
        *,
        name: str = "capability",
        input: Mapping[str, JsonValue] | None = None,
        limits: JobLimits | None = None,
        op: Op = "call",
        grants: tuple[str, ...] | None = None,
        packages: tuple[str, ...] | None = None,
    ) -> Job:
        """A job over text the caller trusts to be what it meant: the hash is taken here, not from a record."""
        digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(source, digest, name, input or {}, limits or JobLimits(), op, grants, packages=packages)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``error`` is None exactly when ``status`` is succeeded."""

    status: Status
    value: JsonValue = None
    error: Failure | None = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    """Measured by the host, from handing over the code."""
    isolation: str = "process"
    """Label of the backend that ran it."""


class Isolation(Protocol):
    """What runs generated code. Backends differ in strength, never in this interface."""

    @property
    def label(self) -> str:
        """Short stable word for the backend, stored on every completion."""
        ...

    async def start(self) -> None:
        """Warm up.

        Raises:
            IsolationUnavailable: this backend cannot be had here; the message says why.
        """
        ...

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        """Run one job to its end; safe to call many times at once.

        Raises:
            BadInput: the input is not JSON.
            IsolationUnavailable: no isolation could be had; nothing was run.
        """
        ...

    async def close(self) -> None:
        """Kill what runs, remove what was made. Idempotent."""
        ...
