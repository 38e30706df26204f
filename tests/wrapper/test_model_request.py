"""What isolated code sends to a model is its own: nothing in it has somebody else read something for it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from strands.models import BedrockModel

from registry import Grants, Manifest
from wrapper.broker import AttemptBroker
from wrapper.isolation import BrokerError
from wrapper.models import ScriptedModel

PIXEL = {"$bytes": base64.b64encode(b"\x89PNG").decode()}
S3 = {"location": {"type": "s3", "uri": "s3://payroll/salaries.txt"}}


def broker(model: ScriptedModel) -> AttemptBroker:
    manifest = Manifest(
        name="asks", description="asks", input_schema={"type": "object"}, grants=Grants(model=True)
    )  # fmt: skip
    return AttemptBroker(manifest, lambda: model)


def asking(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": "Read it."}, *blocks]}], **more}


def test_bedrock_would_read_what_is_named_with_the_rights_of_whoever_asks() -> None:
    """Why it has to be refused: this is what Strands makes of such a block, for the process that holds the credentials."""
    block = {"document": {"format": "txt", "name": "x", "source": S3}}
    model = BedrockModel.__new__(BedrockModel)
    made = model._format_request_message_content(block)  # type: ignore[arg-type]
    assert made["document"]["source"] == {"s3Location": {"uri": "s3://payroll/salaries.txt"}}


@pytest.mark.parametrize("kind", ["image", "document", "video", "audio"])
@pytest.mark.parametrize(
    "source",
    [
        S3,
        {"s3Location": {"uri": "s3://payroll/x"}},
        {"bytes": "https://evil.example/?what=was-read"},
        {"bytes": PIXEL, **S3},
        {"url": "https://evil.example/"},
        {},
        None,
    ],
)
@pytest.mark.parametrize("inside", ["", "toolResult", "guardContent"])
async def test_g10_code_with_a_model_has_nothing_read_with_the_wrappers_rights(
    kind: str, source: Any, inside: str
) -> None:
    model = ScriptedModel(["never"])
    asked = broker(model)
    block: dict[str, Any] = {kind: {"format": "png", "name": "x", "source": source}}
    if inside == "guardContent":
        block = {"guardContent": block}
    elif inside:
        block = {"toolResult": {"toolUseId": "t1", "status": "success", "content": [{"text": "see"}, block]}}
    with pytest.raises(BrokerError, match="not given as bytes"):
        await asked("model.invoke", asking(block))
    assert asked.exceeded.is_set()
    assert len(model.calls) == 0


async def test_bytes_of_its_own_it_may_send() -> None:
    model = ScriptedModel(["seen"])
    asked = broker(model)
    image: dict[str, Any] = {"image": {"format": "png", "source": {"bytes": PIXEL}}}
    use: dict[str, Any] = {"toolUse": {"toolUseId": "t1", "name": "x", "input": {"image": {"source": S3}}}}
    result: dict[str, Any] = {"toolResult": {"toolUseId": "t1", "content": [image, {"json": {"document": S3}}]}}
    said: Any = await asked("model.invoke", asking(image, use, result))
    assert said["message"]["content"] == [{"text": "seen"}]


@pytest.mark.parametrize(
    "more", [{"system_prompt": ["x"]}, {"tool_specs": {"a": 1}}, {"tool_specs": ["x"]}, {"tool_choice": "any"}]
)
async def test_what_is_no_request_is_refused_and_the_code_goes_on(more: dict[str, Any]) -> None:
    model = ScriptedModel(["never"])
    asked = broker(model)
    with pytest.raises(BrokerError) as refused:
        await asked("model.invoke", asking(**more))
    assert (refused.value.type, asked.exceeded.is_set(), len(model.calls)) == ("bad_request", False, 0)
