"""What a capability is, as data: its manifest, and the record of the exam its code passed.

A manifest is checked when it is made, completely: a schema that is no JSON Schema, an example that its own schema
refuses, a name the model could not call. Everything after that may rely on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from blackboard import strict_json
from blackboard.approval import Approval
from blackboard.errors import BadInput
from blackboard.refusing import refused
from blackboard.triggers import MOST as MOST_TRIGGERS
from blackboard.triggers import Declared, Trigger
from blackboard.types import MOST_MONEY, MOST_TOKENS, JsonObject, Record, RetryPolicy, Settings, type_name
from registry.content import canonical, sha256, text_hash
from registry.grants import Grants, was_checked
from registry.schema import MAX_DEPTH, check_schema, problems, too_deep

RESERVED_NAMES = frozenset(
    {
        "search_capabilities",
        "request_capability",
        "ask_person",
        "post_plan",
        "open_request",
        "recall",
        "remember",
        "wait_for_tasks",
        "stop_tasks",
        "fabricator",
        "arbiter",
        "wrapper",
    }
)
"""Names the arbiter offers as tools of its own or uses for its rooms."""

RESERVED_LANES = frozenset({"arbiter", "fabricator"})
"""Lanes of the arbiter's decisions and of fabrications; no capability may put work there."""

LOCAL = "local."
"""How the lanes of capabilities that live in the embedding program begin."""

EVERY_TENANT = "*"

MODEL_CALLS = 1_000

_NAME = r"^[a-z][a-z0-9_]{0,63}$"
_REMEDIES = {
    "name": "Use 1 to 64 characters: a lower-case letter first, then lower-case letters, digits and underscores.",
    "description": "Say in 1 to 4000 characters what it does and when to use it; the planner chooses by it.",
    "action": "Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.",
    "effects": "Use one of pure, reads, writes, irreversible.",
    "kind": "Use one of artifact, function, agent.",
    "tenant": "Use '*' for every tenant or 1 to 64 lower-case letters, digits, dots, dashes or underscores.",
}


class CapabilityLimits(Settings):
    """Finite bounds of one attempt. A run's own limits hold as well; the smaller one counts."""

    attempt_seconds: float = Field(default=60.0, gt=0, le=86_400)
    memory_mb: int = Field(default=1024, ge=16, le=1_048_576)
    """Of generated code; a function of the program has the memory of its process."""
    output_bytes: int = Field(default=8 << 20, ge=2, le=1 << 30)
    tokens: int = Field(default=200_000, ge=0, le=MOST_TOKENS)
    """Model tokens one attempt may use, in and out together."""
    model_calls: int = Field(default=MODEL_CALLS, ge=0, le=1_000_000)
    """Requests to a model one attempt may make."""
    money: int | None = Field(default=None, ge=0, le=MOST_MONEY)
    """What those may cost, in millionths of the currency of the price table; None for no bound."""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the later fields where they say nothing new, as for :class:`Grants`."""
        fields = cast("dict[str, Any]", dump(self))
        if self.model_calls == MODEL_CALLS:
            fields.pop("model_calls", None)
        if self.money is None:
            fields.pop("money", None)
        return fields


class Example(Record):
    """One call that shows what the capability is for."""

    input: dict[str, JsonValue]
    output: JsonValue = None
    """What it returns, where that is worth showing."""
    description: str = ""
    """The need it serves, in a user's words; matching reads it."""


