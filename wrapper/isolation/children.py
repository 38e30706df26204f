"""What parking and a conversation know of a single-use process and of where it comes from, on whatever system."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from wrapper.isolation.cgroups import Group

READY_SECONDS = 10.0
"""How long a child that was begun may take to wall itself in."""


class LinkLost(Exception):
    """What children come from ended while something was asked of it."""


class Link(Protocol):
    """Where children come from: a zygote, or whatever starts one interpreter for each. Of one event loop."""

    runs: int
    active: int
    """Runs between take and burial."""
    started_at: float
    landlock: int
    """Version of Landlock its children are confined by; 0 for none."""
    ungrouped: str
    """Why its children are in no control groups; empty when they are."""

    @property
    def pid(self) -> int:
        """A process id to tell it by."""
        ...

    @property
    def alive(self) -> bool:
        """Whether children can still be asked for."""
        ...

    async def fork(self) -> Child:
        """A parked, locked-down child that was given nothing yet. Raises LinkLost and IsolationUnavailable."""
        ...

    async def bury(self, child: Child, seconds: float = 5.0) -> None:
        """Confirm a killed child's death and remove what it left."""
        ...

    async def stop(self) -> None:
        """End it and every child of it; idempotent."""
        ...

    def abandon(self) -> None:
        """The same after its event loop is gone; blocks for the moment that takes."""
        ...


@dataclass(eq=False, slots=True, kw_only=True)
class Child(ABC):
    """One single-use process, as the host holds it."""

    number: int
    pid: int
    channel: socket.socket
    stdout: int
    stderr: int
    directory: str | None
    exited: asyncio.Future[int | None]
    """Wait status, or None when nobody is left who could tell."""
    link: Link
    closed: bool = field(default=False)
    cpu_seconds: float = field(default=0.0)
    """Processor time it had used when it ended."""
    group: Group | None = field(default=None)
    """The control group it is in, where there are any."""

    @abstractmethod
    def signal(self, sig: signal.Signals) -> None:
        """Signal this very process; nothing happens when it is gone."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether the process still runs."""

    @abstractmethod
    def kill(self) -> None:
        """Kill this very process, and whatever is in a group with it."""

    def close(self) -> None:
        """Give back every descriptor. Idempotent."""
        if not self.closed:
            self.closed = True
            self.channel.close()
            os.close(self.stdout)
            os.close(self.stderr)
