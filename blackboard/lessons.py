"""What a board learnt from use: needs that capabilities served, and what turns signals of a ranking into probabilities.

A **lesson** is a need in words that a capability served a tenant, with the run it comes from. Lessons are kept by capability
and tenant, so no tenant's words reach another; of the same need the newest stays, and of all the newest :data:`MOST`. They
are the same whatever order they arrive in and however often. Removing a run removes what it taught.

Each change of the lessons of a capability and tenant has a revision, and of each only the last is kept: a reader that follows
asks for what changed after the revision it holds, and hears of :mod:`blackboard.example_needs` by the same answer. The board
also has the sum of these revisions, by which a reader notices that a server lost some in a failover, and begins anew.

Who decides what is a lesson is the planner; what the words mean is the business of ``registry``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import uuid4

from blackboard import example_needs
from blackboard.catalog import Catalog
from blackboard.example_needs import ExampleNeeds
from blackboard.redaction import clean

MOST = 10
"""Needs kept of one capability and tenant."""
MOST_CHARACTERS = 400
"""A longer text is more data than need, and is not learnt."""
_LEAST_CHARACTERS = 3
_AT_ONCE = 500
_SUM = 1 << 52
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")

Subject = tuple[str, str]
"""A capability and the tenant it served; no tenant stands for its example needs."""


class Need(NamedTuple):
    """A need that was served."""

    text: str
    run: str
    at: float
    """When the run ended, in seconds since the epoch."""


class Told(NamedTuple):
    """One answer to a reader that follows."""

    changed: Mapping[Subject, tuple[Need, ...]]
    """Of each capability and tenant that changed, all there is now, newest first; empty when it was forgotten."""
    calibration: str | None
    """JSON text; None where what is shipped counts."""
    illustrated: Mapping[str, ExampleNeeds | None] = MappingProxyType({})
    """Of each capability whose example needs changed, what there is now."""


def need_text(text: str) -> str | None:
    """A need as it is kept: on one line, without the secrets this process knows; None for what is not worth keeping."""
    shown = " ".join(_CONTROL.sub(" ", clean(text)).split())
    return shown if _LEAST_CHARACTERS <= len(shown) <= MOST_CHARACTERS else None


class Lessons:
    """The lessons of one board, as one reader follows them.

    Args:
        catalog: of the board.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._revisions: dict[Subject, int] = {}
        self._held = 0
        self._sum = 0
        self._untold: dict[Subject, str] = {}

    async def learn(self, run_id: str, tenant: str, at: float, needs: Sequence[tuple[str, str]]) -> int:
        """Keep needs that a run served.

        Args:
            run_id: where they come from; removing it removes them.
            tenant: whose run it was. A capability that belongs to another tenant learns nothing.
            at: when the run ended, in seconds since the epoch, on the board's clock.
            needs: a capability's name and a need, for each. Secrets this process knows are taken out; what is longer than
                :data:`MOST_CHARACTERS` is left out.

        Returns:
            How many were news.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        args: list[str] = []
        for name, given in needs:
            text = need_text(given)
            if text is not None:
                args += [name, hashlib.sha256(text.casefold().encode()).hexdigest()[:16], text]
        if not args:
            return 0
        when = str(max(0, int(at * 1000)))
        return int((await self._catalog.call("catalog_learn", [str(MOST), run_id, tenant, when, *args]))[0])

    async def forget_run(self, run_id: str) -> int:
        """Forget what a run taught; returns how many capabilities it was.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        return int((await self._catalog.call("catalog_unlearn", [run_id]))[0])

    async def forget(self, name: str | None = None, tenant: str | None = None) -> int:
        """Forget all needs of a capability, of a tenant, or of one of the other; returns how many pairs of both it was.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        held = await Lessons(self._catalog).follow()
        fields = [
            _field(subject)
            for subject, needs in held.changed.items()
            if needs and name in (None, subject[0]) and tenant in (None, subject[1])
        ]
        changed = 0
        for start in range(0, len(fields), _AT_ONCE):
            some = fields[start : start + _AT_ONCE]
            changed += int((await self._catalog.call("catalog_unlearn", ["", *some]))[0])
        return changed

    async def follow(self) -> Told:
        """What changed since this was called last; everything the first time.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        calibration, complete = await self._read()
        if not complete:
            # A server lost what this reader held: what it does not name now is gone.
            self._untold = dict.fromkeys(self._revisions, "")
            self._revisions, self._held, self._sum = {}, 0, 0
            calibration, _ = await self._read()
        untold, self._untold = self._untold, {}
        return Told(
            {subject: _needs(text) for subject, text in untold.items() if subject[1]},
            calibration or None,
            {name: example_needs.read(text) for (name, tenant), text in untold.items() if not tenant},
        )

    async def _read(self) -> tuple[str, bool]:
        """Take in what is new; a call that fails in the middle is gone on with by the next one."""
        while True:
            mark, calibration, *rows = await self._catalog.call("catalog_lessons", [str(self._held), str(_AT_ONCE)])
            for field, revision, text in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
                name, _, tenant = field.partition("|")
                subject = (name, tenant)
                self._held = int(revision)
                self._sum = (self._sum - self._revisions.get(subject, 0) + self._held) % _SUM
                self._revisions[subject] = self._held
                self._untold[subject] = text
            if len(rows) < 3 * _AT_ONCE:
                revision, _, total = mark.partition(" ")
                return calibration, (self._held, self._sum) == (int(revision), int(total))

    async def calibrate(self, text: str | None, by: str, detail: Mapping[str, Any], *, operation: str = "") -> bool:
        """Set what turns signals into probabilities on this board, on record; True when it was something else.

        Args:
            text: JSON; None for what is shipped.
            by: who does it, in words.
            detail: what it was made from, for the audit.
            operation: identity of this call, for a caller that sends it again.

        Raises:
            EngineUnavailable: the server stayed unreachable.
        """
        args = [operation or uuid4().hex, text or "", by, json.dumps(detail)]
        return (await self._catalog.call("catalog_calibrate", args, operation=args[0]))[0] == "1"


def _field(subject: Subject) -> str:
    return "|".join(subject)


def _needs(text: str) -> tuple[Need, ...]:
    found: list[Need] = []
    for record in text.split("\x1e"):
        parts = record.split("\x1f")
        if len(parts) == 4:
            found.append(Need(parts[3], parts[1], int(parts[0]) / 1000))
    return tuple(found)
