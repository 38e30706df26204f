"""Values that a JSON Schema probably allows: those at its limits, and others by chance.

A guess costs little, whatever the schema: it looks at a bounded number of parts and is right where somebody has checked it.
Keywords that take a solver (``pattern``, ``not``, ``if``, ``contains``) are left to that check and to texts seen elsewhere.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

_NODES = 400
"""Values one guess is made of at most."""
_MERGED = 20
"""Members of schemas put together that cost as much as one value."""
_DEPTH = 12
_LONG = 60
_LONGEST = 1_000
_LARGEST = 1e15
EDGES = 6
"""So many values at the limits of one part are worth trying by themselves."""

_TEXTS = (
    "",
    "a",
    "ß",
    "a" * _LONG,
    " x ",
    "0",
    "A",
    "ab",
    "Ab-1",
    "a b",
    "é",
    "日本",
    "🙂",
    "a\nb",
    "-1",
    "1.5",
    "a,b",
)
_FORMATS: Mapping[str, tuple[str, ...]] = {
    "date": ("2024-02-29", "1999-12-31", "2000-01-01", "2026-07-04"),
    "time": ("00:00:00Z", "23:59:59Z", "12:30:00+02:00"),
    "date-time": ("2024-02-29T00:00:00Z", "1999-12-31T23:59:59Z", "2026-07-04T12:30:00+02:00"),
    "email": ("a@example.com", "A.B+c@example.org"),
    "uri": ("https://example.com/", "https://example.com/a?b=c#d"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "123e4567-e89b-12d3-a456-426614174000"),
}


class Guesses:
    """Guesses values for parts of one schema."""

    def __init__(
        self, root: Mapping[str, JsonValue], cases: Sequence[Mapping[str, JsonValue]], chance: random.Random
    ) -> None:
        self._root, self._chance = dict(root), chance
        self._left = _NODES
        self._seen: dict[str, list[str]] = {}
        for case in cases:
            self._look(case, "")

    def _look(self, value: JsonValue | Mapping[str, JsonValue], name: str) -> None:
        """Remember the texts of a case by the name of the member they stand in."""
        if isinstance(value, Mapping):
            for key, each in value.items():
                self._look(each, key)
        elif isinstance(value, list):
            for each in value:
                self._look(each, name)
        elif isinstance(value, str) and value not in self._seen.setdefault(name, []):
            self._seen[name].append(value)

    def fresh(self, schema: JsonValue, name: str = "") -> JsonValue:
        """A value for a schema, by chance."""
        self._left = _NODES
        return self._value(schema, name, 0)

    def edges(self, schema: JsonValue, name: str = "") -> list[JsonValue]:
        """Values at the limits of a schema: least and most, none and one, empty, long, unusual."""
        self._left = _NODES
        flat = self._flat(schema)
        if "const" in flat:
            return [flat["const"]]
        if isinstance(listed := flat.get("enum"), list):
            return listed[:EDGES]
        found: list[JsonValue] = []
        for kind in _kinds(flat):
            match kind:
                case "integer" | "number":
                    found += self._numbers(flat, kind)
                case "string":
                    found += self._texts(flat, name)
                case "boolean":
                    found += [False, True]
                case "array":
                    least, most = _bounds(flat, "minItems", "maxItems", 5)
                    found += [
                        self._list(flat, name, 0, many) for many in dict.fromkeys((least, min(least + 1, most), most))
                    ]
                    if found and isinstance(found[-1], list) and found[-1]:
                        found.append([found[-1][0]] * len(found[-1]))
                case "object":
                    found += [self._object(flat, 0, 0.0), self._object(flat, 0, 1.0)]
                case _:
                    found.append(None)
        return found

    def _value(self, schema: JsonValue, name: str, depth: int) -> JsonValue:
        self._left -= 1
        flat = self._flat(schema)
        if depth > _DEPTH or self._left < 0:
            return None
        if "const" in flat:
            return flat["const"]
        if isinstance(listed := flat.get("enum"), list) and listed:
            return self._chance.choice(listed)
        match self._chance.choice(_kinds(flat)):
            case "integer" | "number" as kind:
                return self._number(flat, kind)
            case "string":
                return self._string(flat, name)
            case "boolean":
                return self._chance.random() < 0.5
            case "array":
                least, most = _bounds(flat, "minItems", "maxItems", 5)
                return self._list(
                    flat, name, depth, self._chance.randint(least, least if depth > _DEPTH // 2 else most)
                )
            case "object":
                return self._object(flat, depth, 0.0 if depth > _DEPTH // 2 else 0.7)
            case _:
                return None

    # ---- kinds of values --------------------------------------------------------------------------------------------

    def _numbers(self, schema: Mapping[str, JsonValue], kind: str) -> list[JsonValue]:
        low, high = _range(schema)
        step = _number(schema.get("multipleOf")) or 1
        given = [each for each in (low, high) if each is not None]
        near = [low + step] if low is not None else []
        near += [high - step] if high is not None else []
        some = [*given, *near, 0, step, -step, 2 * step, 0.5, 10 * step, 1000 * step]
        kept = [
            each for each in some
            if (low is None or each >= low) and (high is None or each <= high) and (kind == "number" or _whole(each))
        ]  # fmt: skip
        return list(dict.fromkeys(int(each) if _whole(each) else each for each in kept)) or [0]

    def _number(self, schema: Mapping[str, JsonValue], kind: str) -> JsonValue:
        edges = self._numbers(schema, kind)
        low, high = _range(schema)
        if self._chance.random() < 0.3:
            return self._chance.choice(edges)
        far = 10 ** self._chance.randint(1, 6)
        low = low if low is not None else (0 if high is None else high) - far
        high = high if high is not None else max(0, low) + far
        step = _number(schema.get("multipleOf")) or (
            1 if kind == "integer" else self._chance.choice((1, 0.5, 0.25, 0.01))
        )
        try:
            first, last = math.ceil(low / step), math.floor(high / step)
            made = self._chance.randint(first, last) * step
        except (OverflowError, ValueError, ZeroDivisionError):
            return self._chance.choice(edges)
        return int(made) if _whole(made) else round(made, 9)

    def _texts(self, schema: Mapping[str, JsonValue], name: str) -> list[JsonValue]:
        least, most = _bounds(schema, "minLength", "maxLength", _LONG)
        some = _FORMATS.get(str(schema.get("format")), _TEXTS)
        seen = self._seen.get(name, [])
        if "pattern" in schema:
            return [*seen] or [*some]
        fitted = (each[:most] + "a" * (least - len(each)) for each in (*some[:3], *seen[:1], *some[3:]))
        return list(dict.fromkeys(fitted))

    def _string(self, schema: Mapping[str, JsonValue], name: str) -> JsonValue:
        known = [*self._texts(schema, name), *self._seen.get(name, [])]
        if "format" in schema or "pattern" in schema or self._chance.random() < 0.6:
            return self._chance.choice(known)
        least, most = _bounds(schema, "minLength", "maxLength", 20)
        return "".join(self._chance.choice("abAB01.,-é   ") for _ in range(self._chance.randint(least, most)))

    def _list(self, schema: Mapping[str, JsonValue], name: str, depth: int, many: int) -> JsonValue:
        first = schema.get("prefixItems")
        heads = first if isinstance(first, list) else []
        made: list[JsonValue] = []
        for number in range(many):
            made.append(self._value(heads[number] if number < len(heads) else schema.get("items", {}), name, depth + 1))
            if not schema.get("uniqueItems") and number and self._chance.random() < 0.2:
                made[-1] = self._chance.choice(made)
        if schema.get("uniqueItems"):
            made = list({text_of(each) or "": each for each in made}.values())
        return made

    def _object(self, schema: Mapping[str, JsonValue], depth: int, share: float) -> JsonValue:
        """With what is required, and that share of the rest."""
        members = _members(schema)
        named = schema.get("required")
        required = [str(each) for each in named] if isinstance(named, list) else []
        made: dict[str, JsonValue] = {}
        for name, one in members.items():
            if self._left >= 0 and (name in required or self._chance.random() < share):
                made[name] = self._value(one, name, depth + 1)
        others = schema.get("additionalProperties")
        for name in required:
            if name not in made and self._left >= 0:
                made[name] = self._value(others if isinstance(others, dict) else {}, name, depth + 1)
        if isinstance(others, dict):
            for name in ("a", "B", "c d"):
                if self._chance.random() < share:
                    made.setdefault(name, self._value(others, name, depth + 1))
        return made

    def _flat(self, schema: JsonValue) -> dict[str, JsonValue]:
        """A schema with what it refers to, all of ``allOf``, and one branch of ``anyOf`` or ``oneOf``."""
        flat: dict[str, JsonValue] = dict(schema) if isinstance(schema, dict) else {}
        for _ in range(_DEPTH):
            more: list[JsonValue] = []
            if isinstance(reference := flat.pop("$ref", None), str):
                more.append(_at(self._root, reference))
            if isinstance(every := flat.pop("allOf", None), list):
                more += every
            for word in ("anyOf", "oneOf"):
                if isinstance(branches := flat.pop(word, None), list) and branches:
                    more.append(self._chance.choice(branches))
            if not more:
                break
            for each in more:
                if isinstance(each, dict) and self._left >= 0:
                    flat = _both(flat, each)
                    self._left -= len(_members(flat)) // _MERGED
        return flat


def _kinds(schema: Mapping[str, JsonValue]) -> list[str]:
    said = schema.get("type")
    if isinstance(said, str):
        return [said]
    if isinstance(said, list) and said:
        return [str(each) for each in said]
    for word, kind in (("properties", "object"), ("items", "array"), ("minimum", "number"), ("minLength", "string")):
        if word in schema:
            return [kind]
    return ["integer", "string", "boolean", "null"]


def _members(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    members = schema.get("properties")
    return members if isinstance(members, dict) else {}


def _both(one: dict[str, JsonValue], other: dict[str, JsonValue]) -> dict[str, JsonValue]:
    both: dict[str, JsonValue] = {**other, **one}
    if "properties" in one and "properties" in other:
        both["properties"] = {**_members(other), **_members(one)}
    first, second = one.get("required"), other.get("required")
    if isinstance(first, list) and isinstance(second, list):
        both["required"] = [*first, *second]
    return both


def _at(root: JsonValue, reference: str) -> JsonValue:
    at = root
    for raw in reference.removeprefix("#").split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict):
            at = at.get(part)
        elif isinstance(at, list) and part.isdecimal() and int(part) < len(at):
            at = at[int(part)]
        else:
            return None
    return at


def _number(value: JsonValue) -> float | int | None:
    """A number that can be reckoned with; one that is too large is left to the check."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST else None


def _whole(value: float) -> bool:
    return float(value).is_integer()


def _range(schema: Mapping[str, JsonValue]) -> tuple[float | int | None, float | int | None]:
    """The least and the greatest number a schema allows, as far as it says."""
    integer = schema.get("type") == "integer"
    step: float | int = 1 if integer else 0.5
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    above, below = _number(schema.get("exclusiveMinimum")), _number(schema.get("exclusiveMaximum"))
    if above is not None and (low is None or above >= low):
        low = above + step
    if below is not None and (high is None or below <= high):
        high = below - step
    if integer and low is not None and high is not None:
        return math.ceil(low), math.floor(high)
    return low, high


def _bounds(schema: Mapping[str, JsonValue], least: str, most: str, usual: int) -> tuple[int, int]:
    """How long a text or a list may be, of what is worth trying."""
    low, high = _number(schema.get(least)) or 0, _number(schema.get(most))
    start = min(int(low), _LONGEST)
    return start, max(start, min(start + usual, int(high) if high is not None and high < _LONGEST else start + usual))


def text_of(value: object) -> str | None:
    """Its canonical text; None where it has none."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
