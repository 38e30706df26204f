"""Whether answers of the HTTP API, and requests that it took, are as its description says."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import httpx
from jsonschema import Draft202012Validator

from arbiter.http.openapi import document

OTHERS = re.compile(r"/console|/mcp|/a2a")
"""What is not described: the page for people, and what answers in the protocols of others."""
Json = dict[str, Any]


def operation(method: str, path: str) -> tuple[str, Json] | None:
    """The path and the operation that a request is described by; of several paths the one with the most words of its own."""
    verb = "get" if method == "HEAD" else method.lower()
    for pattern, said, found in _paths():
        if pattern.fullmatch(path) and verb in found:
            return said, found[verb]
    return None


async def awaited(response: httpx.Response) -> None:
    """As :func:`check`, of an asynchronous client."""
    if response.headers.get("content-type", "").endswith("json"):
        await response.aread()
    check(response)


def check(response: httpx.Response) -> None:
    """Fail unless an answer, and the request if it was taken, are as described. What a stream says is not read."""
    request = response.request
    if OTHERS.match(request.url.path):
        return
    where = f"{request.method} {request.url.raw_path.decode()} -> {response.status_code}"
    found = operation(request.method, request.url.path)
    if found is None:
        assert response.status_code in (403, 404, 405), where
        said: Json = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    else:
        statuses = found[1]["responses"]
        assert str(response.status_code) in statuses, f"{where} is not described"
        said = _resolved(statuses[str(response.status_code)])
    media = response.headers["content-type"].partition(";")[0]
    described = {name.partition(";")[0]: one["schema"] for name, one in said["content"].items()}
    assert media in described, f"{where}: {media} is not described"
    for name, header in said.get("headers", {}).items():
        assert name in response.headers or not header["required"], f"{where}: no {name}"
    if media.endswith("json") and request.method != "HEAD":
        response.read()
        fits(described[media], response.json(), where)
    if found is not None and response.is_success:
        _taken(request, found[1], where)


def fits(schema: Json, value: Any, where: str) -> None:
    """Fail unless a value is as a schema of the description says, and says nothing beyond it."""
    problem = next(iter(_validator(json.dumps(schema)).iter_errors(value)), None)
    assert problem is None, f"{where}: {problem.json_path}: {problem.message[:2000]}"


def _taken(request: httpx.Request, said: Json, where: str) -> None:
    parameters = {(one["in"], one["name"]): one for one in said.get("parameters", ())}
    for (place, name), one in parameters.items():
        if place == "header":
            assert name in request.headers or not one["required"], f"{where}: it is said to require {name}"
    for name, text in request.url.params.multi_items():
        schema = parameters["query", name]["schema"]
        whole = schema["type"] in ("integer", "number", "boolean") or "anyOf" in schema
        fits(schema, [text] if schema["type"] == "array" else json.loads(text) if whole else text, f"{where}: {name}")
    if "requestBody" not in said:
        return
    content = request.content
    if not content:
        assert not said["requestBody"]["required"], f"{where}: it is said to require a body"
    elif not any(name.startswith("ce-") for name in request.headers):
        media = request.headers["content-type"].partition(";")[0]
        schema = said["requestBody"]["content"][media]["schema"]
        fits(schema, content.decode() if media == "text/plain" else json.loads(content), f"{where}: what it took")


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str, Json]]:
    listed = sorted(document()["paths"].items(), key=lambda one: (one[0].count("{"), -len(one[0])))
    slashes = {"entry", "letter"}

    def pattern(path: str) -> str:
        return re.sub(r"\\\{(\w+)\\\}", lambda name: ".+" if name[1] in slashes else "[^/]+", re.escape(path))

    return [(re.compile(pattern(path)), path, found) for path, found in listed]


def _resolved(said: Json) -> Json:
    return said if "$ref" not in said else document()["components"]["responses"][said["$ref"].rpartition("/")[2]]


@functools.cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": _closed()})


@functools.cache
def _closed() -> Json:
    """The components, with objects that have no field which is not described."""
    found = copy.deepcopy({"schemas": document()["components"]["schemas"]})
    for one in _objects(found):
        if isinstance(one.get("properties"), Mapping) and one.get("type") == "object":
            one.setdefault("additionalProperties", False)
    return found


def _objects(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        one = cast(Json, value)
        yield one
        for inner in one.values():
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            yield from _objects(inner)
