"""The API as an OpenAPI 3.1 document, made from its routes, the models they take and those they give.

Source: OpenAPI Specification 3.1.1, whose schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from arbiter.http import answers, metrics, operating, problems
from arbiter.http.application import CALLBACKS, METRICS, OPENAPI, PROBES, ROUTES, TOKEN
from arbiter.http.described import EVENTS, JSON, Answer, Handler, Option
from blackboard import events

Schema = dict[str, Any]
ABOUT = """\
Plans requests, carries them out, answers. Unknown options of a query and unknown fields of a body are refused; a later version \
may answer with more fields than are described. `POST /v1/runs` takes a CloudEvents 1.0 event in binary mode as well: its \
attributes are `ce-` headers, and the body, of any media type, is its data."""
STREAM = """\
Server-Sent Events: `id` is the event's `sequence`, `event` its `type`, `data` an `Event` as JSON; of `problem` a `Problem`."""
_REF = "#/components/schemas/{model}"
_ATTEMPT, _TOKEN = "attempt", "token"
_BODY = (400, 408, 413, 415)
_EVERY = (401, 404, 422, 429, 500, 503)
_WRITES = (409, 410, 507)
_SENT = {
    "webhook-id": "The event's `id`, the same each time it is sent.",
    "webhook-timestamp": "When it was sent, in seconds since the epoch.",
    "webhook-signature": "`v1,` and base64 of the HMAC-SHA256 of id, timestamp and body, with dots between them.",
}


class Described(NamedTuple):
    """A route: method, path, the scheme of its token and the scope it takes, and what answers."""

    verb: str
    path: str
    scheme: str | None
    scope: str | None
    handler: Handler[Any]


class Given(NamedTuple):
    """What a schema is asked for: a type, and whether it comes in or goes out."""

    kind: Any
    mode: JsonSchemaMode


def routes() -> Iterator[Described]:
    """Every route that is described: all but the console, and what answers in the protocols of others."""
    for verb, path, scope, handler in ROUTES:
        yield Described(verb, path.replace(":path", ""), _TOKEN, scope, handler)
    yield Described("GET", TOKEN, _TOKEN, None, operating.token)
    for verb, path, handler in CALLBACKS:
        yield Described(verb, path, _ATTEMPT, None, handler)
    told = _plain("metrics", "Metrics of the process and the board.", Answer(str, media=metrics.MEDIA_TYPE))
    yield Described("GET", METRICS, _TOKEN, "metrics:read", told)
    for path in PROBES:
        word = _plain(
            path.strip("/"),
            "How this process is, in a word.",
            Answer(answers.ProcessStatus),
            Answer(answers.ProcessStatus, 503),
        )
        yield Described("GET", path, None, None, word)
    yield Described("GET", OPENAPI, None, None, _plain("openapi", "This document.", Answer(dict[str, Any])))


def _plain(name: str, says: str, *given: Answer) -> Handler[Any]:
    return Handler(cast(Any, None), name, says, given, (), (), {})


@functools.cache
def document() -> Schema:
    """The description of the API. Not to be changed."""
    all_routes = [*routes()]
    schemas, components = _schemas(all_routes)
    paths: dict[str, Schema] = {}
    for route in all_routes:
        paths.setdefault(route.path, {})[route.verb.lower()] = _operation(route, schemas)
    problem = {"description": "Problem details.", "content": {problems.MEDIA_TYPE: {"schema": schemas[_PROBLEM]}}}
    return {
        "openapi": "3.1.1",
        "info": {"title": "Arbiter", "version": version("arbiter"), "description": ABOUT},
        "paths": paths,
        "webhooks": {"event": {"post": _sent(schemas)}},
        "components": {
            "schemas": components,
            "responses": {"problem": problem},
            "securitySchemes": {
                _TOKEN: {"type": "http", "scheme": "bearer", "description": "`arb_…`: `arbiter tokens create`"},
                _ATTEMPT: {"type": "http", "scheme": "bearer", "description": "`arbcb.…`, of one attempt"},
            },
        },
    }


# ---- operations --------------------------------------------------------------------------------------------------------


def _operation(route: Described, schemas: Mapping[Given, Schema]) -> Schema:
    handler = route.handler
    made: Schema = {"operationId": handler.name, "summary": handler.says, "tags": [_tag(route.path)]}
    if route.scheme is not None:
        made["security"] = [{route.scheme: [] if route.scope is None else [route.scope]}]
    parameters = [_parameter(Option(name), "path") for name in re.findall(r"\{(\w+)\}", route.path)]
    parameters += [_parameter(option, "query") for option in handler.options]
    parameters += [_parameter(option, "header") for option in handler.headers]
    if parameters:
        made["parameters"] = parameters
    if handler.forms:
        content = {media: {"schema": schemas[Given(kind, "validation")]} for media, kind in handler.forms.items()}
        made["requestBody"] = {"required": not handler.may_be_empty, "content": content}
    made["responses"] = _answers(route, schemas)
    return made


