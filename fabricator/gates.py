"""Who may have a capability made, and what has to be said about it before it is used."""

from __future__ import annotations

from typing import NoReturn

from pydantic import JsonValue

from blackboard.attempt import Attempt
from blackboard.audit import somebody
from blackboard.errors import BadInput, ScriptRefused
from blackboard.taint import Ruling, TaintPolicy
from blackboard.types import Status
from fabricator.granting import asked_by, reaches, suspicions
from fabricator.need import Need
from fabricator.progress import Ended, Progress
from fabricator.settings import FabricationSettings
from registry import Manifest, Registry, Version, suspects
from registry.content import canonical, sha256


class Gates(Progress):
    """The rules of the operator about needs, grants and signatures, applied to one fabrication."""

    def __init__(
        self,
        attempt: Attempt,
        need: Need,
        registry: Registry,
        settings: FabricationSettings,
        policy: TaintPolicy | None,
    ) -> None:
        super().__init__(attempt, need)
        self._registry, self._settings, self._policy = registry, settings, policy or TaintPolicy()

    def _waits(self, version: Version) -> Ended:
        """How a fabrication ends whose capability may not be used before a person said so."""
        found = suspects(version.manifest)
        asks = [*self._asks(version.manifest), *([asked_by(found)] if found else [])]
        message = (
            f"{version.name} was written and passed its exam, but a person must approve it first "
            f"({'; '.join(dict.fromkeys(asks)) or 'as it was registered'}): arbiter capabilities approve {version.name}. "
            "Answer without it, or say that approval is needed."
        )
        evidence: dict[str, JsonValue] = {"version": version.sha, "asks": [*dict.fromkeys(asks)], "sources": [*found]}
        return Ended(Status.REFUSED, self._failure("approval", message, evidence))

    def _asks(self, made: Manifest) -> tuple[str, ...]:
        """Why a person must say so before what is made may be used, one text for each reason."""
        asks = self._settings.grants.rule(made.grants, self._settings.grantable).asks
        return (*asks, *suspicions(made.grants, self._policy, self._need.taint))

    def _by_rule(self, made: Manifest) -> tuple[str, dict[str, JsonValue]] | None:
        """Which policy lets what is made have its grants without a person, and what it allows; None for no grants.

        The policy is known by a hash of all that it says, so that two processes with the same rules are one policy.
        """
        if not reaches(made.grants):
            return None
        rules: dict[str, JsonValue] = {
            "grants": self._settings.grants.model_dump(mode="json"),
            "grantable": self._settings.grantable.model_dump(mode="json"),
            "taint": self._policy.model_dump(mode="json"),
        }
        name = f"policy {sha256(canonical(rules))[:16]} of {somebody()}"
        untrusted: list[JsonValue] = [*self._policy.untrusted(self._need.taint)]
        granted: dict[str, JsonValue] = made.grants.model_dump(mode="json", exclude_defaults=True)
        return name, {"grants": granted, "rules": rules, "sources": untrusted}

    async def _may_be_asked(self) -> None:
        """Whether content from where this need comes from may have anything made. Nothing was asked of a model yet."""
        ruling = self._policy.judge("fabricate", self._need.taint)
        if ruling is None:
            return
        if ruling.rule == "refuse":
            await self._refuse(ruling, f"{self._need.name} was not fabricated: it was asked for by {ruling}.")
        if not self._state.drafts:
            detail = f"asked for by {ruling}" + ("; it will wait for a person" if ruling.rule == "ask" else "")
            await self._report("taint", "passed", detail[:500], evidence=ruling.evidence())

    async def _may_be_granted(self, made: Manifest) -> None:
        ruling = self._policy.judge("approve", self._need.taint)
        if ruling is not None and ruling.rule == "refuse" and reaches(made.grants):
            await self._refuse(
                ruling, f"{made.name} was not fabricated: it asks for grants, and was asked for by {ruling}."
            )

    async def _refuse(self, ruling: Ruling, message: str) -> NoReturn:
        await self._report("taint", "failed", message[:500], evidence=ruling.evidence())
        raise Ended(Status.REFUSED, self._failure("taint", message, {"stage": "taint", **ruling.evidence()}))

    async def _can_sign(self) -> None:
        """End before any work is done whose result nobody here could vouch for."""
        try:
            await self._registry.check_signer()
        except (BadInput, ScriptRefused) as error:
            message = f"{self._need.name} was not fabricated: what is made here could not be signed. {error}"
            raise Ended(Status.REFUSED, self._failure("signature", message)) from None
