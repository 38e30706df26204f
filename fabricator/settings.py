"""How far the fabricator goes, and what it may grant on its own."""

from __future__ import annotations

import sys
from typing import ClassVar, Self

from pydantic import Field, model_validator

from blackboard.errors import BadInput
from blackboard.settings_file import FileSettings
from fabricator.granting import GrantPolicy
from registry import Grants
from registry.grants import check_package


class FabricationSettings(FileSettings):
    """Bounds of one fabrication.

    Raises:
        BadInput: a field that is malformed, or that contradicts another.
    """

    called: ClassVar[str] = "fabrication"
    variable: ClassVar[str] = "ARBITER_FABRICATION"

    repairs: int = Field(default=3, ge=0, le=20)
    """New candidates after the first one failed."""
    clarifications: int = Field(default=2, ge=0, le=10)
    """How often the examiner may correct a specification that was invalid or too weak, or add cases to an exam that noticed too
    few of the mistakes planted."""
    public_cases: int = Field(default=2, ge=1, le=50)
    sealed_cases: int = Field(default=1, ge=1, le=50)
    """Fewest cases of each part that make an exam."""
    most_cases: int = Field(default=50, ge=2, le=500)
    mistakes: int = Field(default=12, ge=0, le=200)
    """How many mistakes are planted, one at a time, in code that passed its exam, to see how much that proves; 0 for none."""
    noticed: float = Field(default=0.5, ge=0, le=1)
    """Share of them that the exam has to notice. Fewer than three that it does not are let pass."""
    property_inputs: int = Field(default=25, ge=0, le=1000)
    """How many inputs are made at most to test properties on; 0: properties are not tested."""
    property_seconds: float = Field(default=20.0, gt=0, le=3600)
    """Time of all their runs of one candidate, and once more of all its planted mistakes."""
    case_seconds: float = Field(default=20.0, gt=0, le=3600)
    """Time of one exam case; never more than the manifest grants an attempt in production."""
    model_seconds: float = Field(default=180.0, gt=0, le=3600)
    """Time of one attempt at a model call."""
    near_duplicate: float = Field(default=0.5, ge=0, le=1)
    """Probability that an existing capability fits the need, from which it is recorded as a near duplicate."""
    canary: float = Field(default=0.2, ge=0, lt=1)
    """Share of the other runs that use at first what takes the place of a version that did well lately; 0: all, at once."""
    grantable: Grants = Grants(model=True)
    """Grants a fabricated capability may have without a person's approval. Hosts, files and secrets must be listed."""
    grants: GrantPolicy = GrantPolicy()
    """What happens to a grant that is not listed: by default a person is asked for hosts, files and secrets."""
    extra_imports: tuple[str, ...] = ()
    """Top-level modules generated code may import beside the allow-list, such as ``numpy``; those that are not in the standard
    library become ``packages`` of its grants."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in self.extra_imports:
            check_package(name, "extra_imports")
        if self.public_cases + self.sealed_cases > self.most_cases:
            raise BadInput(
                "most_cases",
                self.most_cases,
                f"No exam could have {self.public_cases} public and {self.sealed_cases} sealed cases; allow as many.",
            )
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that every fabricated capability is granted."""
        return tuple(sorted({name for name in self.extra_imports if name not in sys.stdlib_module_names}))