def _tag(path: str) -> str:
    first, _, rest = path.strip("/").partition("/")
    return rest.partition("/")[0] if first == "v1" else first


def _parameter(option: Option, place: str) -> Schema:
    required = place == "path" or option.required
    made: Schema = {"name": option.name, "in": place, "required": required, "schema": option.schema}
    return made | {"description": option.says} if option.says else made


def _answers(route: Described, schemas: Mapping[Given, Schema]) -> Schema:
    said: dict[str, Schema] = {}
    for answer in route.handler.answers:
        schema = {"type": "string"} if answer.media != JSON else schemas[Given(answer.kind, "serialization")]
        one = said.setdefault(str(answer.status), {"description": HTTPStatus(answer.status).phrase, "content": {}})
        if answer.media == EVENTS:
            one["description"] = STREAM
        one["content"][answer.media] = {"schema": schema}
        for name in answer.headers:
            one.setdefault("headers", {})[name] = {"required": True, "schema": {"type": "string"}}
    for status in _refusals(route):
        said.setdefault(str(status), {"$ref": "#/components/responses/problem"})
    return said


def _refusals(route: Described) -> Iterable[int]:
    """Statuses of the problems a route may answer with."""
    yield 403  # another Host or Origin
    if route.scheme is not None:
        yield from _EVERY
    if route.handler.forms:
        yield from _BODY
    if route.verb == "POST" or "{" in route.path:
        yield from _WRITES


def _sent(schemas: Mapping[Given, Schema]) -> Schema:
    parameters = [_parameter(Option(name, says, required=True), "header") for name, says in _SENT.items()]
    return {
        "operationId": "sent",
        "summary": "What a webhook is sent: each event, signed as Standard Webhooks says.",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/cloudevents+json": {"schema": schemas[_EVENT]}},
        },
        "responses": {
            "2XX": {"description": "Taken."},
            "410": {"description": "Nothing more is sent, until the webhook is set again."},
            "default": {"description": "It is sent again later, but for 400, 413, 415 and 422; `Retry-After` counts."},
        },
    }


# ---- schemas -----------------------------------------------------------------------------------------------------------


class _Fields(GenerateJsonSchema):
    """Tells a model that leaves out what says nothing by its fields."""

    def ser_schema(self, schema: Any) -> JsonSchemaValue | None:
        return None if schema["type"] == "function-wrap" else super().ser_schema(schema)


_PROBLEM = Given(answers.Problem, "serialization")
_EVENT = Given(events.Event, "serialization")


def _schemas(all_routes: Iterable[Described]) -> tuple[dict[Given, Schema], dict[str, Schema]]:
    """A schema for each type that is taken or given, and those it refers to."""
    wanted = dict.fromkeys([_PROBLEM, _EVENT])
    for route in all_routes:
        wanted |= dict.fromkeys(Given(kind, "validation") for kind in route.handler.forms.values())
        wanted |= dict.fromkeys(Given(one.kind, "serialization") for one in route.handler.answers)
    kinds = {kind: Given(kind, "serialization") for kind in events.TYPES.values()}
    asked = [*wanted, *kinds.values()]
    adapters: list[tuple[Given, JsonSchemaMode, TypeAdapter[Any]]] = [
        (one, one.mode, TypeAdapter(one.kind)) for one in asked
    ]
    found, rest = TypeAdapter.json_schemas(adapters, ref_template=_REF, schema_generator=_Fields)
    schemas = {one: schema for (one, _), schema in found.items()}
    components: dict[str, Schema] = rest["$defs"]
    _distinguish(components, {kind: schemas[one]["$ref"] for kind, one in kinds.items()})
    taken = _reached([schemas[one] for one in asked if one.mode == "validation"], components)
    for name, schema in components.items():
        if name not in taken and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]  # a later version may say more
    return schemas, components


def _distinguish(components: dict[str, Schema], refs: Mapping[type[events.Event], str]) -> None:
    """Let an event be one of those there are, told apart by its type."""
    mapping: dict[str, str] = {}
    for kind, ref in refs.items():
        name = f"{events.PREFIX}{kind.kind}{events.SUFFIX}"
        components[ref.rpartition("/")[2]]["properties"]["type"] = {"type": "string", "const": name}
        mapping[name] = ref
    components["Event"] = {
        "oneOf": [{"$ref": ref} for ref in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }


def _reached(schemas: Iterable[Any], components: Mapping[str, Schema]) -> set[str]:
    """Names of the components that schemas refer to, directly or not."""
    found: set[str] = set()
    left: list[Any] = [*schemas]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            parts = cast(Mapping[str, Any], one)
            name = parts["$ref"].rpartition("/")[2] if isinstance(parts.get("$ref"), str) else None
            if name is not None and name not in found:
                found.add(name)
                left.append(components[name])
            left += parts.values()
        elif isinstance(one, list):
            left += cast(list[Any], one)
    return found
