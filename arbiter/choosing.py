"""Which capabilities a run's model is shown: what an operator allows, and how much of the model's context tools may take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from arbiter import tools
from arbiter.recalling import WINDOW
from blackboard.settings_file import FileSettings
from blackboard.taint import Taint, TaintPolicy
from registry import Contract, Prices, Version
from registry.matching.contract import GrantName
from wrapper.models.estimate import estimate_request

if TYPE_CHECKING:
    from strands.models import Model

SHORTLIST = 12
"""Capabilities offered to the model at first; what it searches for and what is fabricated comes on top."""


class Choosing(FileSettings):
    """What holds for the runs that are planned here."""

    called: ClassVar[str] = "choosing"
    variable: ClassVar[str] = "ARBITER_CHOOSING"

    effects: tuple[Literal["pure", "reads", "writes", "irreversible"], ...] | None = None
    """Effects a capability may have; None allows all."""
    without: tuple[GrantName, ...] = ()
    """Grants a capability may not ask for."""
    prices: Prices = Prices()
    """What mistakes of matching cost."""
    share: float = Field(default=0.25, gt=0, le=1)
    """Part of the model's context window that the tool list may take; half of that at first."""
    most: int = Field(default=40, ge=1)
    """Capabilities in the tool list, at most."""
    window: int | None = Field(default=None, ge=1)
    """The model's context window in tokens. Default: what the model says, or 200,000."""

    @property
    def contract(self) -> Contract:
        """What no run may use."""
        return Contract(effects=self.effects, without=self.without)

    def for_run(self, taint: Taint, policy: TaintPolicy) -> Contract:
        """What is no use to a run with these sources: what no run may use, and what would be refused its secrets."""
        ruling = policy.judge("secret", taint)
        refused: tuple[GrantName, ...] = ("secrets",) if ruling is not None and ruling.rule == "refuse" else ()
        return Contract(effects=self.effects, without=tuple(dict.fromkeys((*self.without, *refused))))

    def fitting(
        self, versions: Iterable[Version], model: Model, *, first: bool = False, needed: Iterable[str] = ()
    ) -> list[Version]:
        """The versions, in their order, that the tool list has room for.

        What is in the list depends on what stands before it alone, so a list that grows keeps its beginning.

        Args:
            first: for a run's first round, which leaves half of the room for what is found later.
            needed: names that are kept in any case.
        """
        budget = self.share * (self.window or model.context_window_limit or WINDOW)
        budget -= estimate_request([], tools.built_in())
        most = min(SHORTLIST, self.most) if first else self.most
        kept: list[Version] = []
        spent = 0
        always = set(needed)
        for version in versions:
            size = estimate_request([], tools.specs([version])[-1:])
            fits = spent + size <= budget * (0.5 if first else 1.0) and len(kept) < most
            if fits or version.name in always:
                kept.append(version)
                spent += size
        return kept
