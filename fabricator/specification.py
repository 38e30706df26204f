"""What an examiner must hand in before any code exists, and why a specification is refused.

Two kinds of objection are kept apart: one that is **invalid** cannot be used, one that is **weak** could be used and
would prove nothing. Both go back to the examiner; when it cannot do better, the first is a failure and the second an
abstention.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import Field, JsonValue, ValidationError

from blackboard import strict_json
from blackboard.errors import BadInput
from blackboard.types import Record
from fabricator.settings import FabricationSettings
from registry import Grants, Manifest
from registry.manifest import canonical
from registry.schema import check_schema, problems

MOST_CHARACTERS = 160_000
"""Of a specification's text. It is stored with the fabrication and sent to the generator."""
MOST_PROPERTIES = 10

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
_MOST_OBJECTIONS = 20


class Case(Record):
    """One acceptance case: for this input, this result."""

    name: str = Field(min_length=1, max_length=200)
    need: str = ""
    """How somebody would ask for just this; used for matching where it is good, and not judged here."""
    input: dict[str, JsonValue]
    expected: JsonValue


class Property(Record):
    """Something that is true of every right result, whatever the input."""

    name: str = Field(min_length=1, max_length=200)
    says: str = Field(min_length=1, max_length=1_000)
    """The same in words, which is all that whoever writes the code is told of it."""
    check: str = Field(min_length=1, max_length=4_000)
    """Python source that defines ``check(input, result)``, which returns a bool."""


class Specification(Record):
    """A capability before its code: what it promises and the exam that will hold it to that."""

    name: str
    description: str
    input_schema: dict[str, JsonValue]
    output_schema: dict[str, JsonValue]
    effects: Literal["pure", "reads", "writes", "irreversible"] = "pure"
    grants: Grants = Grants()
    public_cases: tuple[Case, ...]
    sealed_cases: tuple[Case, ...]
    properties: tuple[Property, ...] = ()

    def public(self) -> dict[str, JsonValue]:
        """The part whoever writes the code may see: of properties the words, not the check."""
        shown = self.model_dump(mode="json", exclude={"sealed_cases", "properties"})
        if self.properties:
            shown["properties"] = [{"name": each.name, "says": each.says} for each in self.properties]
        return shown

    @property
    def cases(self) -> tuple[Case, ...]:
        return (*self.public_cases, *self.sealed_cases)

    def missing(self, other: Specification) -> tuple[Case, ...]:
        """Cases of another exam that this one could have and has not: those that fit its schemas, with inputs of their own."""
        known = {canonical(case.input) for case in self.cases}
        given, result = canonical(self.input_schema), canonical(self.output_schema)
        return tuple(
            case
            for case in other.cases
            if canonical(case.input) not in known
            and not problems(given, case.input)
            and not problems(result, case.expected)
        )

    def extended(self, other: Specification, most: int) -> Specification:
        """The same with what another exam has more, as sealed cases, up to so many cases in all."""
        room = max(0, most - len(self.cases))
        return self.model_copy(update={"sealed_cases": (*self.sealed_cases, *self.missing(other)[:room])})


@dataclass(frozen=True, slots=True)
class Draft:
    """What became of one answer of the examiner. ``specification`` is there exactly when nothing is objected."""

    specification: Specification | None = None
    invalid: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    """Grants it asks for and may not have."""
    abstained: tuple[str, ...] = ()
    """The examiner's own reasons not to specify this."""

    @property
    def objections(self) -> tuple[str, ...]:
        return (*self.invalid, *self.forbidden, *self.weak)


def read(text: str, name: str, settings: FabricationSettings) -> Draft:
    """Judge an examiner's answer.

    Args:
        text: the answer: one JSON object, plain or in one ```json block.
        name: of the capability that was asked for.
        settings: fewest cases, and what may be granted.
    """
    if len(text) > MOST_CHARACTERS:
        return Draft(invalid=(f"It is {len(text)} characters long; at most {MOST_CHARACTERS} are accepted.",))
    try:
        data = json_object(text)
    except ValueError as error:
        return Draft(invalid=(str(error),))
    if "abstain" in data:
        reasons = data["abstain"]
        listed = cast("list[JsonValue]", reasons) if isinstance(reasons, list) else [reasons]
        return Draft(abstained=tuple(str(each)[:500] for each in listed) or ("No reason was given.",))
    try:
        specification = Specification.model_validate(_closed(data))
    except ValidationError as error:
        found = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        return Draft(invalid=tuple(found[:_MOST_OBJECTIONS]))
    invalid = tuple(_invalid(specification, name, settings))[:_MOST_OBJECTIONS]
    forbidden = tuple(_forbidden(specification.grants, settings))
    weak = () if invalid else tuple(_weak(specification, settings))
    if invalid or forbidden or weak:
        return Draft(invalid=invalid, forbidden=forbidden, weak=weak)
    return Draft(specification)


