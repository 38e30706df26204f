"""What a route takes and gives, said where it is answered: checked on the way in, and what :mod:`arbiter.http.openapi` tells.

A handler that takes a body is given it, and gets no request whose query or body it did not name.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from arbiter.http import bodies
from blackboard.errors import BadInput
from blackboard.types import Limits

JSON, EVENTS = "application/json", "text/event-stream"


class _Came(Protocol):
    @property
    def request(self) -> Request: ...


A = TypeVar("A", bound=_Came)
B = TypeVar("B", bound=BaseModel)
Answering = Callable[[A], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Option:
    """Text in the query, or in a header.

    Args:
        many: may be repeated.
        required: has to be there.
    """

    name: str
    says: str = ""
    many: bool = False
    required: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "array", "items": {"type": "string"}} if self.many else {"type": "string"}

    def text(self, request: Request) -> str | None:
        """What the query says; None without it."""
        return request.query_params.get(self.name)


@dataclass(frozen=True, slots=True)
class Number(Option):
    """A whole number from 1 to ``most``."""

    default: int = 0
    most: int = 0

    @property
    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": self.most}
        return found | {"default": self.default} if self.default else found

    def of(self, request: Request) -> int:
        """What the query says.

        Raises:
            BadInput: no such number.
        """
        text = self.text(request)
        if text is None:
            return self.default
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= self.most:
            raise BadInput(self.name, text, f"Give a whole number from 1 to {self.most:,}.")
        return int(text)


@dataclass(frozen=True, slots=True)
class Choice(Option):
    """One of a few words; the first counts where none is given."""

    words: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.words], "default": self.words[0]}

    def of(self, request: Request) -> str:
        """What the query says.

        Raises:
            BadInput: another word.
        """
        text = self.text(request)
        if text is not None and text not in self.words:
            raise BadInput(self.name, text, f"Write {' or '.join(self.words)}.")
        return text or self.words[0]


@dataclass(frozen=True, slots=True)
class Flag(Option):
    """``true`` or ``false``, which it is without a word."""

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", "default": False}

    def of(self, request: Request) -> bool:
        """What the query says.

        Raises:
            BadInput: neither.
        """
        text = self.text(request)
        if text not in (None, "true", "false"):
            raise BadInput(self.name, text, "Write true or false.")
        return text == "true"


@dataclass(frozen=True, slots=True)
class Limit(Option):
    """A bound of the run that is started."""

    @property
    def schema(self) -> dict[str, Any]:
        found = Limits.model_json_schema()["properties"][self.name]
        found = found.get("anyOf", [found])[0]  # without the null that stands for no bound
        return {word: value for word, value in found.items() if word not in ("title", "default")}


LIMITS = tuple(Limit(name) for name in Limits.model_fields)
"""Options of whatever starts a run; without one the daemon's own counts."""
KEY = Option("Idempotency-Key", f"The same once more is done once. 1 to {bodies.KEY_CHARACTERS} characters.")
TRACE = Option("traceparent", "Leads from the caller's trace to that of the run.")
LAST = Option("Last-Event-ID", "The id of the last event that was received: the stream goes on behind it.")


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which a route answers.

    Args:
        kind: of the JSON; ``str`` for what is not JSON.
        headers: it always has.
    """

    kind: Any
    status: int = 200
    media: str = JSON
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handler(Generic[A]):
    """What answers a route.

    Args:
        name: unlike any other.
        says: what it does, in a line.
        options: of the query; any other is refused.
        headers: those that mean something.
        forms: bodies by media type, each of a type that pydantic knows; none: whatever comes is not looked at.
        may_be_empty: without a body the defaults count.
    """

    answering: Answering[A]
    name: str
    says: str
    answers: tuple[Answer, ...]
    options: tuple[Option, ...]
    headers: tuple[Option, ...]
    forms: Mapping[str, Any]
    may_be_empty: bool = False

    async def __call__(self, asked: A) -> Response:
        """Answer.

        Raises:
            BadInput: the query has an option that is not known.
        """
        known = [option.name for option in self.options]
        for name in asked.request.query_params:
            if name not in known:
                raise BadInput("query", name, f"Known here: {', '.join(known) or 'none'}.")
        for option in self.options:
            if not option.many and len(asked.request.query_params.getlist(option.name)) > 1:
                raise BadInput(option.name, asked.request.query_params.getlist(option.name), "Give it once.")
        return await self.answering(asked)


def gives(
    *answers: Answer,
    options: tuple[Option, ...] = (),
    headers: tuple[Option, ...] = (),
    forms: Mapping[str, Any] | None = None,
) -> Callable[[Answering[A]], Handler[A]]:
    """A handler that looks at the query alone, or reads one of several forms of a body itself."""

    def made(answering: Answering[A]) -> Handler[A]:
        return Handler(answering, *_words(answering), answers, options, headers, forms or {})

    return made


def takes(
    body: type[B], *answers: Answer, options: tuple[Option, ...] = (), headers: tuple[Option, ...] = ()
) -> Callable[[Callable[[A, B], Awaitable[Response]]], Handler[A]]:
    """A handler that is given a JSON object of a model."""

    def made(answering: Callable[[A, B], Awaitable[Response]]) -> Handler[A]:
        async def answered(asked: A) -> Response:
            return await answering(asked, await bodies.model(asked.request, body))

        empty = not any(field.is_required() for field in body.model_fields.values())
        return Handler(answered, *_words(answering), answers, options, headers, {JSON: body}, empty)

    return made


def _words(answering: Callable[..., Any]) -> tuple[str, str]:
    module = answering.__module__.rpartition(".")[2]
    return f"{module}_{answering.__name__}", (inspect.getdoc(answering) or "").partition("\n\n")[0].replace("\n", " ")
