"""How far the fabricator goes, and what it may grant on its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from blackboard import settings_file
from blackboard.errors import BadInput
from blackboard.types import Settings
from fabricator.granting import GrantPolicy
from registry import Grants
from registry.manifest import check_package

FILE = "ARBITER_FABRICATION"
"""Names the file of a process that was given none."""


class FabricationSettings(Settings):
    """Bounds of one fabrication.

    Raises:
        BadInput: a field that is malformed, or that contradicts another.
    """

    repairs: int = Field(default=3, ge=0, le=20)
    """New candidates after the first one failed."""
    clarifications: int = Field(default=2, ge=0, le=10)
    """How often the examiner may correct a specification that was invalid or too weak."""
    public_cases: int = Field(default=2, ge=1, le=50)
    sealed_cases: int = Field(default=1, ge=1, le=50)
    """Fewest cases of each part that make an exam."""
    most_cases: int = Field(default=50, ge=2, le=500)
    case_seconds: float = Field(default=20.0, gt=0, le=3600)
    """Time of one exam case; never more than the manifest grants an attempt in production."""
    model_seconds: float = Field(default=180.0, gt=0, le=3600)
    """Time of one attempt at a model call."""
    near_duplicate: float = Field(default=0.5, ge=0, le=1)
    """Probability that an existing capability fits the need, from which it is recorded as a near duplicate."""
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

    @classmethod
    def of(cls, settings: Self | Mapping[str, Any] | str | Path | None) -> Self:
        """The settings in what a program was given: themselves, a mapping, or the path of a JSON or TOML file.

        Args:
            settings: None takes the file that ``ARBITER_FABRICATION`` names; without it, the defaults.

        Raises:
            BadInput: something in it is malformed, or its file cannot be read.
        """
        return settings_file.model(cls, settings, "fabrication", FILE)

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that every fabricated capability is granted."""
        return tuple(sorted({name for name in self.extra_imports if name not in sys.stdlib_module_names}))
