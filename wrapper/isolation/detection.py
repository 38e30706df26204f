"""Which backend generated code runs in here: the strongest that proves itself, or the one an operator named.

Versions and settings say what ought to work; only an attempt says what does. Each candidate is started and given the
canary, see :mod:`wrapper.isolation.canary`. The first one that holds is used. If none does, there is no isolation, and
generated code is refused: nothing here ever falls back to a backend that was not proven.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blackboard.errors import BadInput, IsolationUnavailable
from wrapper.isolation.canary import prove
from wrapper.isolation.process import (
    BoxedIsolation,
    BubblewrapIsolation,
    ConfinedIsolation,
    ProcessIsolation,
    SeatbeltIsolation,
)

log = logging.getLogger("arbiter.isolation")

VARIABLE = "ARBITER_ISOLATION"
NAMES = (BoxedIsolation.label, ConfinedIsolation.label, SeatbeltIsolation.label, ProcessIsolation.label)
"""What an operator may name."""
_CANDIDATES: tuple[type[ProcessIsolation], ...] = (
    BoxedIsolation,
    BubblewrapIsolation,
    ConfinedIsolation,
    SeatbeltIsolation,
)

_proven: set[type[ProcessIsolation]] = set()
"""Backends that passed in this process. What failed is tried again: it may have been the load."""

_REFUSAL_SECONDS = 10.0
_refusal: list[Any] = []
"""What was asked for, when, and why it could not be had: a queue of refused tasks must not try it all again each time."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that is not used, and why."""

    way: str
    reason: str

    def __str__(self) -> str:
        return f"{self.way}: {self.reason}"


def wanted(named: str | None = None) -> str | None:
    """The backend an operator named, in an argument or the environment; None for the strongest that proves itself.

    Raises:
        BadInput: there is no such backend.
    """
    field, value = ("isolation", named) if named else (VARIABLE, os.environ.get(VARIABLE))
    if not value or value == "auto":
        return None
    if value not in NAMES:
        raise BadInput(field, value, f"Use auto or one of {', '.join(NAMES)}.")
    return value


async def find(
    named: str | None = None, *, preload_strands: bool = True, parked: int | None = None
) -> tuple[ProcessIsolation, list[Rejected]]:
    """A started isolation, and the stronger ones that cannot be had here.

    Args:
        named: ``zygote-ns``, ``zygote-lsm``, ``seatbelt`` or ``process``. Default: what ``ARBITER_ISOLATION`` names,
            then the strongest of the first three that proves itself. ``process`` is no sandbox and is never chosen
            unnamed.
        preload_strands, parked: see :class:`ProcessIsolation`.

    Raises:
        BadInput: there is no such backend.
        IsolationUnavailable: none proved itself; the message holds what each one failed.
    """
    chosen = wanted(named)
    if _refusal and chosen == _refusal[0] and time.monotonic() - _refusal[1] < _REFUSAL_SECONDS:
        raise IsolationUnavailable(_refusal[2])
    if chosen == ProcessIsolation.label:
        log.warning("isolation is set to 'process': generated code is NOT kept from this user's files and the network")
        isolation = ProcessIsolation(preload_strands=preload_strands, parked=parked)
        await _started(isolation)
        return isolation, []
    candidates = [each for each in _CANDIDATES if chosen is None or each.label == chosen]
    rejected: list[Rejected] = []
    for candidate in candidates:
        if missing := _missing(candidate):
            rejected.append(Rejected(candidate.way, missing))
            continue
        isolation = candidate(preload_strands=preload_strands, parked=parked)
        reason = await _unfit(isolation)
        if reason is None:
            if isolation.label != NAMES[0]:
                log.warning("isolation is %s; %s", isolation.label, _joined(rejected) or "as it was set")
            return isolation, rejected
        rejected.append(Rejected(candidate.way, reason))
    said = (
        f"No isolation proved itself here, so generated code is not run. {_joined(rejected)}. "
        f"{f'No other than {chosen} was tried, as it was named. ' if chosen else ''}"
        "'arbiter doctor' says what would help; docs/isolation.md says what each needs."
    )
    _refusal[:] = [chosen, time.monotonic(), said]
    raise IsolationUnavailable(said)


def remedy(rejected: Sequence[Rejected] | None) -> str:
    """What an operator can do to have the strongest isolation.

    Args:
        rejected: what was found out; None when nothing was.
    """
    if sys.platform != "linux":
        return (
            "Run the worker in a Linux virtual machine or container, or give the Arbiter an isolation object that talks to "
            "one; docs/isolation.md has a whole one."
        )
    if rejected and "ermission" in rejected[0].reason and "refused" not in rejected[0].reason:
        first = "Where Python and its packages can be read by their owner only, open them to others. "
        return first + remedy(None)
    return (
        "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0; on Ubuntu "
        "23.10 or newer install bubblewrap or set kernel.apparmor_restrict_unprivileged_userns=0; in a container allow "
        "unshare and mount, for Docker by --security-opt seccomp=unconfined and --security-opt systempaths=unconfined. "
        "Without them a kernel with Landlock (5.13) is needed."
    )


def _missing(candidate: type[ProcessIsolation]) -> str | None:
    """What a candidate lacks here, told without starting it."""
    if candidate is BubblewrapIsolation:
        if os.geteuid() == 0:
            # Inside, root is the only user there is, and the kernel does not limit root's threads. Root needs no help
            # with namespaces either: what refuses them to root refuses them to bwrap.
            return "not for root"
        return None if shutil.which("bwrap") else "bwrap is not installed"
    if candidate is SeatbeltIsolation:
        if sys.platform != "darwin":
            return "only macOS has it"
        if os.geteuid() == 0:
            return "not for root, whose privileges it takes from nobody: run this as another user"
    return None


def _joined(rejected: Sequence[Rejected]) -> str:
    return "; ".join(map(str, rejected))


async def _started(isolation: ProcessIsolation) -> None:
    try:
        await isolation.start()
    except BaseException:
        await isolation.close()
        raise


async def _unfit(isolation: ProcessIsolation) -> str | None:
    """Why an isolation must not be used; None for one that is started and proven. One that is unfit is closed."""
    fit = False
    try:
        await isolation.start()
        if type(isolation) in _proven:
            fit = True
            return None
        proof = await prove(isolation)
        if not proof.passed:
            return str(proof)
        _proven.add(type(isolation))
        layers = ", ".join(isolation.layers)
        log.info("isolation %s held against the canary in %.3f s: %s", isolation.label, proof.seconds, layers)
        fit = True
        return None
    except IsolationUnavailable as error:
        return str(error)
    finally:
        if not fit:
            await isolation.close()
