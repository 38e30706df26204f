"""Manifests: complete when made, refused with field, value and remedy, identified by content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackboard.errors import BadInput
from blackboard.types import RetryPolicy, RetryRule
from registry import capability
from registry.content import sha256, text_hash
from registry.manifest import RESERVED_NAMES, ExamRecord, Manifest
from registry.schema import problems, validate_input, validate_output

INPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "total": {"type": "number", "minimum": 0},
        "lines": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/line"}]}},
    },
    "required": ["total"],
    "additionalProperties": False,
    "$defs": {"line": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}},
}


def make(**changes: Any) -> Manifest:
    given = {"name": "check_invoice", "description": "Check an invoice.", "input_schema": INPUT}
    return Manifest(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"name": "Check"}, "manifest.name", "lower-case"),
        ({"name": "x" * 65}, "manifest.name", "1 to 64"),
        ({"name": "x\n"}, "manifest.name", "1 to 64"),
        ({"name": ""}, "manifest.name", "1 to 64"),
        ({"description": ""}, "manifest.description", "planner"),
        ({"description": None}, "manifest.description", "planner"),
        ({"effects": "harmless"}, "manifest.effects", "irreversible"),
        ({"kind": "module"}, "manifest.kind", "artifact"),
        ({"action": "My Lane"}, "manifest.action", "lower-case"),
        ({"action": "arbiter"}, "manifest.action", "own work"),
        ({"action": "fabricator"}, "manifest.action", "own work"),
        ({"action": "local.check"}, "manifest.action", "own functions"),
        ({"kind": "function"}, "manifest.action", "local."),
        ({"tenant": "A"}, "manifest.tenant", "every tenant"),
        ({"colour": "red"}, "manifest.colour", "remove"),
        ({"limits": {"memory_mb": 0}}, "manifest.limits.memory_mb", "Give 16 or more"),
        ({"retry": {"max_attempts": 0}}, "manifest.retry.max_attempts", "Give 1 or more"),
        ({"retry": {"interval_seconds": float("inf")}}, "manifest.retry.interval_seconds", "finite"),
        ({"retry": {"max_age_seconds": 0}}, "manifest.retry.max_age_seconds", "Give more than 0"),
        ({"retry": {"rules": [{}]}}, "manifest.retry.rules.0.errors", "required"),
        ({"retry": {"rules": [{"errors": []}]}}, "manifest.retry.rules.0.errors", "at least 1"),
        ({"retry": {"rules": [{"errors": ["a b"]}]}}, "manifest.retry.rules.0.errors.0", "pattern"),
        ({"retry": {"rules": [{"errors": ["*"], "attempts": 2}]}}, "manifest.retry.rules.0.attempts", "remove"),
        (
            {"retry": {"rules": [{"errors": ["*"]}, {"errors": ["x"], "max_attempts": 4}]}},
            "manifest.retry.rules.1.max_attempts",
            "raise its max_attempts",
        ),
        (
            {"retry": {"max_age_seconds": 5, "rules": [{"errors": ["x"], "max_age_seconds": 6}]}},
            "manifest.retry.rules.0.max_age_seconds",
            "raise its max_age_seconds",
        ),
        ({"grants": {"http_hosts": ["https://x.org/a"]}}, "manifest.grants.http_hosts", "without scheme"),
        ({"grants": {"files": ["/data/../etc"]}}, "manifest.grants.files", "absolute"),
        ({"input_schema": {"type": "array"}}, "manifest.input_schema.type", "object"),
        ({"input_schema": {}}, "manifest.input_schema.type", "object"),
        ({"input_schema": "x"}, "manifest.input_schema", "Give an object"),
        ({"grants": {"secrets": ["KEY"]}}, "manifest.grants.secrets", "grant http_hosts as well"),
        ({"grants": {"http_hosts": ["a.example"], "http_methods": []}}, "manifest.grants.http_methods", "GET, HEAD"),
        ({"grants": {"model": True, "models": ["gpt-5"]}}, "manifest.grants.models", "one of bedrock, anthropic"),
        ({"grants": {"topics": {"read": ["a..b"]}}}, "manifest.grants.topics.read", "words"),
        ({"grants": {"files": ["x=/a\x00b"]}}, "manifest.grants.files", "absolute path"),
        ({"grants": ["http"]}, "manifest.grants", "Give an object"),
        ({"limits": {"attempt_seconds": float("nan")}}, "manifest.limits.attempt_seconds", "finite"),
        ({"limits": {"tokens": 10**30}}, "manifest.limits.tokens", "or less"),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"type": "strng"}}}},
            "manifest.input_schema.properties.a.type",
            "JSON Schema",
        ),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"pattern": "("}}}},
            "manifest.input_schema.properties.a.pattern",
            "regex",
        ),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}},
            "manifest.input_schema.$ref",
            "same schema",
        ),
        (
            {"input_schema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}},
            "manifest.input_schema.$ref",
            "same schema",
        ),
        ({"input_schema": {"type": "object", "$ref": "#"}}, "manifest.input_schema", "references"),
        ({"output_schema": {"type": 7}}, "manifest.output_schema.type", "JSON Schema"),
        ({"examples": [{"input": {}}]}, "manifest.examples[0].input", "fit input_schema"),
        (
            {"examples": [{"input": {"total": 1}, "output": "x"}], "output_schema": {"type": "number"}},
            "manifest.examples[0].output",
            "fit output_schema",
        ),
        ({"provenance": {"score": float("nan")}}, "manifest", "NaN"),
        ({"provenance": {"note": "\ud800"}}, "manifest", "UTF-8"),
    ],
)
def test_an_invalid_manifest_names_field_value_and_remedy(changes: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(**changes)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_the_names_of_the_arbiters_own_tools_are_reserved(name: str) -> None:
    with pytest.raises(BadInput, match="belongs to the arbiter"):
        make(name=name)


def test_a_schema_nested_beyond_reason_is_refused_rather_than_crashing() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"properties": {"a": deep}}
    with pytest.raises(BadInput):
        make(input_schema={"type": "object", **deep})
    value: Any = 1
    for _ in range(5000):
        value = [value]
    assert validate_input(make(), {"total": value}) == ["value: nested deeper than 64 levels"]


@pytest.mark.parametrize("data", ["{", "[]", [1], None, 3])
def test_data_from_outside_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(BadInput, match=r"Give an? "):
        Manifest.of(data)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(BadInput, match=r"manifest\.description.*required"):
        Manifest.of({"name": "a", "input_schema": {"type": "object"}})


def test_the_text_form_comes_back_equal_and_with_the_same_hash() -> None:
    manifest = make(
        output_schema={"type": "array", "items": {}},
        examples=[{"input": {"total": 1.5}, "output": [], "description": "check it"}],
        grants={"model": True, "http_hosts": ["*.example.com"]},
        provenance={"run": "r1", "when": 1795249573459123},
    )
    again = Manifest.of(manifest.text())
    assert again == manifest
    assert Manifest.stored(manifest.text()) == manifest
    assert again.content_hash("x") == manifest.content_hash("x") == text_hash(manifest.text(), sha256("x"))


def test_a_manifest_that_says_a_thing_twice_is_refused() -> None:
    text = make().text()
    with pytest.raises(BadInput, match='the key "effects" stands twice'):
        Manifest.of(text[:-1] + ',"effects":"pure","effects":"pure"}')


def test_what_was_checked_on_registration_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from registry import manifest as module

    text = make().text()

    def never(*args: object, **options: object) -> None:
        raise RuntimeError("checked again")

    monkeypatch.setattr(module, "check_schema", never)
    assert Manifest.stored(text).name == "check_invoice"
    with pytest.raises(RuntimeError, match="again"):
        Manifest.of(text)


def test_the_content_hash_covers_everything_but_where_it_came_from() -> None:
    base = make()
    assert base.content_hash("a") == make(provenance={"run": "other"}).content_hash("a")
    others = [
        base.content_hash("b"),
        base.content_hash(),
        make(description="Another.").content_hash("a"),
        make(effects="writes").content_hash("a"),
        make(limits={"memory_mb": 2048}).content_hash("a"),
    ]
    assert len({base.content_hash("a"), *others}) == 6


def test_a_copy_is_checked_and_does_not_keep_the_old_schema() -> None:
    manifest = make()
    assert validate_input(manifest, {}) != []
    loose = manifest.model_copy(update={"input_schema": {"type": "object"}})
    assert validate_input(loose, {}) == []
    with pytest.raises(BadInput):
        manifest.model_copy(update={"name": "NO"})


def test_the_tool_spec_is_what_bedrock_takes() -> None:
    assert make().tool_spec() == {
        "name": "check_invoice",
        "description": "Check an invoice.",
        "inputSchema": {"json": INPUT},
    }


def test_problems_with_an_input_say_where_and_what() -> None:
    said = validate_input(make(), {"total": -1, "lines": [1, {"price": "x"}], "extra": True})
    assert [line.split(":")[0] for line in said] == ["value", "lines[1].price", "total"]
    assert "extra" in said[0]
    assert "minimum" in said[2]
    assert validate_input(make(), {"total": 1, "lines": [2, {"price": 1}]}) == []
    assert validate_input(make(), "text") == ["value: 'text' is not of type 'object'"]


def test_a_reference_out_of_the_schema_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a schema came in unchecked."""
    asked: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, *args, **options: asked.append(url))
    said = problems(json.dumps({"$ref": "http://example.invalid/secret"}), {})
    assert len(said) == 1
    assert said[0].startswith("schema: ")
    assert asked == []


