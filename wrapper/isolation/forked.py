"""A child of a zygote, as the host holds it: by a descriptor of the process, which no other process can come to be behind."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass

from wrapper.isolation.children import Child

_WHOLE_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


@dataclass(eq=False, slots=True, kw_only=True)
class Forked(Child):
    """A child of a zygote."""

    pidfd: int

    def signal(self, sig: signal.Signals) -> None:
        """Signal this very process; nothing happens when it is gone."""
        try:
            signal.pidfd_send_signal(self.pidfd, sig)
        except OSError:
            pass

    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self.exited.done() and not ended(self.pidfd)

    def kill(self) -> None:
        """Kill this very process, and whatever is in a group with it."""
        self.signal(signal.SIGKILL)
        if self.group is not None:
            self.group.kill()

    def close(self) -> None:
        """Give back every descriptor. Idempotent."""
        if not self.closed:
            Child.close(self)
            os.close(self.pidfd)


def ended(pidfd: int) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def pid_of(pidfd: int) -> int:
    """The number this process knows another one by; the one it knows itself by may be of another namespace."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return -1


def kill_orphan(child: Forked) -> None:
    """Kill a child and its group when no zygote is left to do it."""
    try:
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL, None, _WHOLE_GROUP)
        return
    except OSError:
        pass
    if not ended(child.pidfd) and child.pid > 0:  # running, so its pid and group are still its own
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
    child.signal(signal.SIGKILL)
