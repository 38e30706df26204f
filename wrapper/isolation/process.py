"""The backends: one clean, limited, single-use process per run, forked from a warm zygote, with walls of three kinds.

``process`` has none and is not a sandbox against hostile code. The others differ in what the zygote and its children are
told to give up, see :mod:`wrapper.isolation.lockdown`; all the rest is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

from pydantic import JsonValue

from blackboard.errors import BadInput, IsolationUnavailable
from blackboard.types import Failure, Status
from wrapper.isolation import framing
from wrapper.isolation.children import Link
from wrapper.isolation.conversation import Conversation, Ending, NeverStarted, failed
from wrapper.isolation.job import Broker, Job, Outcome
from wrapper.isolation.parking import Parking
from wrapper.isolation.spawning import SpawningLink
from wrapper.isolation.zygote_link import ZygoteLink

_TAIL_CHARS = 2_000
_ATTEMPTS = 3


class ProcessIsolation:
    """Runs jobs in single-use child processes. Implements :class:`~wrapper.isolation.job.Isolation`.

    Keeps code away from the host's memory, open files, environment and other runs; bounds its time, memory, files and
    output; ends it for certain. It does **not** keep it from the network or from files this user can read.

    One instance serves one event loop, in any thread; any number of runs at once.

    Args:
        preload_strands: import Strands in the zygote (0.5 s once) so that agents start warm. Without it the code
            may still import Strands, slowly.
        preload: further modules to import in the zygote; none may start a thread.
        parked: children kept ready; None means two per processor.
        recycle_runs: replace the zygote after this many runs, because its children share its address layout.
        recycle_seconds: the same, by age.
        start_seconds: how long a zygote may take to become ready.
        grace_seconds: between SIGTERM and SIGKILL when a run is cancelled.
    """

    label = "process"
    way = "process"
    """How it is made, in words of a report; one label may be had in several ways."""

    def __init__(
        self,
        *,
        preload_strands: bool = True,
        preload: Sequence[str] = (),
        parked: int | None = None,
        recycle_runs: int = 1000,
        recycle_seconds: float = 600.0,
        start_seconds: float = 60.0,
        grace_seconds: float = 0.25,
        _without: Sequence[str] = (),
    ) -> None:
        size = 2 * (os.cpu_count() or 1) if parked is None else parked
        if size < 0:
            raise BadInput("parked", parked, "Give 0 or more children to keep ready.")
        self._preload = (*(("strands", "strands.models.bedrock") if preload_strands else ()), *preload)
        self._size = size
        self._recycle_runs, self._recycle_seconds = recycle_runs, recycle_seconds
        self._without = tuple(_without)
        self._start_seconds, self._grace_seconds = start_seconds, grace_seconds
        self._parking: Parking | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the running zygote, for operators."""
        return self._parking.zygote_pid if self._parking is not None else None

    @property
    def parked(self) -> int:
        """Children that are ready now."""
        return self._parking.parked if self._parking is not None else 0

    @property
    def landlock(self) -> int:
        """Version of Landlock the children are confined by; 0 for none, or while no zygote runs."""
        return self._parking.landlock if self._parking is not None else 0

    @property
    def layers(self) -> tuple[str, ...]:
        """What keeps the code in, in words; for operators. Complete once it is started."""
        return ("no sandbox", *self._limits)

    @property
    def _limits(self) -> tuple[str, ...]:
        """The layers that bound what the code uses."""
        why = self._parking.ungrouped if self._parking is not None else None
        return ("limits",) if why is None else ("limits", f"no control groups ({why})" if why else "control groups")

    async def start(self) -> None:
        """Warm the zygote and park children. Optional: the first run does it too.

        Raises:
            IsolationUnavailable: there can be no zygote here.
        """
        await self._here().start()

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        """Run one job in a child of its own.

        Args:
            job: what to run. Its source is checked against its hash first; a mismatch is never sent anywhere.
            broker: answers the code's calls; None refuses them.
            cancelled: set it to end the run early.

        Returns:
            How it ended; a failure of the code is an outcome, not an exception.

        Raises:
            BadInput: the job's input is not JSON.
            IsolationUnavailable: no child could be had. Nothing was run, here or elsewhere.
        """
        request = _request(job)
        if isinstance(request, Ending):
            return self._outcome(request)
        parking = self._here()
        for _ in range(_ATTEMPTS):
            if cancelled is not None and cancelled.is_set():
                error = Failure(type="cancelled", message="Cancelled before it started.", evidence={"stopped": True})
                return self._outcome(Ending(Status.CANCELLED, error=error))
            child = await parking.take()
            try:
                ending = await Conversation(child, job, request, broker, cancelled, self._grace_seconds).verdict()
                return self._outcome(ending, _log(child.stdout, job), _log(child.stderr, job))
            except NeverStarted:
                continue
            finally:
                parking.bury(child)
        raise IsolationUnavailable(f"{_ATTEMPTS} children in a row ended before they could be given the job.")

    async def close(self) -> None:
        """Kill what runs, end the zygote, remove every directory. Idempotent; a later run starts anew."""
        parking, self._parking, self._loop = self._parking, None, None
        if parking is not None:
            await parking.close()

    def _here(self) -> Parking:
        loop = asyncio.get_running_loop()
        if self._parking is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise IsolationUnavailable("This isolation serves another event loop; make one for each loop.")
            self._parking.abandon()
            self._parking = None
        if self._parking is None:
            self._loop = loop
            self._parking = Parking(
                begin=self._begin,
                size=self._size,
                recycle_runs=self._recycle_runs,
                recycle_seconds=self._recycle_seconds,
            )
        return self._parking

    async def _begin(self) -> Link:
        return await ZygoteLink.start(
            preload=self._preload,
            profile=self.label,
            seconds=self._start_seconds,
            without=self._without,
            bubblewrap=isinstance(self, BubblewrapIsolation),
        )

    def _outcome(self, ending: Ending, stdout: str = "", stderr: str = "") -> Outcome:
        error = ending.error
        if error is not None:
            tails: dict[str, JsonValue] = {
                name: text[-_TAIL_CHARS:] for name, text in (("stdout_tail", stdout), ("stderr_tail", stderr)) if text
            }
            error = error.model_copy(update={"evidence": {**error.evidence, **tails}})
        return Outcome(ending.status, ending.value, error, stdout, stderr, ending.seconds, self.label)


