"""Schemas from hints and docstrings, and the way of a call from JSON to typed arguments and back."""

from __future__ import annotations

import asyncio
import functools
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from blackboard.errors import BadInput
from registry import Capability, capability, validate_input, validate_output
from registry.signature import Signature


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    sku: str
    price: float = 0.0


class Address(TypedDict):
    street: str
    number: int


class Customer(BaseModel):
    name: str
    address: Address
    friends: list[Customer] = []


def everything(
    text: str,
    count: Annotated[int, Field(ge=1, description="how many")],
    mode: Literal["fast", "slow"],
    lines: list[Line],
    customer: Customer,
    table: dict[str, float],
    colour: Colour,
    day: date,
    either: int | str,
    maybe: Optional[int],  # noqa: UP045
    amount: Decimal = Decimal("1.5"),
    tags: tuple[str, ...] = (),
) -> dict[str, Line]:
    """Do everything at once.

    It takes long.

    Args:
        text: some words
        count: ignored, the annotation says more
        maybe: a number or nothing

    Returns:
        a line
    """
    return {text: lines[0]}


GOOD: dict[str, Any] = {
    "text": "a",
    "count": 2,
    "mode": "fast",
    "lines": [{"sku": "x", "price": 2}],
    "customer": {"name": "n", "address": {"street": "s", "number": 1}, "friends": []},
    "table": {"a": 1.5},
    "colour": "red",
    "day": "2026-11-21",
    "either": "x",
    "maybe": None,
}


def test_every_kind_of_type_becomes_schema() -> None:
    made = capability(everything).manifest
    schema: Any = made.input_schema
    assert made.description == "Do everything at once.\n\nIt takes long."
    assert schema["required"] == [
        *("text", "count", "mode", "lines", "customer", "table", "colour", "day", "either", "maybe")
    ]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["text"] == {"type": "string", "description": "some words"}
    assert schema["properties"]["count"] == {"type": "integer", "minimum": 1, "description": "how many"}
    assert schema["properties"]["mode"]["enum"] == ["fast", "slow"]
    assert schema["properties"]["amount"]["default"] == "1.5"
    assert schema["properties"]["tags"]["default"] == []
    assert set(schema["$defs"]) >= {"Line", "Customer", "Address", "Colour"}
    assert made.output_schema is not None
    assert validate_input(made, GOOD) == []
    assert validate_output(made, {"a": {"sku": "x", "price": 1}}) == []
    assert validate_output(made, {"a": {"price": 1}}) != []
    for broken in ({"count": 0}, {"mode": "other"}, {"colour": "green"}, {"lines": [{}]}, {"maybe": "x"}, {"no": 1}):
        assert validate_input(made, {**GOOD, **broken}) != [], broken
    assert validate_input(made, {key: value for key, value in GOOD.items() if key != "maybe"}) != []


def test_json_becomes_the_annotated_types_and_the_result_becomes_json() -> None:
    made = capability(everything)
    arguments = made.arguments(GOOD)
    assert arguments["lines"] == [Line("x", 2.0)]
    assert arguments["customer"].address["number"] == 1
    assert (arguments["colour"], arguments["day"]) == (Colour.RED, date(2026, 11, 21))
    assert "amount" not in arguments
    assert made.result(everything(**arguments)) == {"a": {"sku": "x", "price": 2.0}}
    with pytest.raises(BadInput, match=r"lines\.0\.sku"):
        made.arguments({"lines": [{}]})
    with pytest.raises(BadInput, match="known are: text"):
        made.arguments({"other": 1})


def no_annotation(good: int, bad) -> int:
    """Doc."""
    return good


def positional_only(bad: int, /) -> int:
    """Doc."""
    return bad


def star_args(*bad: int) -> int:
    """Doc."""
    return 0


def star_kwargs(**bad: int) -> int:
    """Doc."""
    return 0


def a_callable(good: int, bad: Callable[[], int]) -> int:
    """Doc."""
    return good


def an_object(good: int, bad: Iterator[Any] | asyncio.Event) -> int:
    """Doc."""
    return good


def a_missing_type(good: int, bad: Nowhere) -> int:  # noqa: F821
    """Doc."""
    return good


def a_field_default(bad: int = Field(3)) -> int:
    """Doc."""
    return bad


@pytest.mark.parametrize(
    "function",
    [
        *(no_annotation, positional_only, star_args, star_kwargs),
        *(a_callable, an_object, a_missing_type, a_field_default),
    ],
)
def test_a_parameter_that_cannot_be_described_is_named(function: Callable[..., int]) -> None:
    with pytest.raises(BadInput) as caught:
        capability(function)
    assert caught.value.field == f"{function.__name__}.bad"


def test_a_return_type_json_cannot_carry_is_refused() -> None:
    def bad() -> asyncio.Event:
        """Doc."""
        return asyncio.Event()

    with pytest.raises(BadInput, match=r"bad\.return"):
        capability(bad)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads the standard one from 3.12 on")
