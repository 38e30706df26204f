"""Settings an operator writes in a file: JSON, or TOML in a file named ``*.toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from pydantic import ValidationError

from blackboard import strict_json
from blackboard.errors import BadInput
from blackboard.refusing import refused
from blackboard.types import Settings


class FileSettings(Settings):
    """Base of settings that a program is given as they are, as a mapping, or as their file."""

    called: ClassVar[str]
    """What a refusal calls them unless they are from the variable."""
    variable: ClassVar[str]
    """The environment variable that names the file of a process that was given none."""
    remedies: ClassVar[Mapping[str, str]] = {}
    """What to do about a setting, by its name, where something better can be said than what is wrong with it."""

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | str | Path | None) -> Self:
        """The settings in what a program was given: themselves, a mapping, or the path of a JSON or TOML file.

        Args:
            value: None takes the file that the environment variable names; without it, the defaults.

        Raises:
            BadInput: something in it is malformed, or its file cannot be read.
        """
        if isinstance(value, cls):
            return value
        field, names = cls.called, ", ".join(cls.model_fields)
        if not isinstance(cast(object, value), Mapping | str | Path | None):
            raise BadInput(field, value, f"Give a mapping with any of {names}, or the path of a file with one.")
        given = cast("Mapping[str, Any] | str | Path | None", value)
        if given is None and (named := os.environ.get(cls.variable)):
            given, field = named, cls.variable
        if given is None:
            given = {}
        elif not isinstance(given, Mapping):
            given = table(given, field, f"Write an object with any of {names}.")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
                raise BadInput(f"{field}.{first['loc'][0]}", first["input"], f"Use any of {names}.") from None
            raise refused(error, field, cls.remedies) from None


def table(path: Path | str, field: str, remedy: str) -> dict[str, Any]:
    """The settings in a file, by name.

    Args:
        field: what a refusal calls it.
        remedy: what to write there instead of something that is no table.

    Raises:
        BadInput: it cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content: object = tomllib.loads(text) if path.suffix == ".toml" else strict_json.loads(text)
    except OSError as error:
        raise BadInput(field, str(path), f"It cannot be read: {error.strerror}. Name an existing file.") from None
    except strict_json.NotStrict as error:
        raise BadInput(field, str(path), f"It is not strict JSON: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(field, str(path), f"It is not JSON, nor TOML in a file named *.toml: {error}.") from None
    if not isinstance(content, dict):
        raise BadInput(field, str(path), remedy)
    return cast("dict[str, Any]", content)
