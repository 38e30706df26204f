"""OpenAPI descriptions turned into JSON Schema.

The reference pattern stores an "OpenAPI specification" with each tool; a model is offered a JSON Schema. Accepted are a
whole document (OpenAPI 3.x or Swagger 2.0) with one operation, a single operation, a bare schema object in the dialect
of OpenAPI 3.0, a Bedrock ``inputSchema``, and plain JSON Schema, which passes unchanged.

Source: OpenAPI Specification 3.0.3 ("Schema Object", where it departs from JSON Schema) and 3.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from blackboard.errors import BadInput

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_SHARED = ("#/components/schemas/", "#/definitions/")
_DROPPED = ("discriminator", "xml", "externalDocs", "nullable", "example")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")

Object = dict[str, Any]


class Described(NamedTuple):
    """What a document tells of one operation."""

    input_schema: dict[str, JsonValue]
    output_schema: dict[str, JsonValue] | None
    description: str


def describe(document: Mapping[str, JsonValue], operation_id: str | None = None) -> Described:
    """The input and output schema of one operation.

    Args:
        document: any of the forms the module names.
        operation_id: which operation of a document that has several.

    Raises:
        BadInput: no operation, several without a choice, or a reference that leads nowhere.
    """
    root = cast(Object, dict(document))
    if "paths" in root and ("openapi" in root or "swagger" in root):
        operation, shared = _pick(root, operation_id)
        return _operation(operation, root, shared)
    if "requestBody" in root or ("parameters" in root and "responses" in root):
        return _operation(root, root, [])
    if set(root) == {"json"} and isinstance(root["json"], dict):
        return describe(cast(Object, root["json"]), operation_id)
    schema = _closed(_convert(root), root)
    if "type" not in schema and ("properties" in schema or not schema):
        schema = {"type": "object", **schema}
    return Described(schema, None, "")


def _pick(root: Object, operation_id: str | None) -> tuple[Object, list[Any]]:
    found: list[tuple[str, Object, list[Any]]] = []
    for path, item in _object(root.get("paths")).items():
        entry = _follow(item, root)
        for method in _METHODS:
            if isinstance(entry.get(method), dict):
                operation = cast(Object, entry[method])
                label = str(operation.get("operationId", f"{method.upper()} {path}"))
                found.append((label, operation, _list(entry.get("parameters"))))
    labels = [label for label, _, _ in found]
    if operation_id is not None:
        found = [each for each in found if each[0] == operation_id]
    if len(found) != 1:
        raise BadInput("schema.paths", labels, "Give a document with one operation, or name one by its operationId.")
    return found[0][1], found[0][2]


def _operation(operation: Object, root: Object, shared: list[Any]) -> Described:
    properties: Object = {}
    required: list[str] = []
    body: Object | None = None
    merged: dict[tuple[str, str], Object] = {}
    for raw in [*shared, *_list(operation.get("parameters"))]:
        parameter = _follow(raw, root)
        merged[str(parameter.get("in")), str(parameter.get("name"))] = parameter
    for (place, name), parameter in merged.items():
        if place == "body":
            body = _object(parameter.get("schema"))
            continue
        if place not in ("query", "path", "formData"):
            continue  # headers and cookies are the transport's business
        schema = _convert(_object(parameter.get("schema")) or _swagger_type(parameter))
        if "description" in parameter:
            schema.setdefault("description", parameter["description"])
        properties[name] = schema
        if parameter.get("required"):
            required.append(name)
    content = _follow(operation.get("requestBody", {}), root)
    if content:
        body = _json_content(content)
    if body:
        top = _convert(_follow(body, root))
        if top.get("type", "object") != "object" or not isinstance(top.get("properties", {}), dict):
            top = {"properties": {"body": _convert(body)}, "required": ["body"]}
        if not properties:
            schema = {"type": "object", **top}
        else:
            schema = {"type": "object", **top, "properties": {**properties, **_object(top.get("properties"))}}
            schema["required"] = list(dict.fromkeys([*required, *_list(top.get("required"))]))
    else:
        schema = {"type": "object", "properties": properties, "required": required}
    if not schema.get("required"):
        schema.pop("required", None)
    text = operation.get("description") or operation.get("summary") or ""
    return Described(_closed(schema, root), _answer(operation, root), str(text))


def _answer(operation: Object, root: Object) -> dict[str, JsonValue] | None:
    for status, raw in sorted(_object(operation.get("responses")).items()):
        if str(status).startswith("2"):
            response = _follow(raw, root)
            schema = _json_content(response) or _object(response.get("schema"))
            if schema:
                return _closed(_convert(schema), root)
    return None


def _json_content(holder: Object) -> Object | None:
    for media, each in _object(holder.get("content")).items():
        if "json" in media:
            return _object(_object(each).get("schema"))
    return None


def _swagger_type(parameter: Object) -> Object:
    """Swagger 2.0 writes a parameter's schema into the parameter."""
    left_out = ("name", "in", "required", "collectionFormat", "allowEmptyValue")
    return {key: value for key, value in parameter.items() if key not in left_out}


