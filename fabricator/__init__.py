"""The Fabricator: writes the capability that is missing, proves it in an exam it did not set, and registers it.

**What enters** is a task of the lane ``fabricator`` (:class:`fabricator.need.Need`); **what leaves** is a completion: a
registered, examined version, or why there is none. Every stage is a ``fabrication.stage`` event with a checkpoint.

===================  ========================================================================
file                 question it answers
===================  ========================================================================
``pipeline``         which stage comes next, what is remembered, how does it end?
``need``             what was asked for?
``examiner``         how is a model brought to specify it? (it never sees code)
``specification``    is that specification valid, and does its exam prove anything?
``generation``       how is a model brought to write it? (it never sees the sealed cases)
``conventions``      what is it told about handlers, imports and tools?
``catalogue``        which ready-made Strands tools are installed?
``conversing``       how does an ``Agent`` share the one retry layer of model calls?
``judging``          does this candidate pass?
``policy``           what may it not contain?
``contract``         does the loaded handler take the promised input?
``exam``             does it return what was expected, case by case, in isolation?
``comparison``       is this JSON the expected JSON?
``inputs``           on which inputs are properties tried?
``guessing``         what does a schema probably allow?
``properties``       what do their checks say, and do they say anything?
``trial``            does a candidate keep them, and which is the smallest input on which it does not?
``feedback``         what is the generator told about a failure?
``admission``        what is registered, and how at most once?
``state``            what survives a kill?
``settings``         how far does it go?
``illustrator``      how is a model brought to write example needs of any capability?
===================  ========================================================================

Generated source is never parsed, imported or run in this process: all of that happens in the isolation production uses.
May import ``wrapper``, ``registry`` and ``blackboard``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from blackboard.attempt import Attempt
from blackboard.budgets import BudgetExhausted
from blackboard.claims import Claim
from blackboard.errors import BadInput
from blackboard.taint import TaintPolicy
from blackboard.types import Completion, Failure, Status
from fabricator.granting import GrantPolicy
from fabricator.need import Need
from fabricator.settings import FabricationSettings
from registry import Registry
from wrapper.isolation import Isolation

if TYPE_CHECKING:
    from strands.models import Model

    from wrapper.broker import Outside
    from wrapper.spending import Spending

__all__ = ["FabricationSettings", "Fabricator", "GrantPolicy", "Need"]


class Fabricator:
    """Handles fabrication tasks for a :class:`~blackboard.worker.Worker` on the lane ``fabricator``.

    Args:
        registry: where capabilities are looked up and registered.
        isolation: what production runs generated code in, or a function that gives it, started.
        model: writes the code; a Strands model, or a function that gives one when it is first needed.
        examiner_model: writes specification and exam. Default: the same model, in a conversation of its own.
        settings: bounds, and what may be granted.
        spending: counts each fabrication and reserves each of its model calls.
        outside: what exams of capabilities whose grants need no approval may reach. Default: nothing.
        policy: what content from sources that are not trusted may have made. Default: ``TaintPolicy()``.
    """

    def __init__(
        self,
        registry: Registry,
        isolation: Isolation | Callable[[], Awaitable[Isolation]],
        model: Model | Callable[[], Model],
        *,
        examiner_model: Model | Callable[[], Model] | None = None,
        settings: FabricationSettings | None = None,
        spending: Spending | None = None,
        outside: Outside | None = None,
        policy: TaintPolicy | None = None,
    ) -> None:
        self._outside, self._policy = outside, policy or TaintPolicy()
        self._registry = registry
        self._isolation = _later(isolation)
        self._generator = _model(model)
        self._examiner = self._generator if examiner_model is None else _model(examiner_model)
        self._settings = settings or FabricationSettings()
        self._spending = spending

    async def handle(self, attempt: Attempt) -> Completion:
        """Fabricate what an attempt's task asks for, or go on where an earlier attempt was interrupted.

        Returns:
            ``succeeded`` with data ``capability, version, description, input_schema, output_schema, reused, repairs,
            exam``; ``failed`` with type ``abstained``, ``fabrication_failed``, ``name_taken``, ``model_error``, ``limit`` or
            ``bad_input``; ``refused`` with type ``policy``, ``taint``, ``approval``, ``signature`` or ``isolation``; or
            ``cancelled``.
            Usage is the sum of all model calls, those of earlier attempts included.

        Raises:
            Fenced: the task was taken by another process.
            EngineUnavailable: the board cannot be reached.
        """
        from fabricator.pipeline import Fabrication
        from wrapper.model_choice import NamedModels

        claim = attempt.claim
        try:
            need = Need.of(claim.input(), claim.taint)
        except BadInput as error:
            failure = Failure(type="bad_input", message=str(error), evidence={"field": error.field})
            return claim.completion(Status.FAILED, error=failure)
        try:
            if self._spending is not None:
                await self._spending.fabrication(claim)
        except BudgetExhausted as error:
            return claim.completion(Status.FAILED, error=Failure(type="limit", message=str(error)))
        models = NamedModels()
        fabrication = Fabrication(
            attempt, need, self._registry, self._isolation,
            self._guarded(self._generator, claim, need), self._guarded(self._examiner, claim, need), self._settings,
            self._outside, lambda name: self._guarded(lambda: models.get(name), claim, need)(), self._policy,
        )  # fmt: skip
        return await fabrication.run()

    def _guarded(self, model: Callable[[], Model], claim: Claim, need: Need) -> Callable[[], Model]:
        """A model whose every call for this fabrication is reserved."""
        spending = self._spending
        if spending is None:
            return model
        seconds = self._settings.model_seconds
        return lambda: spending.guard(model(), claim, limits=claim.limits, capability=need.name, call_seconds=seconds)


def _model(given: Model | Callable[[], Model]) -> Callable[[], Model]:
    if callable(given):
        return given
    return lambda: given


def _later(given: Isolation | Callable[[], Awaitable[Isolation]]) -> Callable[[], Awaitable[Isolation]]:
    if callable(given):
        return given

    async def ready() -> Isolation:
        return given

    return ready
