"""What a run asks of the fabricator, checked at the edge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from blackboard.taint import UNKNOWN, Taint
from blackboard.types import Record
from registry.manifest import RESERVED_NAMES

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NEED_CHARACTERS = 20_000
_CONTEXT_CHARACTERS = 8_000


class Need(Record):
    """One request for a capability. Its texts come from a user or a model: data to be served, never instructions."""

    name: str
    need: str
    input_hint: JsonValue = None
    request: JsonValue = None
    """What the run was asked, for context."""
    taint: Taint = UNKNOWN
    """Where all of it comes from."""
    replaces: str = ""
    """Content hash of the active version that fails and is to be replaced; empty when there is none."""
    failures: JsonValue = None
    """How that one failed: what its inputs were made of, and the errors."""

    @classmethod
    def of(cls, given: JsonValue, taint: Taint = UNKNOWN) -> Need:
        """The need in a task's input, which comes from ``taint``.

        Raises:
            BadInput: no legal name, no words saying what is needed, or far too many of them.
        """
        if not isinstance(given, Mapping):
            raise BadInput("input", given, "Give an object with name and need.")
        fields = cast("Mapping[str, JsonValue]", given)
        name, need = fields.get("name"), fields.get("need")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput(
                "input.name", name, "Use 1 to 64 lower-case letters, digits and underscores, a letter first."
            )
        if name in RESERVED_NAMES:
            raise BadInput("input.name", name, "This name belongs to the arbiter; choose another one.")
        if not isinstance(need, str) or not need.strip():
            raise BadInput("input.need", need, "Say in words what the capability must do.")
        if len(need) > _NEED_CHARACTERS:
            raise BadInput("input.need", need, f"Say it in at most {_NEED_CHARACTERS} characters.")
        replaces = fields.get("replaces", "")
        if not isinstance(replaces, str):
            raise BadInput("input.replaces", replaces, "Give the content hash of the version to replace, or nothing.")
        return cls(
            name=name, need=need, input_hint=fields.get("input_hint"), request=fields.get("request"), taint=taint,
            replaces=replaces, failures=fields.get("failures"),
        )  # fmt: skip

    def as_data(self) -> dict[str, JsonValue]:
        """The need for a prompt; context that would crowd out the need itself is shortened to its beginning."""
        data: dict[str, JsonValue] = {"name": self.name, "need": self.need}
        for field, value in (("input_hint", self.input_hint), ("request", self.request)):
            if value is not None:
                text = json.dumps(value, ensure_ascii=False)
                data[field] = value if len(text) <= _CONTEXT_CHARACTERS else text[:_CONTEXT_CHARACTERS] + " …"
        return data