class ExamRecord(Record):
    """How a version did in its exam. The sealed cases themselves are not part of it, only how many there were."""

    public_cases: int = Field(ge=0)
    sealed_cases: int = Field(ge=0)
    passed: bool
    mistakes_planted: int = Field(default=0, ge=0)
    """Mistakes planted in it, one at a time, to see whether the exam notices them."""
    mistakes_noticed: int = Field(default=0, ge=0)
    properties: int = Field(default=0, ge=0)
    """Properties that held on inputs that no case has."""
    property_inputs: int = Field(default=0, ge=0)
    """How many such inputs it had a result for."""
    property_refused: int = Field(default=0, ge=0)
    """How many it refused with a ``ValueError``: they say nothing for it or against it."""
    failures: tuple[str, ...] = ()
    """What went wrong, one line each."""
    examiner: str = ""
    """The model that wrote the cases."""
    when: float = Field(ge=0)
    """Seconds since the epoch."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.passed and self.failures:
            raise BadInput("passed", True, "An exam with failures is not passed.")
        if self.passed and self.public_cases + self.sealed_cases == 0:
            raise BadInput("passed", True, "An exam without a case proves nothing; give at least one.")
        return self


def _no_reserved_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise BadInput("name", name, "This name belongs to the arbiter; choose another one.")
    return name


def _no_reserved_lane(lane: str) -> str:
    if lane in RESERVED_LANES:
        raise BadInput("action", lane, "This lane carries the arbiter's own work; use 'generic' or a lane of yours.")
    return lane


class Manifest(Record):
    """What a capability does, takes, returns, needs and is allowed.

    Raises:
        BadInput: on construction, naming the field, the value and the remedy. (``model_validate`` raises pydantic's
            ``ValidationError`` with the same words; use :meth:`of` for data from outside.)
    """

    # NaN stays what it is, for canonical JSON to refuse it; a serializer of one's own would make it null.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    name: Annotated[str, Field(pattern=_NAME), AfterValidator(_no_reserved_name)]
    """Also the name of the tool the model calls."""
    description: str = Field(min_length=1, max_length=4000)
    input_schema: dict[str, JsonValue]
    """JSON Schema (2020-12) of the input, ``{"type": "object", …}``."""
    output_schema: dict[str, JsonValue] | None = None
    """JSON Schema of the result; None leaves it unchecked."""
    examples: tuple[Example, ...] = ()
    effects: Literal["pure", "reads", "writes", "irreversible"] = "pure"
    grants: Grants = Grants()
    action: Annotated[str, Field(pattern=type_name), AfterValidator(_no_reserved_lane)] = "generic"
    """The lane its tasks wait in."""
    kind: Literal["artifact", "function", "agent"] = "artifact"
    """``artifact``: code stored in the registry. ``function``, ``agent``: lives in the embedding program."""
    limits: CapabilityLimits = CapabilityLimits()
    retry: RetryPolicy = RetryPolicy()
    triggers: tuple[Trigger, ...] = Field(default=(), max_length=MOST_TRIGGERS)
    """What it waits for on the board of a run: an entry that fits one of them makes an activation of it."""
    approval: Annotated[Approval | None, BeforeValidator(Approval.of)] = None
    """A person is asked before each task of it is done, and how; see ``docs/approvals.md``. True leaves that to the operator."""
    tenant: str = Field(default=EVERY_TENANT, pattern=rf"^\*$|{type_name}")
    """Who sees it; ``*`` is everybody."""
    provenance: dict[str, JsonValue] = Field(default_factory=dict)
    """Where it came from. Not part of the content hash: the same content from elsewhere is the same version."""

    if not TYPE_CHECKING:

        def __init__(self, **data: Any) -> None:
            if too_deep(data):
                raise BadInput("manifest", data.get("name"), f"Nest its values at most {MAX_DEPTH} levels deep.")
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise refused(error, "manifest", _REMEDIES) from None

    @model_validator(mode="before")
    @classmethod
    def _once_if_irreversible(cls, data: Any) -> Any:
        """What cannot be undone is tried once, unless the manifest says otherwise: a lost worker may have done it."""
        if isinstance(data, dict):
            given = cast("dict[str, Any]", data)
            if given.get("effects") == "irreversible" and "retry" not in given:
                return {**given, "retry": RetryPolicy(max_attempts=1)}
        return cast(Any, data)

    def declared(self, version: str) -> list[Declared]:
        """Its triggers as the board keeps them.

        Args:
            version: content hash of the version they are of.
        """
        return [
            Declared.of(self.name, version, number, self.action, self.tenant, one)
            for number, one in enumerate(self.triggers)
        ]

    @classmethod
    def of(cls, data: object) -> Manifest:
        """The manifest in data from outside: a mapping, or the JSON text of one.

        Raises:
            BadInput: it is not a valid manifest.
        """
        if isinstance(data, str):
            try:
                data = strict_json.loads(data)
            except ValueError as error:
                raise BadInput("manifest", data, f"It is not strict JSON: {error}. Give a JSON object.") from None
        if not isinstance(data, Mapping):
            raise BadInput("manifest", data, "Give an object with name, description and input_schema.")
        return cls(**cast(dict[str, Any], {str(key): value for key, value in cast(JsonObject, data).items()}))

    @classmethod
    def stored(cls, text: str) -> Manifest:
        """The manifest in a text whose hash was verified: what was checked when it was registered is not again."""
        blank = cls.__new__(cls)
        cls.__pydantic_validator__.validate_python(json.loads(text), self_instance=blank, context={"checked": True})
        return blank

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> Self:
        if was_checked(info):
            return self
        self.content_hash()
        if self.grants.secrets and not self.grants.http_hosts:
            raise BadInput(
                "grants.secrets", [*self.grants.secrets], "A secret goes into requests only: grant http_hosts as well."
            )
        check_schema("input_schema", self.input_schema, top="object")
        if self.output_schema is not None:
            check_schema("output_schema", self.output_schema)
        for number, example in enumerate(self.examples):
            for said in problems(self.input_text, example.input):
                raise BadInput(f"examples[{number}].input", said, "Make the example fit input_schema.")
            if self.output_text is not None and example.output is not None:
                for said in problems(self.output_text, example.output):
                    raise BadInput(f"examples[{number}].output", said, "Make the example fit output_schema.")
        local = self.action.startswith(LOCAL)
        if self.kind == "artifact" and local:
            raise BadInput("action", self.action, "Lanes of the embedding program carry only its own functions.")
        if self.kind != "artifact" and not local:
            raise BadInput("action", self.action, f"A {self.kind} lives in a program; use the lane 'local.<name>'.")
        return self

    @cached_property
    def input_text(self) -> str:
        """Canonical text of ``input_schema``; identifies its compiled validator."""
        return canonical(self.input_schema)

    @cached_property
    def output_text(self) -> str | None:
        """Canonical text of ``output_schema``."""
        return None if self.output_schema is None else canonical(self.output_schema)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced, checked like a new manifest."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, **(update or {})})

    def text(self) -> str:
        """The JSON text that is stored. Without the later fields where they say nothing new, as for :class:`Grants`."""
        new = {"triggers": self.triggers, "approval": self.approval is not None}
        return canonical(self.model_dump(mode="json", exclude={name for name, says in new.items() if not says}))

    def content_hash(self, source: str | None = None) -> str:
        """Identity of a version: SHA-256 over the canonical JSON of this manifest and the hash of its source.

        Args:
            source: the code of an artifact.

        Raises:
            BadInput: something in it is not JSON or not UTF-8.
        """
        return text_hash(self.text(), None if source is None else sha256(source))

    def tool_spec(self) -> dict[str, Any]:
        """The Bedrock ``ToolSpec`` of this capability: ``{"name", "description", "inputSchema": {"json": …}}``."""
        return {"name": self.name, "description": self.description, "inputSchema": {"json": self.input_schema}}
