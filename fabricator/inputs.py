"""Inputs for properties, made by code and never by a model: from the input schema, and by changes of the public cases' inputs.

The same specification gives the same inputs. They are guesses; only those are used that fit the schema by the registry's check,
whose cost is bounded whoever wrote the schema.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import cast

from pydantic import JsonValue

from fabricator.guessing import EDGES, Guesses, text_of
from fabricator.specification import Specification
from registry.manifest import canonical
from registry.schema import problems

MOST_SECONDS = 5.0
"""For making the inputs of one specification, however dear its schema is to check."""
_TRIES = 10
"""For each input that is wanted."""
_MEMBERS = 20
"""Members of an input whose limits are tried by themselves."""
_LONG = 60
"""Places of one text or list that are looked at by themselves."""
_CHARACTERS = 2_000_000
"""Of the simpler inputs that are looked at in one go."""


def inputs(spec: Specification, most: int) -> list[dict[str, JsonValue]]:
    """At most so many different inputs that fit the input schema and that no case has, the shortest first; the same each time.

    Nothing of the sealed cases is in them but what chance repeats.
    """
    chance = random.Random(canonical(spec.model_dump(mode="json")))
    cases = [dict(each.input) for each in spec.public_cases] or [{}]
    maker = Guesses(spec.input_schema, cases, chance)
    found: list[dict[str, JsonValue]] = []
    known = {canonical(each.input) for each in spec.cases}
    given_up = time.monotonic() + MOST_SECONDS
    schema = canonical(spec.input_schema)
    for _, made in zip(range(most * _TRIES), _made(spec, maker, cases, chance), strict=False):
        if len(found) >= most or time.monotonic() > given_up:
            break
        text = text_of(made) if isinstance(made, dict) else None
        if isinstance(made, dict) and text is not None and text not in known and not problems(schema, made):
            known.add(text)
            found.append(made)
    return sorted(found, key=size)


def wrong_results(spec: Specification, most: int) -> list[tuple[dict[str, JsonValue], JsonValue]]:
    """Inputs of cases, each with a result that is wrong for it: what fits the output schema and is not what the case expects."""
    chance = random.Random(canonical(spec.model_dump(mode="json")))
    schema = canonical(spec.output_schema)
    given_up = time.monotonic() + MOST_SECONDS
    found: list[tuple[dict[str, JsonValue], JsonValue]] = []
    known: set[tuple[str, str]] = set()
    for turn in range(_TRIES):
        for number, case in enumerate(spec.cases):
            others = spec.cases[number + 1 :] + spec.cases[:number]
            wrong = (
                others[turn // 2].expected if turn % 2 and turn // 2 < len(others) else tweaked(case.expected, chance)
            )
            key = (canonical(case.input), text_of(wrong) or "")
            if len(found) >= most or time.monotonic() > given_up:
                return found
            if key not in known and key[1] not in ("", canonical(case.expected)) and not problems(schema, wrong):
                known.add(key)
                found.append((dict(case.input), wrong))
    return found


def simpler(
    given: Mapping[str, JsonValue], schema: Mapping[str, JsonValue], until: float
) -> Iterator[dict[str, JsonValue]]:
    """Simpler inputs that fit the schema, the simplest first: with something left out, shortened, or nearer to zero.

    None any more once that time has come, on the monotonic clock.
    """
    before = size(dict(given))
    some = islice(chain(_simpler(dict(given)), _alike(dict(given))), max(_LONG, _CHARACTERS // before[0]))
    options = {text_of(each) or "": each for each in some}
    fitting = [each for text, each in options.items() if text and isinstance(each, dict) and size(each) < before]
    for each in sorted(fitting, key=size):
        if time.monotonic() > until:
            break
        if not problems(canonical(schema), each):
            yield each


def size(value: JsonValue) -> tuple[int, int, str]:
    """What makes one input simpler than another: a shorter text, fewer different characters, and then the lesser text."""
    text = canonical(value)
    return len(text), len(set(text)), text


def _made(
    spec: Specification, maker: Guesses, cases: Sequence[dict[str, JsonValue]], chance: random.Random
) -> Iterator[JsonValue]:
    """Guesses without end: each edge of each member in turn, in an input that a case has; then whatever chance gives."""
    schema = spec.input_schema
    yield from maker.edges(schema)[:2]
    members = schema.get("properties")
    some = list(members.items())[:_MEMBERS] if isinstance(members, dict) else []
    edges = [(name, maker.edges(one, name)) for name, one in some]
    for turn in range(EDGES):
        for name, some in edges[:EDGES]:
            if turn < len(some):
                yield {**cases[turn % len(cases)], name: some[turn]}
    while True:
        for case in cases:
            yield maker.fresh(schema)
            yield tweaked(case, chance)
            if edges:
                name, _ = chance.choice(edges)
                yield {**case, name: maker.fresh(cast("dict[str, JsonValue]", members)[name], name)}


def tweaked(value: JsonValue, chance: random.Random) -> JsonValue:
    """The value with one small change at a place of it, whatever its schema is."""
    match value:
        case dict() if value and chance.random() < 0.9:
            name = chance.choice(sorted(value))
            return {**value, name: tweaked(value[name], chance)}
        case dict() if value:
            name = chance.choice(sorted(value))
            return {key: each for key, each in value.items() if key != name}
        case list() if value and chance.random() < 0.5:
            at = chance.randrange(len(value))
            return [*value[:at], tweaked(value[at], chance), *value[at + 1 :]]
        case list():
            at = chance.randrange(len(value)) if value else 0
            return chance.choice(([], [*value[:at], *value[at + 1 :]], [*value, *value[at : at + 1]], value[::-1]))
        case bool():
            return not value
        case int() | float():
            return chance.choice((value + 1, value - 1, 0, -value, value * 10))
        case str():
            at = chance.randrange(len(value)) if value else 0
            less = value[:at] + value[at + 1 :]
            return chance.choice(("", less, f"{value}{value}", value.swapcase(), f" {value}", f"{value}x", value[::-1]))
        case _:
            return value


def _alike(value: JsonValue) -> Iterator[JsonValue]:
    """The value with something that it holds more than once made simpler everywhere: what is equal often has to stay so."""
    leaves = [(text_of(each), each) for each in _leaves(value) if isinstance(each, str | int | float)]
    times = Counter(text for text, _ in leaves)
    for text, each in dict(leaves).items():
        if times[text] > 1:
            yield from (_replaced(value, text, less) for less in _simpler(each))


def _leaves(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


def _replaced(value: JsonValue, old: str | None, new: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {name: _replaced(each, old, new) for name, each in value.items()}
        case list():
            return [_replaced(each, old, new) for each in value]
        case _:
            return new if text_of(value) == old else value


def _simpler(value: JsonValue) -> Iterator[JsonValue]:
    match value:
        case dict():
            for name, each in value.items():
                yield {key: one for key, one in value.items() if key != name}
                yield from ({**value, name: less} for less in _simpler(each))
        case list():
            half = len(value) // 2
            yield from ([], value[:half], value[half:])
            for at, each in enumerate(value[:_LONG]):
                yield [*value[:at], *value[at + 1 :]]
                yield from ([*value[:at], less, *value[at + 1 :]] for less in _simpler(each))
        case bool() | None:
            return
        case int():
            yield from (
                0,
                abs(value),
                abs(value) // 2 * (1 if value > 0 else -1),
                value - 1 if value > 0 else value + 1,
            )
        case float():
            yield from (0, int(value), round(value, 1))
        case str():
            half = len(value) // 2
            yield from ("", "a", value[:half], value[half:])
            for at in range(min(len(value), _LONG)):
                yield value[:at] + value[at + 1 :]
                yield from (f"{value[:at]}{other}{value[at + 1 :]}" for other in ("a", value[0]))
