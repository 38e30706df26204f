"""The reference pattern's records and OpenAPI descriptions, in and out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blackboard.errors import BadInput
from registry.manifest import Manifest
from registry.openapi import describe
from registry.schema import check_schema, problems
from registry.tables import from_record, legal_name, to_record

DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "orders", "version": "1"},
    "paths": {
        "/orders/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "post": {
                "operationId": "placeOrder",
                "summary": "Place an order.",
                "parameters": [
                    {"name": "dry", "in": "query", "schema": {"type": "boolean"}, "description": "only try"},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                },
                "responses": {
                    "400": {"description": "bad"},
                    "200": {
                        "description": "ok",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}}},
                    },
                },
            },
        }
    },
    "components": {
        "schemas": {
            "Order": {
                "type": "object",
                "required": ["items"],
                "properties": {
                    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
                    "note": {"type": "string", "nullable": True, "example": "hurry"},
                    "total": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                },
            },
            "Item": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "part": {"$ref": "#/components/schemas/Item"}},
                "x-internal": 1,
            },
            "Receipt": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
        }
    },
}


def test_a_whole_document_becomes_one_closed_schema() -> None:
    described = describe(DOCUMENT)
    check_schema("input_schema", described.input_schema, top="object")
    assert described.output_schema is not None
    check_schema("output_schema", described.output_schema)
    assert described.description == "Place an order."
    assert set(described.input_schema["properties"]) == {"id", "dry", "items", "note", "total"}
    text = json.dumps(described.input_schema)
    assert problems(text, {"id": "1", "items": [{"sku": "a", "part": {"sku": "b"}}], "note": None, "total": 1}) == []
    assert problems(text, {"items": []}) == ["value: 'id' is a required property"]
    assert problems(text, {"id": "1", "items": [{"part": {"sku": 3}}]}) != []
    assert problems(text, {"id": "1", "items": [], "total": 0}) != []
    assert problems(json.dumps(described.output_schema), {}) != []
    assert "components" not in text
    assert "x-internal" not in text
    assert "nullable" not in text


def test_a_swagger_2_document_is_understood() -> None:
    document = {
        "swagger": "2.0",
        "paths": {
            "/add": {
                "post": {
                    "parameters": [
                        {"name": "scale", "in": "query", "type": "integer", "required": True},
                        {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Pair"}},
                    ],
                    "responses": {"200": {"schema": {"type": "number"}}},
                }
            }
        },
        "definitions": {
            "Pair": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
        },
    }
    described = describe(document)
    assert problems(json.dumps(described.input_schema), {"scale": 1, "a": 2}) == []
    assert len(problems(json.dumps(described.input_schema), {})) == 2
    assert described.output_schema == {"type": "number"}


def test_a_body_that_is_no_object_becomes_a_parameter() -> None:
    document = {
        "openapi": "3.1.0",
        "paths": {"/sum": {"post": {"requestBody": {"content": {"application/json": {"schema": {"type": "array"}}}}}}},
    }
    schema = describe(document).input_schema
    assert problems(json.dumps(schema), {"body": [1]}) == []
    assert problems(json.dumps(schema), {}) != []


def test_plain_json_schema_and_bedrocks_wrapping_pass_through() -> None:
    plain: dict[str, Any] = {"type": "object", "properties": {"nullable": {"type": "string"}}, "required": ["nullable"]}
    assert describe(plain).input_schema == plain
    assert describe({"json": plain}).input_schema == plain
    assert describe({"properties": {}}).input_schema == {"type": "object", "properties": {}}


def test_what_cannot_be_converted_is_refused() -> None:
    two = {"openapi": "3.0.0", "paths": {"/a": {"get": {}, "post": {}}}}
    with pytest.raises(BadInput, match="one operation"):
        describe(two)
    with pytest.raises(BadInput, match="one operation"):
        describe({"openapi": "3.0.0", "paths": {}})
    assert describe(two, "GET /a").input_schema == {"type": "object", "properties": {}}
    with pytest.raises(BadInput, match="not in the document"):
        describe({"type": "object", "properties": {"a": {"$ref": "#/components/schemas/None"}}})
    circle = {"parameters": [{"$ref": "#/p"}], "responses": {}, "p": {"$ref": "#/p"}}
    with pytest.raises(BadInput, match="circle"):
        describe(circle)


RECORD: dict[str, Any] = {
    "toolId": "Order-Validator",
    "filename": "order_validator.py",
    "schema": DOCUMENT,
    "description": "Validates orders.",
    "action": "https://sqs.eu-west-1.amazonaws.com/123/Agent_Queue",
    "owner": "kitchen",
}


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        {**RECORD, "schema": json.dumps(DOCUMENT)},
        {"toolId": RECORD["toolId"], "config": {key: RECORD[key] for key in RECORD if key != "toolId"}},
        {"toolId": RECORD["toolId"], "config": json.dumps({key: RECORD[key] for key in RECORD if key != "toolId"})},
        {**RECORD, "action": {"type": "sqs", "target": RECORD["action"]}},
    ],
)
def test_a_table_record_comes_in_whatever_its_form(record: dict[str, Any]) -> None:
    manifest, filename = from_record(record)
    assert filename == "order_validator.py"
    assert manifest.name == "order_validator"
    assert manifest.action == "agent_queue"
    assert manifest.kind == "artifact"
    assert manifest.output_schema is not None
    back = to_record(manifest)
    assert back["toolId"] == "Order-Validator"
    assert back["action"] == record.get("action", RECORD["action"])
    assert back["owner"] == "kitchen"
    again = from_record(back)
    assert (again.manifest.name, again.manifest.input_schema) == (manifest.name, manifest.input_schema)


def test_a_manifest_goes_out_as_a_record_and_comes_back() -> None:
    manifest = Manifest(name="add", description="Adds.", input_schema={"type": "object"}, action="maths")
    record = to_record(manifest)
    assert record == {
        "toolId": "add",
        "filename": "add.py",
        "schema": {"type": "object"},
        "description": "Adds.",
        "action": "maths",
    }
    back = from_record(record).manifest
    assert back.content_hash() == manifest.content_hash()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"toolId": ""}, "record.toolId"),
        ({"filename": None}, "record.filename"),
        ({"schema": "{"}, "record.schema"),
        ({"schema": [1]}, "record.schema"),
        ({"schema": '{"type": "object", "type": "object"}'}, "record.schema"),
        ({"config": "[]"}, "record.config"),
        ({"action": 3}, "record.action"),
        ({"toolId": "123"}, "name"),
        ({"toolId": "Fabricator"}, "manifest.name"),
        ({"action": "arbiter"}, "manifest.action"),
    ],
)
def test_a_broken_record_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_record({**RECORD, **changes})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "name"),
    [("Order-Validator v2", "order_validator_v2"), ("parseHTTPDate", "parse_http_date"), ("9 lives", "lives")],
)
def test_any_identifier_becomes_a_legal_name(text: str, name: str) -> None:
    assert legal_name(text) == name