def test_problems_are_bounded() -> None:
    said = validate_input(make(), {"total": 1, "lines": ["x" * 10_000] * 500})
    assert len(said) == 11
    assert all(len(line) < 400 for line in said)
    assert said[-1] == "… and 490 more"


def test_an_output_without_a_schema_is_not_checked() -> None:
    assert validate_output(make(), {"any": "thing"}) == []
    assert validate_output(make(output_schema={"type": "number"}), "x") == ["value: 'x' is not of type 'number'"]


def test_a_schema_is_compiled_once_for_all_calls() -> None:
    from registry import bounds

    manifest = make(description="compiled once", input_schema={**INPUT, "title": "compiled once"})
    before = bounds.validator.cache_info().misses
    for _ in range(50):
        validate_input(manifest, {"total": 1})
        validate_input(Manifest.stored(manifest.text()), {"total": 1})
    assert bounds.validator.cache_info().misses == before


@pytest.mark.parametrize(
    "changes",
    [{"passed": True, "failures": ["x"]}, {"passed": True, "public_cases": 0, "sealed_cases": 0}, {"when": -1}],
)
def test_an_exam_record_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    good = {"public_cases": 2, "sealed_cases": 1, "passed": True, "examiner": "scripted", "when": 1.0}
    assert ExamRecord.model_validate(good).passed
    with pytest.raises(ValueError, match=r"passed|when"):
        ExamRecord.model_validate({**good, **changes})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(value=JSON)
