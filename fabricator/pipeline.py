"""The fabrication of one capability, stage by stage: what happens when, what is remembered, how it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from blackboard.attempt import Attempt
from blackboard.budgets import BudgetExhausted
from blackboard.errors import (
    ArbiterError,
    BadInput,
    BoardFull,
    Conflict,
    EngineUnavailable,
    Fenced,
    IsolationUnavailable,
    ScriptRefused,
)
from blackboard.taint import TaintPolicy, merged
from blackboard.types import Completion, Status, Usage
from fabricator import admission, feedback, generation
from fabricator.exam import Bench
from fabricator.judging import Judge
from fabricator.need import Need
from fabricator.progress import Ended
from fabricator.settings import FabricationSettings
from fabricator.sitting import Sittings
from fabricator.specification import Specification
from fabricator.specifying import Specifying
from fabricator.state import Candidate, Verdict, plain
from fabricator.trial import Trial
from registry import Manifest, Registry, Version, suspects
from registry.lineage import FABRICATOR
from registry.manifest import canonical, sha256
from wrapper.broker import Outside
from wrapper.isolation import Isolation
from wrapper.models import ModelCallFailed, as_failure, describe
from wrapper.uses import Uses

if TYPE_CHECKING:
    from strands.models import Model

STAGES = (
    "duplicate_check", "taint", "specification", "generation", "policy", "contract", "exam_public", "exam_sealed",
    "exam_properties", "exam_strength", "registration",
)  # fmt: skip
"""Values of ``stage`` in ``fabrication.stage`` events, in the order of a fabrication."""


class Fabrication(Specifying):
    """One attempt at one fabrication task. See :class:`fabricator.Fabricator`."""

    def __init__(
        self,
        attempt: Attempt,
        need: Need,
        registry: Registry,
        isolation: Callable[[], Awaitable[Isolation]],
        generator: Callable[[], Model],
        examiner_model: Callable[[], Model],
        settings: FabricationSettings,
        outside: Outside | None = None,
        named: Callable[[str], Model] | None = None,
        policy: TaintPolicy | None = None,
    ) -> None:
        super().__init__(attempt, need, registry, settings, policy, examiner_model, isolation)
        self._outside, self._named, self._generator = outside, named, generator
        self._tenant = attempt.claim.tenant

    async def run(self) -> Completion:
        """Carry the fabrication to its end, from wherever an earlier attempt left it."""
        try:
            return await self._stages()
        except Ended as end:
            return self._completion(end.status, error=end.failure)
        except ModelCallFailed as error:
            self._state.usage += error.usage
            return self._completion(Status.FAILED, error=self._noted(as_failure(error, str(error))))
        except IsolationUnavailable as error:
            failure = self._failure("isolation", f"Nothing was run: {error}", retryable=True)
            return self._completion(Status.REFUSED, error=failure)
        except BudgetExhausted as error:
            return self._completion(Status.FAILED, error=self._failure("limit", str(error), {"level": error.level}))
        except (Fenced, EngineUnavailable, BoardFull, BadInput):
            raise
        except ArbiterError as error:
            # A model that plays a script or a recording objects in words of its own.
            failure = self._failure("model_error", str(error))
            return self._completion(Status.FAILED, error=failure)

    async def _stages(self) -> Completion:
        if not any(each.verdict and each.verdict.passed for each in self._state.candidates):
            found = await self._duplicate()
            if found is not None:
                return self._succeeded(found, reused=True)
            await self._can_sign()
        await self._may_be_asked()
        await self._may_be_granted(self._manifest(await self._specification()))
        while True:
            self._go_on()
            spec = await self._specification()
            made = self._manifest(spec)
            last = self._state.candidates[-1] if self._state.candidates else None
            if last is None or (last.verdict is not None and not last.verdict.passed):
                self._stop_if_hopeless()
                last = await self._generate(spec)
            source = generation.extract(last.text).source
            if last.verdict is None and source is not None:
                last = await self._judge(spec, made, source)
            if last.verdict is None or not last.verdict.passed or source is None:
                continue
            if last.verdict.weak:
                self._object_to_exam(last.verdict)
            else:
                return await self._register(made, source, last.verdict)

    # ---- 1: is it there already? ------------------------------------------------------------------------------------

    async def _duplicate(self) -> Version | None:
        """The capability of that name, if there is one that serves; near ones are noted and do not stop anything."""
        self._go_on()
        began = time.monotonic()
        name = self._need.name
        found = await admission.active(self._registry, name)
        if found is not None and not admission.is_visible(found, self._tenant):
            message = f"The name {name!r} belongs to another tenant. Ask for the capability under another name."
            await self._report("duplicate_check", "failed", message, _since(began))
            raise Ended(Status.FAILED, self._failure("name_taken", message, {"stage": "duplicate_check"}))
        runs = found is None or await admission.standing(self._registry, name) is not None
        fails = found is not None and found.sha == self._need.replaces
        if found is not None and runs and not fails:
            said = f"{name} exists already and is used"
            await self._report("duplicate_check", "passed", said, _since(began), evidence={"version": found.sha})
            return found
        unserved = found is None or fails
        pending = await admission.waiting(self._registry, name, self._tenant) if unserved else None
        # What nobody trusted had made, and nobody approved, must not keep the name from those who are trusted.
        suspect = pending is not None and bool(suspects(pending.manifest))
        if pending is not None and not (suspect and self._policy.judge("fabricate", self._need.taint) is None):
            await self._report("duplicate_check", "passed", f"{name} waits for approval already", _since(began))
            raise self._waits(pending)
        if self._state.drafts:
            return None
        query = f"{name.replace('_', ' ')}. {self._need.need}"
        searched = await self._registry.find(query, k=5, tenant=self._tenant)
        best, likely = searched.decision.candidates[:1], searched.decision.best_fits
        self._state.near = [each.name for each in best if likely >= self._settings.near_duplicate]
        detail = "nothing like it exists"
        if self._state.near:
            detail = f"close to {self._state.near[0]}, which fits with a probability of {likely:.2f}"
        if fails:
            detail = "the one that exists fails; it stays until a better one has passed its exam"
        if not runs:
            detail = "the one that exists has no signature that counts; it is made and examined anew"
        scores: list[JsonValue] = [{"name": each.name, "score": round(each.score, 4)} for each in searched.matches]
        evidence: dict[str, JsonValue] = {"closest": scores, "best_fits": round(likely, 4)}
        await self._report("duplicate_check", "passed", detail, _since(began), evidence=evidence)
        return None

    # ---- 2: what must it do: see Specifying ---------------------------------------------------------------------------

    def _manifest(self, spec: Specification) -> Manifest:
        claim = self._attempt.claim
        request = self._need.as_data().get("request")
        provenance: dict[str, JsonValue] = {
            "made_by": FABRICATOR,
            "run": claim.run_id,
            "task": claim.task_id,
            "need": self._need.need[:2000],
            "request": request,
            "examiner": describe(self._examiner()),
            "generator": describe(self._generator()),
            "specification": sha256(canonical(spec.model_dump(mode="json"))),
            **({"replaces": self._need.replaces} if self._need.replaces else {}),
            "sources": [*self._need.taint],
            "untrusted": [*self._policy.untrusted(self._need.taint)],
        }
        granted = spec.grants.model_copy(update={"packages": self._settings.packages})
        made = admission.manifest(spec, granted, self._need, self._tenant, provenance)
        return made.model_copy(update={"provenance": {**provenance, "waits": bool(self._asks(made))}})

    # ---- 3: write it -----------------------------------------------------------------------------------------------

    def _stop_if_hopeless(self) -> None:
        """End when the repairs are used up, or the generator repeats a candidate that failed."""
        tried = self._state.candidates
        if not tried:
            return
        shas = [each.sha for each in tried if each.sha]
        repeated = bool(tried[-1].sha) and shas.count(tried[-1].sha) > 1
        if len(tried) <= self._settings.repairs and not repeated:
            return
        verdict = tried[-1].verdict
        assert verdict is not None
        why = "the same code came twice" if repeated else f"{len(tried)} candidates failed"
        message = (
            f"{self._need.name} could not be fabricated: {why}. The last one: {verdict.reason} "
            "Nothing was registered. State the need more precisely, divide it, or answer without it."
        )
        history: list[JsonValue] = [
            {"round": number, "stage": each.verdict.stage, "reason": each.verdict.reason}
            for number, each in enumerate(tried)
            if each.verdict is not None
        ]
        kind, status = (
            ("policy", Status.REFUSED) if verdict.stage == "policy" else ("fabrication_failed", Status.FAILED)
        )
        evidence: dict[str, JsonValue] = {
            **verdict.evidence,
            "stage": verdict.stage,
            "candidates": history,
            "exam": verdict.counts(),
        }
        raise Ended(status, self._failure(kind, message, evidence))

    async def _generate(self, spec: Specification) -> Candidate:
        candidates = self._state.candidates
        number = len(candidates)
        began = time.monotonic()
        detail = f"repair {number} of {self._settings.repairs}" if number else "first candidate"
        await self._report("generation", "started", detail)
        earlier = [(each.text, each.verdict.feedback if each.verdict else "") for each in candidates]
        model = self._asked(self._generator())
        answer = await self._unless_cancelled(generation.ask(model, spec, self._need, earlier, self._settings))
        self._state.usage += answer.usage
        text = plain(answer.text)
        source, fault = generation.extract(text)
        candidate = Candidate(text=text, sha=sha256(source) if source is not None else "")
        same = next((each.verdict for each in candidates if candidate.sha and each.sha == candidate.sha), None)
        candidates.append(candidate)
        if same is not None:
            return await self._judged(same.model_copy(update={"seconds": 0.0}), answer.usage)
        if source is None:
            verdict = Verdict(
                stage="generation",
                passed=False,
                reason=fault,
                feedback=feedback.unusable(fault),
                seconds=_since(began),
                when=time.time(),
            )
            return await self._judged(verdict, answer.usage)
        await self._report(
            "generation",
            "passed",
            f"{len(source.splitlines())} lines",
            _since(began),
            number=number,
            usage=answer.usage,
            evidence={"artifact": candidate.sha},
        )
        return candidate

    # ---- 4 to 6: judge it --------------------------------------------------------------------------------------------

    async def _judge(self, spec: Specification, made: Manifest, source: str) -> Candidate:
        number = len(self._state.candidates) - 1
        uses = Uses(self._attempt.board, self._attempt.claim, made.name)
        sittings = Sittings(
            made, source, self._attempt.board, model=self._generator, meaning=self._registry.meaning,
            outside=None if self._asks(made) else self._outside, named=self._named, uses=uses, taint=self._need.taint,
        )  # fmt: skip

        async def passed(stage: str, detail: str, seconds: float, outcome: Literal["passed", "skipped"]) -> None:
            await self._report(stage, outcome, detail, seconds, number=number)

        bench = Bench(
            await self._isolation(),
            made,
            source,
            case_seconds=self._settings.case_seconds,
            sitting=sittings.open,
            cancelled=self._attempt.cancelled,
        )
        trial = Trial(spec, await self._checks(), self._settings.property_seconds, self._go_on)
        judge = Judge(bench, spec, passed, self._go_on, self._settings, trial)
        try:
            verdict = await judge.verdict()
        finally:
            self._state.usage += sittings.usage
            self._state.brought = [*merged(self._state.brought, sittings.sources)]
            await uses.close()
        # In production this would end it, whatever it made of the refusal.
        if sittings.excess and verdict.passed:
            said = f"It asked for more than the specification grants: {sittings.excess}"
            verdict = verdict.model_copy(update={"passed": False, "reason": said, "feedback": feedback.excessive(said)})
        return await self._judged(verdict, sittings.usage)

    async def _judged(self, verdict: Verdict, consumed: Usage) -> Candidate:
        """Remember what came of the last candidate, and tell."""
        candidates = self._state.candidates
        candidates[-1] = candidates[-1].model_copy(update={"verdict": verdict})
        evidence = dict(verdict.evidence)
        if verdict.stage.startswith("exam"):
            evidence["exam"] = verdict.counts()
        await self._report(
            verdict.stage,
            "passed" if verdict.passed and not verdict.weak else "failed",
            verdict.reason,
            verdict.seconds,
            number=len(candidates) - 1,
            usage=consumed,
            evidence=evidence,
        )
        return candidates[-1]

    # ---- 8: register it ----------------------------------------------------------------------------------------------

    async def _register(self, made: Manifest, source: str, verdict: Verdict) -> Completion:
        self._go_on()
        began = time.monotonic()
        number = len(self._state.candidates) - 1
        claim = self._attempt.claim
        asks = self._asks(made)
        if made.content_hash(source) == self._need.replaces:
            message = f"{made.name} was written anew and came out as the version that fails; it is left as it is."
            await self._report("registration", "failed", message, _since(began), number=number)
            raise Ended(Status.FAILED, self._failure("fabrication_failed", message, {"stage": "registration"}))
        alike = await self._registry.similar(made, tenant=self._tenant)
        try:
            version = await admission.admit(
                self._registry, made, source, verdict, describe(self._examiner()), claim.task_id,
                offered=not asks, replaces=self._need.replaces or None, by_rule=self._by_rule(made),
                canary=self._settings.canary or None,
            )  # fmt: skip
        except Conflict as error:
            await self._report("registration", "failed", str(error), _since(began), number=number)
            message = (
                f"{made.name} was written and examined, but the name is taken: {error}. Ask for it under another name."
            )
            raise Ended(Status.FAILED, self._failure("name_taken", message, {"stage": "registration"})) from None
        except ScriptRefused as error:
            await self._report("registration", "failed", str(error), _since(began), number=number)
            message = f"{made.name} was written and examined, but could not be signed and registered: {error}"
            raise Ended(Status.REFUSED, self._failure("signature", message, {"stage": "registration"})) from None
        if asks and version.waits:
            said = f"{version.sha[:12]} waits for approval of {'; '.join(asks)}"
            await self._report("registration", "passed", said, _since(began), number=number)
            raise self._waits(version)
        reused = version.sha != made.content_hash(source)
        detail = "another run had registered it meanwhile; that one is used" if reused else version.sha[:12]
        evidence: dict[str, JsonValue] = {"version": version.sha}
        said = [str(each) for each in alike]
        if said:
            detail += f"; {said[0]}"
            evidence["similar"] = [{"name": each.name, "likeness": round(each.likeness, 4)} for each in alike]
        await self._report("registration", "passed", detail, _since(began), number=number, evidence=evidence)
        return self._succeeded(version, reused=reused, verdict=verdict, similar=said)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
