"""Settings an operator writes in a file: JSON, or TOML in a file named ``*.toml``."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from blackboard.errors import BadInput


def given(
    value: Mapping[str, Any] | str | Path | None, field: str, variable: str, remedy: str
) -> tuple[Mapping[str, Any], str]:
    """The settings a program was given, and what a refusal calls them.

    Args:
        value: the settings, or their file. None takes the file that an environment variable names; without it there are none.
        field: what a refusal calls them unless they are from there.
        variable: name of the environment variable.
        remedy: what to write in a file that holds no table.

    Raises:
        BadInput: a file cannot be read, or holds something else.
    """
    if value is None:
        named = os.environ.get(variable)
        if not named:
            return {}, field
        value, field = named, variable
    return (value if isinstance(value, Mapping) else table(value, field, remedy)), field


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
        content: object = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise BadInput(field, str(path), f"It cannot be read: {error.strerror}. Name an existing file.") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(field, str(path), f"It is not JSON, nor TOML in a file named *.toml: {error}.") from None
    if not isinstance(content, dict):
        raise BadInput(field, str(path), remedy)
    return cast("dict[str, Any]", content)
