"""What the generator is told about a candidate that failed: the smallest thing that shows the fault, and no secret.

Of the sealed part only numbers leave this file. Everything else it may hear is what it could find out itself: its own
code's errors and the public cases. What the code said is framed: it may have been written to be read as something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from fabricator.exam import CaseResult, PartResult
from fabricator.specification import Case
from fabricator.trial import Broken
from wrapper.models import quoted

_SHOWN = 3_000
_AGAIN = "\n\nAnswer with the whole corrected module in exactly one ```python block."


def unusable(fault: str) -> str:
    """The answer held no candidate."""
    return f"{fault}{_AGAIN}"


def refused(found: Iterable[object]) -> str:
    """The static policy objected."""
    return _report("The module is refused before it is run:\n" + "\n".join(f"- {each}" for each in found))


def unloadable(kind: str, message: str, evidence: Mapping[str, JsonValue]) -> str:
    """The module could not be imported, or has no handler."""
    where = f" (line {evidence['line']})" if evidence.get("line") else ""
    return _report(f"The module cannot be loaded: {kind}{where}: {message}{_trace(evidence)}")


def unfitting(found: Sequence[str]) -> str:
    """The handler's parameters do not fit the input schema."""
    return _report("handler does not take its input:\n" + "\n".join(f"- {each}" for each in found))


def excessive(said: str) -> str:
    """It asked for what it may not have."""
    return _report(f"{said} Do without it.")


def public_failures(part: PartResult) -> str:
    """The smallest failing public case in full, the others by name."""
    failures = part.failures
    smallest = failures[0]
    parts = [
        f"{len(failures)} of {part.total} public cases failed. The smallest is {smallest.case.name!r}.",
        f"Input: {shown(smallest.case.input)}",
        f"Expected: {shown(smallest.case.expected)}",
        _happened(smallest),
    ]
    if len(failures) > 1:
        parts.append("Also failed: " + "; ".join(f"{each.case.name!r} ({each.kind})" for each in failures[1:6]))
    if len(part.results) < part.total:
        parts.append(f"{part.total - len(part.results)} cases were not run any more.")
    rule = "\nFind the rule of the description that the code breaks, rather than this one case."
    return _report("\n".join(parts), rule)


def sealed_failures(part: PartResult) -> str:
    """How many sealed cases failed, and nothing about them."""
    failed = part.total - part.passes
    return (
        f"Every public case passes, but {failed} of {part.total} sealed cases failed. They follow from the description alone "
        "and stay sealed. Read the description again, rule by rule: borders, ties, rounding, order, empty and repeated "
        f"input, and how rules combine. Correct the code for all of them.{_AGAIN}"
    )


def broken(found: Broken) -> str:
    """A property that does not hold, or a failure, with the smallest input that was found for it. No case has that input."""
    answer = found.answer
    if found.breaks is not None:
        seen = [
            f"Every case passes. The property {found.breaks.name!r} does not hold: {found.breaks.says}",
            f"Input: {shown(dict(found.input))}",
            f"Got: {shown(answer.value)}",
        ]
        return _report(
            "\n".join(seen), "\nIt has to hold for every input that fits input_schema, rather than this one."
        )
    evidence = answer.error.evidence if answer.error else None
    failed = CaseResult(
        Case(name="made", input=dict(found.input), expected=None),
        False,
        answer.kind,
        answer.detail,
        answer.value,
        evidence,
    )
    seen = [
        "Every case passes. This input fits input_schema and has no result.",
        f"Input: {shown(dict(found.input))}",
        _happened(failed),
    ]
    return _report(
        "\n".join(seen),
        "\nGive the result that the description demands for such input; where it makes no sense, raise ValueError.",
    )


def broken_in_short(found: Broken) -> tuple[str, dict[str, JsonValue]]:
    """The same in one line, and as facts."""
    said: dict[str, JsonValue] = {
        "counterexample": {"input": shown(dict(found.input)), "got": shown(found.answer.value)}
    }
    if found.breaks is not None:
        what = f"The property {found.breaks.name!r} does not hold: {found.breaks.says}"
        return what, {"property": found.breaks.name, **said}
    what = f"An input that fits the input schema ended with {found.answer.kind}: {found.answer.detail}"
    return what, {"kind": found.answer.kind, "detail": found.answer.detail[:300], **said}


def shown(value: JsonValue) -> str:
    """JSON for a prompt or for evidence, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … ({len(text)} characters)"


def _report(seen: str, advice: str = "") -> str:
    return f"{quoted(seen, 'report on your candidate', ('generated',))}{advice}{_AGAIN}"


def _happened(failure: CaseResult) -> str:
    evidence = failure.evidence or {}
    if failure.kind == "wrong_result":
        return f"Got: {shown(failure.value)}\nFirst difference: {failure.detail}"
    if failure.kind == "output_schema":
        return f"Got: {shown(failure.value)}\nIt does not fit output_schema: {failure.detail}"
    return f"It ended with {failure.kind}: {failure.detail[:1000]}{_trace(evidence)}"


def _trace(evidence: Mapping[str, JsonValue]) -> str:
    lines = evidence.get("traceback")
    if not isinstance(lines, list):
        return ""
    return "\n" + "\n".join(str(line) for line in lines[-12:])