def _convert(node: object) -> Any:
    """A schema object of OpenAPI 3.0 as JSON Schema 2020-12."""
    if not isinstance(node, dict):
        return node
    given = cast(Object, node)
    schema = {key: value for key, value in given.items() if key not in _DROPPED and not key.startswith("x-")}
    if isinstance(given.get("$ref"), str):
        schema["$ref"] = _renamed(given["$ref"])
    if "example" in given and "examples" not in given:
        schema["examples"] = [given["example"]]
    for key in _MAPS:
        if isinstance(schema.get(key), dict):
            schema[key] = {name: _convert(each) for name, each in schema[key].items()}
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            schema[key] = [_convert(each) for each in schema[key]]
    for key in _SINGLE:
        if key in schema:
            schema[key] = _convert(schema[key])
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and limit in schema:
            schema[exclusive] = schema.pop(limit)
    if given.get("nullable") is True:
        if isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
            if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
                schema["enum"] = [*schema["enum"], None]
        elif schema:
            schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


def _closed(schema: Object, root: Object) -> dict[str, JsonValue]:
    """The schema with every definition it refers to, directly or not, in its own ``$defs``."""
    definitions = _object(schema.get("$defs"))
    waiting = _references(schema)
    while waiting:
        name = waiting.pop()
        if name in definitions:
            continue
        found = _object(_object(root.get("components")).get("schemas")).get(name)
        found = found if found is not None else _object(root.get("definitions")).get(name)
        if found is None:
            raise BadInput("schema.$ref", name, "It refers to a definition that is not in the document.")
        definitions[name] = _convert(found)
        waiting |= _references(definitions[name])
    return {**schema, "$defs": definitions} if definitions else schema


def _references(node: object) -> set[str]:
    found: set[str] = set()
    if isinstance(node, dict):
        for key, value in cast(Object, node).items():
            if key == "$ref" and isinstance(value, str) and value.startswith("#/$defs/"):
                found.add(value.removeprefix("#/$defs/"))
            else:
                found |= _references(value)
    elif isinstance(node, list):
        for value in cast(list[object], node):
            found |= _references(value)
    return found


def _renamed(reference: str) -> str:
    for place in _SHARED:
        if reference.startswith(place):
            return "#/$defs/" + reference.removeprefix(place)
    return reference


def _follow(node: object, root: Object) -> Object:
    """The object a node is, or refers to inside the document; refuses a chain without an end."""
    at = _object(node)
    for _ in range(32):
        reference = at.get("$ref")
        if not isinstance(reference, str):
            return at
        target: object = root
        for part in reference.removeprefix("#/").split("/"):
            target = _object(target).get(part.replace("~1", "/").replace("~0", "~"))
        if not reference.startswith("#/") or not isinstance(target, dict):
            raise BadInput("schema.$ref", reference, "Refer only to parts of the same document.")
        at = cast(Object, target)
    raise BadInput("schema.$ref", at.get("$ref"), "The references go round in a circle.")


def _object(value: object) -> Object:
    return dict(cast(Object, value)) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return list(cast(list[Any], value)) if isinstance(value, list) else []