def test_any_json_survives_the_round_trip_through_a_manifest(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    manifest = make(provenance={"value": value})
    assert Manifest.of(manifest.text()).provenance == {"value": value}


def test_what_cannot_be_undone_is_tried_once_unless_the_manifest_says_otherwise() -> None:
    given: dict[str, Any] = {"name": "pay", "description": "pays", "input_schema": {"type": "object"}}
    assert Manifest(**given, effects="irreversible").retry.max_attempts == 1
    assert Manifest(**given, effects="irreversible", retry=RetryPolicy(max_attempts=2)).retry.max_attempts == 2
    assert Manifest(**given, effects="writes").retry.max_attempts == 3


def test_a_policy_without_rules_is_written_as_before_there_were_any_so_that_hashes_stay() -> None:
    before = '{"cap_seconds":30.0,"interval_seconds":0.5,"max_attempts":3,"rate":2.0}'
    assert f'"retry":{before}' in make().text()
    stored = Manifest.of(make().text())
    assert (stored.retry, stored.content_hash()) == (RetryPolicy(), make().content_hash())


def test_a_function_is_versioned_by_its_manifest_alone() -> None:
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}"

    before = capability(greet).manifest.content_hash()
    greet.__code__ = (lambda name: f"Good day {name}").__code__
    assert capability(greet).manifest.content_hash() == before
    assert capability(greet, description="Greet somebody politely.").manifest.content_hash() != before


def test_rules_survive_the_registry_and_make_another_version() -> None:
    rule = RetryRule(errors=("throttled", "http_5*"), retry=True, max_attempts=2)
    manifest = make(retry=RetryPolicy(rules=(rule,), max_age_seconds=60))
    assert Manifest.of(manifest.text()) == manifest
    assert manifest.content_hash() != make().content_hash()
    assert '"rules":[{"errors":["throttled","http_5*"],"max_attempts":2,"retry":true}]' in manifest.text()


def test_numbers_no_float_can_hold_are_judged_and_not_an_accident() -> None:
    for schema in ({"multipleOf": 0.1}, {"maximum": 1.5}, {"type": "array", "items": {"multipleOf": 0.5}}):
        assert validate_output(make(output_schema={**schema}), [10**4000] if "items" in schema else 10**4000) != []
