"""Isolation: where generated code is loaded, called, parsed and killed.

**What this room is for.** One attempt at a capability is one single-use process that never held a credential, an open
file of the host or another attempt's memory. The host hands it verified source text and input, answers the calls it
is allowed to make, takes one result, and kills it.

**What enters** is a :class:`Job`; **what leaves** is an :class:`Outcome`, always, in one of the five statuses, with
evidence. ``run`` raises only for misuse (``BadInput``) and when there is no isolation to run in
(``IsolationUnavailable``); it never falls back to running code in the host.

===================  ==============================================  ==========================================
file                 question it answers                             runs in
===================  ==============================================  ==========================================
``job``              what is asked, what is answered, which limits   host
``detection``        which backend is used here, and why not others  host
``canary``           what code in a backend can do, by trying        host, and its source in a child
``process``          the backends                                    host
``parking``          who keeps children ready, and for whom          host
``children``         what a child and its origin are to the host     host
``zygote_link``      how the host speaks to one zygote               host
``forked``           what a child of a zygote is to the host         host
``conversation``     one run: frames, deadline, cancel, verdict      host
``zygote``           who forks and buries children                   zygote (trusted, no generated code)
``spawning``         how the host starts one interpreter a run       host
``spawned``          from such a start to ready                      child
``seatbelt``         what macOS is told to keep it from              host
``warming``          what is imported before there is code           zygote, or a child that was spawned
``box``              what the zygote can see at all                  zygote; the command of bubblewrap: host
``child``            from fork to ready to done                      child
``lockdown``         what a child gives up before it reads code      zygote prepares, child applies
``landlock``         which files a child may touch                   zygote prepares, child applies
``seccomp``          which system calls a child may make             zygote prepares, child applies
``syscalls``         their numbers                                   zygote
``kernel``           the calls Python has no function for            zygote, child
``hotload``          source → module → handler → result, typed       child
``inspection``       what source contains, without importing it      child
``mutation``         mistakes to be planted in source, to try exams  child; planting one: host
``channel``          calls from the code back to the host            child
``brokered_model``   the Strands model behind those calls            child
``framing``          frames and strict JSON                          both; standard library only
``directories``      where runs keep files, and who removes them     host and zygote
``cgroups``          what a run really uses, where that can be    host
``threads``          where blocking work of the host side goes       host
``model_seam``       how Strands comes to use that model             zygote
===================  ==============================================  ==========================================

**Backends**, strongest first: ``zygote-ns`` (namespaces, Landlock, seccomp, limits), ``zygote-lsm`` (the same without
namespaces), ``seatbelt`` (for macOS, unverified), ``process`` (limits only; no sandbox, and used only where an operator
names it). :func:`.detection.find` gives the strongest that proves itself. ``docs/isolation.md`` says what each promises and
what is left.

**Imports.** Host files may import ``blackboard``; files that run in the zygote or a child import the standard library
(and Strands) only. Names are loaded on first use, so that a zygote does not pay for host code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wrapper.isolation.job import Broker, BrokerError, Isolation, Job, JobLimits, NotGranted, Outcome
    from wrapper.isolation.process import (
        BoxedIsolation,
        BubblewrapIsolation,
        ConfinedIsolation,
        ProcessIsolation,
        SeatbeltIsolation,
    )

__all__ = [
    "BoxedIsolation",
    "Broker",
    "BrokerError",
    "BubblewrapIsolation",
    "ConfinedIsolation",
    "Isolation",
    "Job",
    "JobLimits",
    "NotGranted",
    "Outcome",
    "ProcessIsolation",
    "SeatbeltIsolation",
]
_BACKENDS = ("BoxedIsolation", "BubblewrapIsolation", "ConfinedIsolation", "ProcessIsolation", "SeatbeltIsolation")


def __getattr__(name: str) -> object:
    if name in _BACKENDS:
        from wrapper.isolation import process

        return getattr(process, name)
    if name in __all__:
        from wrapper.isolation import job

        return getattr(job, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