def _request(job: Job) -> bytes | Ending:
    """Body of the ``run`` frame, or why this job is not sent."""
    try:
        digest = hashlib.sha256(job.source.encode()).hexdigest()
    except UnicodeEncodeError as error:
        return failed("syntax_error", f"The source is not UTF-8 text: {error.reason} at character {error.start}.")
    if digest != job.sha256:
        return failed(
            "hash_mismatch",
            f"The source of {job.name} is not the one that was registered; it was not run.",
            expected=job.sha256,
            actual=digest,
        )
    limits = job.limits
    run: dict[str, object] = {
        "t": "run",
        "v": framing.VERSION,
        "op": job.op,
        "name": job.name,
        "source": job.source,
        "sha256": job.sha256,
        "input": dict(job.input),
        "limits": {
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "result_bytes": limits.result_bytes,
            "log_bytes": limits.log_bytes,
        },
    }
    if job.task is not None:
        run["task"] = asdict(job.task)
    if job.packages is not None:
        run["packages"] = list(job.packages)
    try:
        body = framing.encode(run, framing.DEPTH + 1)
    except framing.NotJson as error:
        raise BadInput(f"job{error.path[1:]}", error.reason, "Give plain JSON values.") from error
    if len(body) > framing.REQUEST_BYTES:
        return failed("limit", f"Source and input are {len(body)} bytes; at most {framing.REQUEST_BYTES} are sent.")
    return body


def _log(fd: int, job: Job) -> str:
    """What was captured, whatever bytes it was."""
    size = os.fstat(fd).st_size
    kept = job.limits.log_bytes + 64  # room for the child's own mark of truncation
    text = os.pread(fd, kept, 0).decode("utf-8", "replace")
    return text if size <= kept else f"{text}\n[{size - kept} further bytes dropped]\n"


class BoxedIsolation(ProcessIsolation):
    """The ``zygote-ns`` backend: the same children, each walled in by namespaces, Landlock, seccomp and limits.

    Takes what :class:`ProcessIsolation` takes. ``_without`` leaves out single layers by their names in
    :mod:`wrapper.isolation.lockdown`, so that a test can show what a layer is worth; nothing a user can set leads to it.
    """

    label = "zygote-ns"
    way = "zygote-ns"

    @property
    def layers(self) -> tuple[str, ...]:
        return (f"namespaces {self.built}", *_walls(self.landlock), *self._limits)

    built = "made directly"


class BubblewrapIsolation(BoxedIsolation):
    """The same box built by ``bwrap``, for where only that program may make user namespaces."""

    way = "zygote-ns by bwrap"
    built = "made by bubblewrap"


class ConfinedIsolation(ProcessIsolation):
    """The ``zygote-lsm`` backend: walled in by Landlock, seccomp and limits alone, for where namespaces are refused.

    Takes what :class:`ProcessIsolation` takes. The code has no directory it could write to.
    """

    label = "zygote-lsm"
    way = "zygote-lsm"

    @property
    def layers(self) -> tuple[str, ...]:
        return ("no namespaces", *_walls(self.landlock), *self._limits)


class SeatbeltIsolation(ProcessIsolation):
    """The ``seatbelt`` backend: an interpreter for each attempt, in ``sandbox-exec`` of macOS, with limits.

    Takes what :class:`ProcessIsolation` takes. Written without a Mac at hand: nothing of it is known to hold, and it is used
    only where the canary finds that it does.
    """

    label = "seatbelt"
    way = "seatbelt"

    @property
    def layers(self) -> tuple[str, ...]:
        return ("a profile of sandbox-exec, unverified", *self._limits)

    async def _begin(self) -> Link:
        return await SpawningLink.start(preload=self._preload, seconds=self._start_seconds, without=self._without)


def _walls(landlock: int) -> tuple[str, ...]:
    return (f"Landlock ABI {landlock}" if landlock else "no Landlock", "seccomp")
