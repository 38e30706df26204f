"""What a crash matrix consists of: cases, how each ended, and at which calls which faults are worth making."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from arbiter.testing.injection import ASKED, Called, Fault

_READS = (
    "due", "budget_due", "budget_read", "schedule_due", "schedule_read", "catalog_versions", "catalog_pointers",
    "catalog_load", "catalog_keys", "entry_read", "entry_query", "agenda_read",
)  # fmt: skip
_KILLS = ("before", "after")
_ALIKE = 2
"""Of calls of one script by one role, so many are given every fault; the process is killed at further ones too."""
_FEW = {"claim": 3, "release": 2, "beat": 2, "catalog_register": 1, "submit_call": 2, "trim_lane": 1, "budget_reserve": 2,
        "budget_settle": 2, "entry_log": 3}  # fmt: skip
"""Of these even so many are enough: one is like the other. The last one of each script always counts."""
AFTER_A_CRASH = {
    "loop": ("wrapper:complete:1:before", "arbiter:commit:5:before", "fabricator:progress:9:after"),
    "desk": ("wrapper:fail:1:before", "client:release:1:before"),
}
"""What kills the first process where the second is to find a lease that ended."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One row of the enumeration. :attr:`id` reproduces it."""

    story: str = "loop"
    """One of the matrix's stories, by name."""
    lives: tuple[str, ...] = ("",)
    """The fault of each process in turn; after the last of them one without a fault."""
    skew_seconds: float = 0.0
    resend: int | None = None

    @property
    def id(self) -> str:
        if self.skew_seconds:
            what = f"skew:{self.skew_seconds:g}"
        elif self.resend is not None:
            what = f"resend:{self.resend}"
        else:
            what = "+".join(self.lives) or "undisturbed"
        return what if self.story == "loop" else f"{self.story}/{what}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case with this id."""
        story, _, what = text.rpartition("/")
        story = story or "loop"
        kind, _, value = what.partition(":")
        if kind == "skew":
            return cls(story, skew_seconds=float(value))
        if kind == "resend":
            return cls(story, resend=int(value))
        if what == "undisturbed":
            return cls(story)
        return cls(story, tuple(str(Fault.parse(one)) for one in what.split("+")))

    @property
    def row(self) -> tuple[str, str]:
        """Role and script, or what else it is about."""
        if self.skew_seconds:
            way = "ahead" if self.skew_seconds > 0 else "behind"
            return "all", f"the process's own clock a day {way}"
        if self.resend is not None:
            how = "in another order" if self.resend else "backwards"
            return "all", f"every call delivered again after the end, {how}"
        fault = Fault.parse(self.lives[-1])
        return fault.role, fault.script + (" after a crash" if len(self.lives) > 1 else "")

    @property
    def column(self) -> str:
        return "case" if self.skew_seconds or self.resend is not None else Fault.parse(self.lives[-1]).boundary


@dataclass(slots=True)
class Outcome:
    """How a case ended."""

    case: Case
    problems: list[str] = field(default_factory=list[str])
    fired: bool = True
    """False: the call never came, so nothing was tested."""
    seconds: float = 0.0
    lives: int = 1
    calls: list[Called] = field(default_factory=list[Called])
    answer: JsonValue = None
    changes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """How often which capability was registered, activated and so on."""

    @property
    def word(self) -> str:
        return "failed" if self.problems else "passed" if self.fired else "not reached"


def points(calls: Sequence[Called]) -> list[Called]:
    """The calls at which faults are worth making: all that change something, and of those that are all alike the first
    ones and the last."""
    last = {(called.role, called.script): called.number for called in calls}

    def enough(called: Called) -> int:
        if called.script in _READS:
            return 1
        return 2 if called.role == "sweeper" else _FEW.get(called.script, 1_000)

    def counts(called: Called) -> bool:
        if called.number <= enough(called):
            return True
        # How often a process sweeps, renews and asks for work is not the same each time.
        steady = called.script not in (*_READS, "claim", "beat") and called.role != "sweeper"
        return steady and called.number == last[called.role, called.script]

    return [called for called in calls if counts(called)]


def worthwhile(called: Called, boundary: str, last: int) -> bool:
    """Kills come at every call. What leaves the process alive comes at the first of a kind and the last; what only
    somebody else can do is slow to make and comes at the calls that change most."""
    number = called.number
    if boundary in _KILLS:
        return True
    if boundary not in ASKED:
        return number <= _ALIKE or number == last
    if called.script in _READS:
        return False
    match boundary:
        case "children" | "midway":
            wanted = ("progress", "claim", "complete")[: 3 if boundary == "children" else 2]
            return called.role in ("fabricator", "wrapper") and called.script in wanted
        case "stall":
            return number == 1 and called.script in (
                "submit", "commit", "complete", "complete_call", "progress", "claim", "beat"
            )  # fmt: skip
        case "full" | "demoted":
            return number == 1
        case "zombie":
            return called.script in (
                "commit",
                "complete",
                "complete_call",
                "fail",
                "progress",
                "retire_run",
                "entry_post",
                "callback_said",
                "callback_wait",
            ) and number in (1, 4, 9, 17)
        case _:
            return number == 1