def test_a_typed_dict_pydantic_cannot_read_is_refused_with_the_one_it_can() -> None:
    standard = typing.TypedDict("standard", {"a": int})  # noqa: UP013

    def bad(value: standard) -> int:
        """Doc."""
        return 1

    with pytest.raises(BadInput, match=r"bad\.value.*typing_extensions"):
        capability(bad)


def test_generators_classes_lambdas_and_silence_are_refused() -> None:
    def numbers() -> Iterator[int]:
        """Doc."""
        yield 1

    async def later() -> AsyncIterator[int]:
        """Doc."""
        yield 1

    def silent(a: int) -> int:
        return a

    for bad, why in ((numbers, "list"), (later, "list"), (Line, "function"), (silent, "docstring"), (3, "function")):
        with pytest.raises(BadInput, match=why):
            capability(bad)
    with pytest.raises(BadInput, match="name="):
        capability(lambda: 1, description="one")
    with pytest.raises(BadInput, match="lower-case"):

        @capability
        def CamelCase() -> int:
            """Doc."""
            return 1


def test_types_defined_beside_a_nested_function_are_found() -> None:
    class Local(BaseModel):
        x: int

    @capability
    def nested(value: Local) -> Local:
        """Doc."""
        return value

    assert nested.result(nested(**nested.arguments({"value": {"x": 1}}))) == {"x": 1}


def test_no_parameters_and_no_return_annotation_are_fine() -> None:
    @capability
    def ping():
        """Doc."""
        return {"pong": (1, 2)}

    assert ping.manifest.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert ping.manifest.output_schema is None
    assert ping.result(ping()) == {"pong": [1, 2]}


def test_returning_nothing_is_null() -> None:
    @capability
    def quiet() -> None:
        """Doc."""

    assert quiet.manifest.output_schema == {"type": "null"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"\xff", {"a": {object}}])
def test_a_result_json_cannot_carry_is_an_error(value: object) -> None:
    def anything() -> Any:
        """Doc."""

    with pytest.raises(ValueError, match=r".+"):
        Signature(anything).result(value)


async def test_a_declared_function_is_still_the_function() -> None:
    @capability(effects="irreversible", examples=[{"input": {"a": 1, "b": 2}, "output": 3}])
    def add(a: int, b: int = 2) -> int:
        """Add two numbers.

        :param a: the first
        """
        return a + b

    assert isinstance(add, Capability)
    assert add(1, b=5) == 6
    assert (add.__name__, add.__doc__) == ("add", add.function.__doc__)
    assert add.manifest.kind == "function"
    assert add.manifest.action == "local.add"
    assert add.manifest.retry.max_attempts == 1, "what cannot be undone is not tried again unasked"
    assert add.manifest.input_schema["properties"]["a"]["description"] == "the first"
    assert add.manifest.provenance["qualname"] == "test_a_declared_function_is_still_the_function.<locals>.add"
    assert (await add.invoke({"a": 4}))[0] == 6
    with pytest.raises(BadInput, match="already"):
        capability(add)


async def test_async_functions_methods_partials_and_callable_objects_can_be_declared() -> None:
    async def slow(a: int) -> list[Line]:
        """Doc."""
        await asyncio.sleep(0)
        return [Line(str(a))]

    class Shop:
        stock: int = 3

        def count(self, sku: str) -> int:
            """How many are there."""
            return self.stock

        def __call__(self, sku: str) -> str:
            """Name it."""
            return sku

    def power(base: int, exponent: int) -> int:
        """Raise."""
        return base**exponent

    assert (await capability(slow).invoke({"a": 1}))[0] == [{"sku": "1", "price": 0.0}]
    assert (await capability(Shop().count).invoke({"sku": "x"}))[0] == 3
    assert (await capability(Shop(), name="shop", description="A shop.").invoke({"sku": "x"}))[0] == "x"
    square = capability(functools.partial(power, exponent=2), name="square", description="Square a number.")
    assert (await square.invoke({"base": 3}))[0] == 9


async def test_a_sync_function_does_not_hold_up_the_event_loop() -> None:
    import threading

    release = threading.Event()

    @capability
    def wait() -> bool:
        """Doc."""
        return release.wait(10)

    call = asyncio.create_task(wait.invoke({}))
    asyncio.get_running_loop().call_soon(release.set)
    value, usage = await call
    assert value is True
    assert usage.total_tokens == 0


def test_a_name_too_long_for_its_lane_is_refused() -> None:
    def fine() -> int:
        """Doc."""
        return 1

    assert capability(fine, name="a" * 58).manifest.action == "local." + "a" * 58
    with pytest.raises(BadInput, match="58"):
        capability(fine, name="a" * 59)


def test_declaring_does_not_import_strands() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom registry import capability\n"
        "@capability\ndef f(a: int) -> int:\n    'Doc.'\n    return a\n"
        "assert not any(m.split('.')[0] in ('strands', 'boto3') for m in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