def json_object(text: str) -> dict[str, JsonValue]:
    """The one JSON object of an answer.

    Raises:
        ValueError: there is none, or more than one.
    """
    blocks: list[str] = [] if text.lstrip().startswith("{") else _FENCE.findall(text)
    if len(blocks) > 1:
        raise ValueError(f"It holds {len(blocks)} fenced blocks; answer with exactly one JSON object.")
    try:
        value: object = strict_json.loads(blocks[0] if blocks else text)
    except ValueError as error:
        raise ValueError(f"It is not one JSON object: {error}.") from None
    if not isinstance(value, dict):
        raise ValueError("It is JSON, but not an object.")
    return cast("dict[str, JsonValue]", value)


def _closed(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """With an input that takes no unknown members unless it says so: they would only fail later, at the call."""
    schema = data.get("input_schema")
    if isinstance(schema, dict) and schema.get("type") == "object" and "patternProperties" not in schema:
        return {**data, "input_schema": {"additionalProperties": False, **schema}}
    return data


def _invalid(spec: Specification, name: str, settings: FabricationSettings) -> Iterator[str]:
    if spec.name != name:
        yield f"name: it must be {name!r}, as asked, not {spec.name!r}."
        return
    try:
        check_schema("input_schema", spec.input_schema, top="object")
        check_schema("output_schema", spec.output_schema)
        # Everything else a manifest may object to, with the name as it was asked for.
        Manifest(
            name=name,
            description=spec.description,
            input_schema=spec.input_schema,
            output_schema=spec.output_schema,
            effects=spec.effects,
            grants=spec.grants,
        )
    except BadInput as error:
        yield str(error)
        return
    for member in _properties(spec.input_schema):
        if not (member.isascii() and member.isidentifier()) or keyword.iskeyword(member):
            yield f"input_schema.properties: {member!r} cannot be a Python parameter; rename it."
    if len(spec.cases) > settings.most_cases:
        yield f"There are {len(spec.cases)} cases; at most {settings.most_cases} are examined."
    input_text, output_text = canonical(spec.input_schema), canonical(spec.output_schema)
    for part, cases in (("public_cases", spec.public_cases), ("sealed_cases", spec.sealed_cases)):
        for number, case in enumerate(cases):
            where = f"{part}[{number}] ({case.name})"
            for said in problems(input_text, case.input)[:3]:
                yield f"{where}: its input does not fit input_schema: {said}"
            for said in problems(output_text, case.expected)[:3]:
                yield f"{where}: what it expects does not fit output_schema: {said}"
    if len(spec.properties) > MOST_PROPERTIES:
        yield f"There are {len(spec.properties)} properties; at most {MOST_PROPERTIES} are tested."
    named = [each.name for each in spec.properties]
    if repeated := sorted({each for each in named if named.count(each) > 1}):
        yield f"Names of properties must be unique; repeated: {', '.join(repeated)}."
    names = [case.name for case in spec.cases]
    if repeated := sorted({each for each in names if names.count(each) > 1}):
        yield f"Names of cases must be unique; repeated: {', '.join(repeated)}."
    expected: dict[str, str] = {}
    for case in spec.cases:
        text, result = canonical(case.input), canonical(case.expected)
        if expected.setdefault(text, result) != result:
            yield f"{case.name}: the same input has another expected result in an earlier case."


def _weak(spec: Specification, settings: FabricationSettings) -> Iterator[str]:
    if len(spec.public_cases) < settings.public_cases:
        yield f"There are {len(spec.public_cases)} public cases; give at least {settings.public_cases}."
    if len(spec.sealed_cases) < settings.sealed_cases:
        yield f"There are {len(spec.sealed_cases)} sealed cases; give at least {settings.sealed_cases}."
    shown = {canonical(case.input) for case in spec.public_cases}
    for case in spec.sealed_cases:
        if canonical(case.input) in shown:
            yield f"The sealed case {case.name!r} has the input of a public case, so it tests nothing new."
    if spec.cases and len({canonical(case.expected) for case in spec.cases}) < 2:
        yield "Every case expects the same result, so a constant would pass; add cases with other results."
    if not set(spec.output_schema) - {"description", "title", "$schema", "$id", "examples"}:
        yield "output_schema accepts anything; say what the result looks like."


def _forbidden(asked: Grants, settings: FabricationSettings) -> Iterator[str]:
    for name in sorted(set(asked.packages) - set(settings.packages)):
        yield f"grants.packages: {name!r} may not be granted here; the standard library has to do."
    for each in settings.grants.rule(asked, settings.grantable).denied:
        if each == "model":
            yield "grants.model: a model may not be granted here; specify it without one."
        else:
            yield f"grants.{each} may not be granted here; take what is needed from there as input instead."


def _properties(schema: Mapping[str, JsonValue]) -> list[str]:
    members = schema.get("properties")
    return list(members) if isinstance(members, dict) else []
