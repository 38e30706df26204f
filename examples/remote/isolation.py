"""Generated code on another machine: an isolation object that talks to one, and what answers there.

In the virtual machine, or wherever the code is to run::

    python isolation.py serve /run/arbiter-isolation.sock

and in the program that holds the credentials::

    Arbiter(url, isolation=RemoteIsolation("/run/arbiter-isolation.sock"))

Each run is one connection. The code, its input and its limits go there; calls of the code come back and are answered here,
where models, hosts and secrets are; the result comes back and is believed no more than that of a child on this machine. So what
breaks out of the walls over there has a machine in which nothing is kept. A local socket stands here for whatever reaches a
machine of yours: a vsock, a tunnel, a provider's API.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import asdict
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError

from blackboard.errors import IsolationUnavailable
from blackboard.types import Failure, Status
from wrapper.context import TaskContext
from wrapper.isolation import Broker, BrokerError, Job, JobLimits, Outcome, framing
from wrapper.isolation.detection import find

log = logging.getLogger("arbiter.isolation")

GRACE_SECONDS = 5.0
"""How long after a run's own limit the other machine may still answer."""
LARGEST = framing.RESULT_BYTES + (16 << 20)
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


async def _read(reader: asyncio.StreamReader, largest: int) -> dict[str, Any] | None:
    """The next frame, or None at the end. Raises Violation."""
    try:
        (size,) = framing.HEADER.unpack(await reader.readexactly(framing.HEADER.size))
        if size > largest:
            raise framing.Violation(f"frame of {size} bytes")
        return framing.decode(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(framing.frame(framing.encode(message, framing.DEPTH + 2)))


class RemoteIsolation:
    """Implements :class:`wrapper.isolation.Isolation`.

    Args:
        path: of the socket on which the other machine listens.
    """

    label = "remote"

    def __init__(self, path: str) -> None:
        self._path = path

    async def start(self) -> None:
        """Find out whether somebody answers. Raises IsolationUnavailable."""
        _, writer = await self._connected()
        writer.close()

    async def close(self) -> None:
        """Nothing is kept between runs."""

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise IsolationUnavailable(f"The machine that runs generated code does not answer: {error}") from error

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        """Run one job there. Time, cancellation and grants are this side's; the other side is told and not asked."""
        reader, writer = await self._connected()
        began = asyncio.get_running_loop().time()
        session = asyncio.ensure_future(self._session(reader, writer, job, broker))
        stop = asyncio.ensure_future(cancelled.wait() if cancelled is not None else asyncio.Event().wait())
        try:
            await asyncio.wait(
                {session, stop}, timeout=job.limits.wall_seconds + GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if session.done():
                outcome = session.result()
            elif stop.done():
                outcome = _ended(Status.CANCELLED, "cancelled", "Cancelled; the other machine was told by hanging up.")
            else:
                outcome = _ended(Status.TIMED_OUT, "timeout", f"No result within {job.limits.wall_seconds:g} s.")
        finally:
            # Whoever serves ends a run whose connection ends.
            session.cancel()
            stop.cancel()
            writer.close()
        seconds = round(asyncio.get_running_loop().time() - began, 6)
        return Outcome(
            outcome.status, outcome.value, outcome.error, outcome.stdout, outcome.stderr, seconds, self.label
        )

    async def _session(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job, broker: Broker | None
    ) -> Outcome:
        answers: set[asyncio.Task[None]] = set()
        try:
            _write(writer, {"t": "job", "job": {**asdict(job), "input": dict(job.input)}})
            while (said := await _read(reader, LARGEST)) is not None:
                if said.get("t") == "call":
                    method, number = str(said["method"]), int(said["id"])
                    answers = {each for each in answers if not each.done()}
                    if len(answers) >= framing.OPEN_CALLS:
                        raise framing.Violation("too many calls at once")
                    answers.add(asyncio.ensure_future(_answer(writer, job, broker, number, method, said["args"])))
                elif said.get("t") == "outcome":
                    return _OUTCOME.validate_python(said["outcome"])
                else:
                    raise framing.Violation("unknown frame")
        except (framing.Violation, ValidationError, KeyError, TypeError, ValueError) as error:
            return _ended(Status.FAILED, "protocol", f"The other machine broke the protocol: {error}"[:500])
        finally:
            for each in answers:
                each.cancel()
        return _ended(Status.FAILED, "isolation", "The other machine hung up during the run.", retryable=True)


def _ended(status: Status, kind: str, message: str, *, retryable: bool = False) -> Outcome:
    return Outcome(status, error=Failure(type=kind, message=message, retryable=retryable))


async def _answer(
    writer: asyncio.StreamWriter, job: Job, broker: Broker | None, number: int, method: str, args: JsonValue
) -> None:
    """One call of the code, judged here: the other machine's word for what is granted counts for nothing."""
    try:
        if broker is None or (job.grants is not None and method not in job.grants):
            raise BrokerError("denied", f"{method} was not granted to this run")
        _write(writer, {"t": "ret", "id": number, "value": await broker(method, args)})
    except BrokerError as error:
        _write(writer, {"t": "ret", "id": number, "error": {"type": error.type, "message": error.message}})
    except Exception:
        # What nobody foresaw is for this side's log.
        log.exception("call %r of %s was not answered", method, job.name)
        _write(
            writer, {"t": "ret", "id": number, "error": {"type": "internal", "message": "The host could not answer."}}
        )


async def serve(path: str) -> None:
    """Run what is asked, in the strongest isolation this machine has, until it is ended."""
    isolation, _ = await find()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: dict[int, asyncio.Future[JsonValue]] = {}
        hung_up = asyncio.Event()

        async def broker(method: str, args: JsonValue) -> JsonValue:
            number = len(waiting) + 1
            waiting[number] = asyncio.get_running_loop().create_future()
            _write(writer, {"t": "call", "id": number, "method": method, "args": args})
            return await waiting[number]

        async def listen() -> None:
            while (said := await _read(reader, framing.RETURN_BYTES + (1 << 20))) is not None:
                future = waiting[said["id"]]
                if "error" in said:
                    future.set_exception(BrokerError(said["error"]["type"], said["error"]["message"]))
                else:
                    future.set_result(said["value"])
            hung_up.set()

        said = await _read(reader, framing.REQUEST_BYTES + (1 << 20))
        if said is not None:
            given = said["job"]
            task = TaskContext(**given["task"]) if given["task"] else None
            limits = JobLimits(**given["limits"])
            lists = {name: given[name] and tuple(given[name]) for name in ("grants", "packages")}
            job = Job(**{**given, **lists, "limits": limits, "task": task})
            listening = asyncio.ensure_future(listen())
            outcome = await isolation.run(job, broker, hung_up)
            listening.cancel()
            with contextlib.suppress(ConnectionError):
                _write(writer, {"t": "outcome", "outcome": _OUTCOME.dump_python(outcome, mode="json")})
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(connected, path)
    print(f"{isolation.label} on {path}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]))
