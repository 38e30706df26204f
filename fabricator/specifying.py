"""What must it do, and how will that be examined? The stage that asks the examiner, again where its answer is of no use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import JsonValue

from blackboard.attempt import Attempt
from blackboard.taint import TaintPolicy
from blackboard.types import Failure, Status
from fabricator import examiner, specification
from fabricator.gates import Gates
from fabricator.need import Need
from fabricator.progress import Ended
from fabricator.properties import Checks
from fabricator.settings import FabricationSettings
from fabricator.specification import Draft, Specification
from fabricator.state import DraftAnswer, Verdict, plain
from registry import Registry
from wrapper.isolation import Isolation

if TYPE_CHECKING:
    from strands.models import Model


class Specifying(Gates):
    """A fabrication as far as its specification goes."""

    def __init__(
        self,
        attempt: Attempt,
        need: Need,
        registry: Registry,
        settings: FabricationSettings,
        policy: TaintPolicy | None,
        examiner_model: Callable[[], Model],
        isolation: Callable[[], Awaitable[Isolation]],
    ) -> None:
        super().__init__(attempt, need, registry, settings, policy)
        self._examiner, self._isolation = examiner_model, isolation

    async def _specification(self) -> Specification:
        """What is to be made, and its exam: the first answer of the examiner that can be used, and cases that later ones add."""
        drafts = self._state.drafts
        draft = self._read(drafts[-1]) if drafts else None
        while True:
            self._go_on()
            if draft is not None:
                accepted = self._accepted()
                if draft.specification is not None and accepted is not None:
                    return accepted
                if draft.abstained or len(drafts) > self._settings.clarifications:
                    raise Ended(*self._unspecified(draft))
            began = time.monotonic()
            asked = f"correction {len(drafts)} of {self._settings.clarifications}" if drafts else "asking the examiner"
            await self._report("specification", "started", asked)
            earlier = [(each.text, each.objections) for each in drafts]
            model = self._asked(self._examiner())
            reply = await self._unless_cancelled(examiner.ask(model, self._need, earlier, self._settings))
            self._state.usage += reply.usage
            text = plain(reply.text)[: specification.MOST_CHARACTERS + 1]
            before = self._accepted()
            draft = specification.read(text, self._need.name, self._settings)
            if draft.specification is not None and before is not None and not before.missing(draft.specification):
                draft = Draft(weak=("It has no case with an input that no case had before, and a result that fits.",))
            drafts.append(DraftAnswer(text=text, objections=draft.objections))
            spec = self._accepted() if draft.specification is not None else None
            if spec is not None and (useless := await self._useless(spec)):
                draft, spec = Draft(weak=useless), None
                drafts[-1] = DraftAnswer(text=text, objections=useless, refused=True)
            if spec is not None:
                counts: dict[str, JsonValue] = {
                    "public_cases": len(spec.public_cases),
                    "sealed_cases": len(spec.sealed_cases),
                    **({"properties": len(spec.properties)} if spec.properties else {}),
                }
                detail = f"{len(spec.public_cases)} public and {len(spec.sealed_cases)} sealed cases"
                detail += f", {len(spec.properties)} properties" if spec.properties else ""
                await self._report("specification", "passed", detail, _since(began), usage=reply.usage, evidence=counts)
            else:
                said = draft.abstained or draft.objections
                what = "the examiner abstains" if draft.abstained else f"{len(said)} objections"
                await self._report(
                    "specification",
                    "failed",
                    f"{what}: {said[0]}"[:500],
                    _since(began),
                    usage=reply.usage,
                    evidence={"objections": [*said]},
                )

    async def _checks(self) -> Checks:
        return Checks(await self._isolation(), seconds=self._settings.case_seconds, cancelled=self._attempt.cancelled)

    async def _useless(self, spec: Specification) -> tuple[str, ...]:
        """What is wrong with properties of a specification, found by running their checks before there is any code."""
        if not spec.properties or not self._settings.property_inputs:
            return ()
        found = await (await self._checks()).objections(spec)
        self._go_on()
        return tuple(plain(each) for each in found)

    def _object_to_exam(self, verdict: Verdict) -> None:
        """Send an exam back that noticed too few of the mistakes planted in the last candidate, to be judged by the next one.

        The examiner hears of what kind the others were, and nothing of the code.
        """
        noticed, planted = verdict.mistakes
        unnoticed = verdict.evidence.get("unnoticed")
        missed = unnoticed if isinstance(unnoticed, list) else []
        kinds = Counter(str(each["what"]) for each in missed if isinstance(each, dict))
        listed = ", ".join(f"{kind} ({times})" for kind, times in sorted(kinds.items()))
        said = (
            f"The exam proves too little: of {planted} small mistakes, planted one at a time in a program that passes it, it "
            f"noticed {noticed}. Not noticed: {listed}. Keep everything as it is and add sealed cases that such programs fail, "
            "each with an input that no case has yet: limits met and just missed, and every rule of the description by itself."
        )
        drafts, candidates = self._state.drafts, self._state.candidates
        drafts[-1] = drafts[-1].model_copy(update={"objections": (said,)})
        candidates[-1] = candidates[-1].model_copy(update={"verdict": None})

    def _read(self, answer: DraftAnswer) -> Draft:
        """What became of an answer: one that could be used may have been objected to later."""
        draft = specification.read(answer.text, self._need.name, self._settings)
        return Draft(weak=answer.objections) if draft.specification is not None and answer.objections else draft

    def _accepted(self) -> Specification | None:
        """The first answer that could be used, with what later ones add to its exam."""
        accepted: Specification | None = None
        for each in self._state.drafts:
            if each.refused:
                continue
            found = specification.read(each.text, self._need.name, self._settings).specification
            if found is not None:
                accepted = found if accepted is None else accepted.extended(found, self._settings.most_cases)
        return accepted

    def _unspecified(self, draft: Draft) -> tuple[Status, Failure]:
        """How a fabrication ends whose examiner could not specify it."""
        name = self._need.name
        evidence: dict[str, JsonValue] = {"stage": "specification", "problems": [*draft.abstained, *draft.objections]}
        if draft.abstained:
            message = f"{name} was not fabricated, because it cannot be examined: {' '.join(draft.abstained)}"
            return Status.FAILED, self._failure("abstained", message, evidence)
        if draft.invalid:
            message = f"{name} was not fabricated: no valid specification came about. {draft.invalid[0]}"
            return Status.FAILED, self._failure("fabrication_failed", message, evidence)
        if draft.forbidden:
            message = f"{name} was not fabricated: it asks for what may not be granted. {draft.forbidden[0]}"
            return Status.REFUSED, self._failure("policy", message, evidence)
        message = f"{name} was not fabricated, because its exam would prove too little: {' '.join(draft.weak)}"
        return Status.FAILED, self._failure("abstained", message, evidence)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
