"""From a specification and a passed exam to a registered capability: at most once, and never over somebody else's."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from blackboard.errors import Conflict, UnknownRecord
from fabricator.need import Need
from fabricator.specification import Case, Specification
from fabricator.state import Verdict
from registry import Example, ExamRecord, Grants, Manifest, Registry, Version, example_needs
from registry.manifest import EVERY_TENANT, canonical

_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 4_000


def manifest(
    spec: Specification, grants: Grants, need: Need, tenant: str, provenance: Mapping[str, JsonValue]
) -> Manifest:
    """The manifest of a fabricated capability. Small public cases become its examples; sealed ones stay out of it.

    Args:
        spec: what was specified.
        grants: what it may do: those specified, and what the operator adds to all.
        need: whose words describe the first example, for matching; the examiner's describe the others.
        tenant: owner; only its runs see the capability.
        provenance: where it comes from; not part of the content hash.
    """
    small = [
        case
        for case in spec.public_cases
        if len(canonical(case.input)) + len(canonical(case.expected)) <= _EXAMPLE_CHARACTERS
    ]
    return Manifest(
        name=spec.name,
        description=spec.description,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        effects=spec.effects,
        grants=grants,
        examples=tuple(
            Example(
                input=case.input, output=case.expected, description=_asked(case, spec) if number else need.need[:500]
            )
            for number, case in enumerate(small[:_EXAMPLES])
        ),
        action="generic",
        kind="artifact",
        tenant=tenant,
        provenance=dict(provenance),
    )


def _asked(case: Case, spec: Specification) -> str:
    """How somebody asks for a case, where the examiner gave a good example of that; else what it is called."""
    good = example_needs.judge([case.need], spec.name, spec.description).needs
    return good[0] if good else case.name


async def active(registry: Registry, name: str) -> Version | None:
    """The version of a name that is offered now."""
    try:
        found = await registry.resolve(name)
    except UnknownRecord:
        return None
    return found if found.state == "active" else None


async def standing(registry: Registry, name: str) -> Version | None:
    """The same, unless nobody whose word counts vouches for it: that one cannot run, so it serves no need."""
    found = await active(registry, name)
    if found is None or found.artifact_sha is None or await registry.vouched(found):
        return found
    return None


def is_visible(version: Version, tenant: str) -> bool:
    """Whether runs of a tenant may use it."""
    return version.manifest.tenant in (EVERY_TENANT, tenant)


async def waiting(registry: Registry, name: str, tenant: str) -> Version | None:
    """The latest version of a name that passed its exam and waits for a person to approve its grants."""
    try:
        versions = await registry.versions(name)
    except UnknownRecord:
        return None
    found = [each for each in versions if each.waits and is_visible(each, tenant)]
    return found[-1] if found else None


async def admit(
    registry: Registry,
    made: Manifest,
    source: str,
    verdict: Verdict,
    examiner: str,
    task: str,
    *,
    offered: bool = True,
    replaces: str | None = None,
    by_rule: tuple[str, Mapping[str, JsonValue]] | None = None,
    canary: float | None = None,
) -> Version:
    """Register and activate a candidate that passed.

    The operation is the task's, and no version may be active but the one to replace: a second call, also from another process,
    changes nothing, and a capability that another run registered in the meantime is not replaced.

    Args:
        offered: False leaves it ``examined`` and unsigned, which nobody can run, until a person approves its grants.
        replaces: the version that fails and gives way to it.
        by_rule: the policy that gives them without a person, and what it allows, for the audit.
        canary: share of the runs that use it at first, where the version it replaces did well lately.

    Returns:
        This version, or the other run's that is active under the name.

    Raises:
        Conflict: the name belongs to another tenant.
    """
    record = ExamRecord(
        public_cases=verdict.public[1],
        sealed_cases=verdict.sealed[1],
        passed=verdict.passed,
        mistakes_planted=verdict.mistakes[1],
        mistakes_noticed=verdict.mistakes[0],
        properties=verdict.properties[0],
        property_inputs=verdict.inputs,
        property_refused=verdict.refused,
        examiner=examiner,
        when=verdict.when,
    )
    operation = f"fabricate:{task}"
    if not offered:
        return await registry.register(
            made, source=source, exam=record, activate=False, sign=False, operation=operation
        )
    try:
        return await registry.register(
            made, source=source, exam=record, expected_active=replaces, operation=operation, by_rule=by_rule,
            canary=canary,
        )  # fmt: skip
    except Conflict:
        other = await active(registry, made.name)
        if other is not None and not is_visible(other, made.tenant):
            raise
        if other is None and replaces is None:
            raise
        if other is not None and await standing(registry, made.name) is not None:
            return other
        # Nobody vouches for it any more, or the one to replace was retired meanwhile.
        expected = None if other is None else other.sha
        return await registry.register(
            made, source=source, exam=record, expected_active=expected, operation=operation, by_rule=by_rule
        )
