"""The JSON Schemas of a typed function: from its hints and its docstring, sync or async.

Each parameter becomes a property; one without a default is required; nothing else is accepted. Whatever pydantic can
read from JSON is a fit type: the built-in ones, ``Literal``, ``Annotated``, enums, dates, dataclasses, ``TypedDict``,
models, and lists, mappings and unions of them. The same adapters turn a call's JSON into arguments and the return
value into JSON.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from blackboard.errors import ArbiterError, BadInput
from blackboard.refusing import refused

_REFERENCE = "#/$defs/{model}"
_NOTHING = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_REFUSED_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "Calls pass arguments by name; remove the '/'.",
    inspect.Parameter.VAR_POSITIONAL: "Calls pass arguments by name; take a list instead of *args.",
    inspect.Parameter.VAR_KEYWORD: "Name and annotate every parameter instead of taking **kwargs, or take a dict.",
}


class ResultNotJson(ArbiterError, ValueError):
    """A function returned something that JSON cannot carry."""


class Signature:
    """What a function takes and returns, as JSON Schema, and the conversions between JSON and its types.

    Args:
        function: a function or a bound method, sync or async.
        namespace: where names in string annotations are looked up beside the function's own module.

    Raises:
        BadInput: naming the parameter that has no annotation, cannot be passed by name, or has a type JSON cannot
            carry.
    """

    input_schema: dict[str, JsonValue]
    output_schema: dict[str, JsonValue] | None
    description: str
    """The docstring's text without its sections; empty when there is none."""

    def __init__(self, function: Callable[..., Any], namespace: Mapping[str, Any] | None = None) -> None:
        name = getattr(function, "__name__", repr(function))
        if inspect.isclass(function) or not callable(function):
            raise BadInput("capability", function, "Give a function or a Strands agent.")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise BadInput(name, function, "A capability returns one value; collect what you would yield into a list.")
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise BadInput(name, function, "Its signature cannot be read; wrap it in a def of yours.") from None
        hints = _hints(function, name, {**_closure(function), **(namespace or {})})
        for parameter in parameters.values():
            if parameter.kind not in _NAMED:
                raise BadInput(f"{name}.{parameter.name}", str(parameter), _REFUSED_KINDS[parameter.kind])
            if parameter.name not in hints:
                raise BadInput(
                    f"{name}.{parameter.name}", str(parameter), f"Annotate it, for example '{parameter.name}: str'."
                )
            if isinstance(parameter.default, FieldInfo):
                raise BadInput(
                    f"{name}.{parameter.name}", parameter.default, "Put Field(...) into Annotated, not the default."
                )
        self._adapters = {each: _adapter(f"{name}.{each}", hints[each]) for each in parameters}
        returned = hints.get("return", Any)
        self._returns = None if returned is Any else _adapter(f"{name}.return", returned)
        self.description, told = _docstring(function)
        self.input_schema = self._input(name, parameters, told)
        self.output_schema = self._output(name)

    def arguments(self, value: Mapping[str, JsonValue]) -> dict[str, Any]:
        """The keyword arguments for a call's JSON input, converted to the annotated types; defaults are left out.

        Raises:
            BadInput: a value is not of its type or there is no such parameter.
        """
        from pydantic import ValidationError

        arguments: dict[str, Any] = {}
        for key, each in value.items():
            if key not in self._adapters:
                raise BadInput(key, each, f"There is no such parameter; known are: {', '.join(self._adapters)}.")
            try:
                arguments[key] = self._adapters[key].validate_python(each)
            except ValidationError as error:
                raise refused(error, key) from None
        return arguments

    def result(self, value: object) -> JsonValue:
        """The return value as JSON.

        Raises:
            ResultNotJson: JSON cannot carry it.
        """
        try:
            if self._returns is None:
                plain = to_jsonable_python(value, inf_nan_mode="constants")
            else:
                plain = self._returns.dump_python(value, mode="json", by_alias=True, warnings=False)
            json.dumps(plain, allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise ResultNotJson(f"The {type(value).__name__} it returned cannot be carried as JSON: {error}") from error
        return cast(JsonValue, plain)

    def _input(
        self, name: str, parameters: Mapping[str, inspect.Parameter], told: Mapping[str, str]
    ) -> dict[str, JsonValue]:
        each = [(key, "validation", adapter) for key, adapter in self._adapters.items()]
        try:
            schemas, shared = TypeAdapter.json_schemas(cast(Any, each), ref_template=_REFERENCE)
        except PydanticUserError:
            for key, adapter in self._adapters.items():
                _schema(f"{name}.{key}", adapter, "validation")
            raise
        properties: dict[str, JsonValue] = {}
        for key, parameter in parameters.items():
            schema = cast(dict[str, JsonValue], dict(schemas[cast(Any, (key, "validation"))]))
            if key in told:
                schema.setdefault("description", told[key])
            if parameter.default is not _NOTHING:
                try:
                    schema["default"] = self._adapters[key].dump_python(parameter.default, mode="json", warnings=False)
                except ValueError:
                    schema.pop("default", None)  # a default JSON cannot carry is simply not advertised
            properties[key] = schema
        found: dict[str, JsonValue] = {"type": "object", "properties": properties, "additionalProperties": False}
        required: list[JsonValue] = [key for key, each in parameters.items() if each.default is _NOTHING]
        if required:
            found["required"] = required
        if "$defs" in shared:
            found["$defs"] = cast(JsonValue, shared["$defs"])
        return found

    def _output(self, name: str) -> dict[str, JsonValue] | None:
        if self._returns is None:
            return None
        return _schema(f"{name}.return", self._returns, "serialization") or None


def plain(value: object) -> JsonValue:
    """A value that must be JSON already.

    Raises:
        ResultNotJson: it is not.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ResultNotJson(f"The {type(value).__name__} it returned cannot be carried as JSON: {error}") from error
    return cast(JsonValue, value)


def _adapter(field: str, hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except (PydanticUserError, TypeError) as error:
        raise _unfit(field, hint, error) from None


def _schema(field: str, adapter: TypeAdapter[Any], mode: typing.Literal["validation", "serialization"]) -> Any:
    try:
        return adapter.json_schema(mode=mode, ref_template=_REFERENCE)
    except PydanticUserError as error:
        raise _unfit(field, adapter, error) from None


def _unfit(field: str, hint: Any, error: Exception) -> BadInput:
    said = str(error).splitlines()[0]
    return BadInput(field, hint, f"JSON cannot carry this type; use built-in types, dataclasses or models. ({said})")


def _hints(function: Callable[..., Any], name: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    target: Any = inspect.unwrap(getattr(function, "func", function))
    if not inspect.isroutine(target):
        target = type(target).__call__  # a callable object's own annotations are those of its attributes
    try:
        return typing.get_type_hints(target, localns=dict(namespace), include_extras=True)
    except Exception as error:  # evaluating annotations runs code of the user's
        broken = _first_broken(target, namespace)
        said = f"The annotation cannot be evaluated: {error}. Define or import the type before the function."
        raise BadInput(f"{name}.{broken[0]}", broken[1], said) from None


def _first_broken(target: Any, namespace: Mapping[str, Any]) -> tuple[str, object]:
    annotations = cast(dict[str, Any], getattr(target, "__annotations__", {}))
    for key, annotation in annotations.items():
        if isinstance(annotation, str):
            try:
                eval(annotation, getattr(target, "__globals__", {}), dict(namespace))
            except Exception:  # the one that fails is the answer
                return key, annotation
    return "annotations", annotations


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        return {}


def caller_namespace(depth: int) -> dict[str, Any]:
    """Local names of the function that many calls up, so that types defined beside a nested function are found."""
    frame = sys._getframe(depth + 1)  # pyright: ignore[reportPrivateUsage]
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The description in a docstring and what it tells of each parameter; Google, NumPy, reST and Epydoc styles."""
    text = inspect.getdoc(function)
    if not text:
        return "", {}
    from docstring_parser import ParseError, parse

    try:
        parsed = parse(text)
    except ParseError:
        return text.strip(), {}
    told = {each.arg_name: each.description.strip() for each in parsed.params if each.description}
    parts = [parsed.short_description, parsed.long_description]
    return "\n\n".join(part.strip() for part in parts if part), told
