"""Schemas of topics over HTTP: what contents must look like, in every scope of the board."""

from __future__ import annotations

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response

from arbiter.http import answers, streams
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from arbiter.http.problems import Forbidden
from blackboard.entries import Entries
from blackboard.errors import UnknownRecord
from blackboard.topics import check_pattern
from blackboard.types import Record
from registry import schema


class TopicPattern(Record):
    pattern: str


class TopicSchema(TopicPattern):
    of: dict[str, JsonValue] = Field(alias="schema")


class TopicSchemas(Record):
    schemas: tuple[TopicSchema, ...]


@gives(Answer(TopicSchemas))
async def listing(asked: Asked) -> Response:
    """The schemas of the board, by pattern of topics."""
    found = await _entries(asked).schemas()
    return streams.answer({"schemas": [{"pattern": pattern, "schema": one} for pattern, one in found.items()]})


@takes(TopicSchema, Answer(answers.TopicSchemaState))
async def put(asked: Asked, said: TopicSchema) -> Response:
    """Set the schema of some topics from now on."""
    entries = _entries(asked, writes=True)
    await entries.set_schema(said.pattern, said.of, by=asked.by)
    return JSONResponse({"pattern": said.pattern, "status": "set"})


@takes(TopicPattern, Answer(answers.TopicSchemaState))
async def remove(asked: Asked, said: TopicPattern) -> Response:
    """Take the schema of some topics away."""
    entries = _entries(asked, writes=True)
    check_pattern(said.pattern)
    if said.pattern not in await entries.schemas():
        raise UnknownRecord("UNKNOWN", f"{said.pattern} has no schema on this board")
    await entries.set_schema(said.pattern, None, by=asked.by)
    return JSONResponse({"pattern": said.pattern, "status": "removed"})


def _entries(asked: Asked, *, writes: bool = False) -> Entries:
    if writes and asked.token.tenant is not None:
        raise Forbidden("A schema holds for every tenant of the board; a token that is confined to one sets none.")
    return Entries(asked.board, f"tenant:{asked.token.tenant or asked.client.tenant}", checker=schema)
