"""The scripted model: scenes, turns, expressions over real results, and the contract it shares with real models."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from strands import Agent, tool
from strands.types.exceptions import ModelThrottledException

from blackboard.errors import BadInput
from wrapper.models import ScriptedModel, ScriptExhausted, TemplateUnresolved, converse, describe


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


def result(tool_use_id: str, data: Any) -> dict[str, Any]:
    block = {"toolUseId": tool_use_id, "status": "success", "content": [{"json": data}]}
    return {"role": "user", "content": [{"toolResult": block}]}


def asked(tool_use_id: str, name: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"toolUse": {"toolUseId": tool_use_id, "name": name, "input": {}}}],
    }


async def events(model: ScriptedModel, messages: list[Any], **options: Any) -> list[Any]:
    return [event async for event in model.stream(messages, **options)]


async def test_the_stream_follows_the_contract_event_by_event():
    model = ScriptedModel([["Hello", {"tool": "price", "input": {"item": "fries"}}]], usage=(7, 3))
    seen = await events(model, [user("hi")])
    assert [next(iter(event)) for event in seen] == [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert seen[4] == {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "tooluse_0_1", "name": "price"}}}}
    assert seen[7] == {"messageStop": {"stopReason": "tool_use"}}
    assert seen[8]["metadata"]["usage"] == {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}


async def test_long_text_comes_in_several_pieces_that_make_the_whole():
    essay = "lorem ipsum " * 500
    seen = await events(ScriptedModel([essay]), [user("write")])
    parts = [event["contentBlockDelta"]["delta"]["text"] for event in seen if "contentBlockDelta" in event]
    assert len(parts) > 4
    assert "".join(parts) == essay


async def test_other_tasks_run_between_the_events():
    order: list[str] = []

    async def play(name: str) -> None:
        async for _ in ScriptedModel(["x" * 200]).stream([user("go")]):
            order.append(name)

    await asyncio.gather(play("a"), play("b"))
    assert order[:4] == ["a", "b", "a", "b"]


async def test_the_turn_depends_on_the_conversation_alone():
    script = ["first", "second", "third"]
    conversation = [user("go"), {"role": "assistant", "content": [{"text": "first"}]}, user("on")]
    one, other = ScriptedModel(script), ScriptedModel(script)
    await converse(one, [user("something else")])
    assert (await converse(one, conversation)).text == "second"
    assert (await converse(one, conversation)).text == "second"
    assert (await converse(other, conversation)).text == "second"


def test_a_restarted_process_continues_the_script(tmp_path):
    turns = [{"tool": "price"}, "It is {{ last.price }}."]
    (tmp_path / "s.json").write_text(json.dumps({"scenes": [{"turns": turns}]}))
    program = """
import asyncio, json, sys
from wrapper.models import converse, resolve
messages = json.load(sys.stdin)
reply = asyncio.run(converse(resolve("scripted:" + sys.argv[1]), messages))
print(json.dumps([*messages, reply.message]))
"""

    def step(messages: list[Any]) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "s.json")],
            input=json.dumps(messages),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout)

    messages = step([user("How much?")])
    messages = step([*messages, result(messages[-1]["content"][0]["toolUse"]["toolUseId"], {"price": 2.5})])
    assert messages[-1]["content"] == [{"text": "It is 2.5."}]


async def test_the_first_scene_that_fits_plays():
    model = ScriptedModel(
        [
            {"system": "examiner", "turns": ["an exam"]},
            {"match": "cheese.*cake", "turns": ["code"]},
            {"system": "examiner", "match": "fries", "turns": ["never"]},
            {"turns": ["anything else"]},
        ]
    )
    assert (await converse(model, [user("fries")], system="You are the examiner.")).text == "an exam"
    assert (await converse(model, [user("write\ncheese\ncake")], system="You write code.")).text == "code"
    assert (await converse(model, [user("hello")])).text == "anything else"
    assert [call.scene for call in model.calls] == ["scenes[0]", "scenes[1]", "scenes[3]"]


async def test_system_prompt_blocks_choose_a_scene_too():
    model = ScriptedModel([{"system": "examiner", "turns": ["an exam"]}])
    reply = await Agent(model=model, system_prompt=[{"text": "examiner"}], callback_handler=None).invoke_async("go")
    assert str(reply) == "an exam\n"


async def test_answers_are_computed_from_real_results():
    conversation = [
        user('{"orderId": "12345", "items": ["cheesecake", "fries"]}'),
        asked("a", "fries"),
        result("a", {"price": 2.5}),
        asked("b", "cheesecake"),
        result("b", {"price": 4, "allergens": ["egg"]}),
        asked("c", "fries"),
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "c", "status": "success", "content": [{"text": '{"price": 3}'}]}}],
        },
    ]
    turn = {
        "tool": "answer",
        "input": {
            "order": "{{ request.orderId }}",
            "count": "{{ length(request.items) }}",
            "total": "{{ sum([results.fries.price, results.cheesecake.price]) }}",
            "all": "{{ all.fries[].price }}",
            "last": "{{last}}",
            "shape": "{{ {first: all.fries[0], deep: {n: last.price}}}}",
            "text": "{{ request.orderId }}: {{ all.fries[].price }} and {{ results.cheesecake.allergens[0] }}",
            "fixed": [1, None, {"x": "no template"}],
        },
    }
    reply = await converse(ScriptedModel([turn] * 4), conversation)
    assert reply.tool_uses[0].input == {
        "order": "12345",
        "count": 2,
        "total": 7,
        "all": [2.5, 3],
        "last": {"price": 3},
        "shape": {"first": {"price": 2.5}, "deep": {"n": 3}},
        "text": "12345: [2.5, 3] and egg",
        "fixed": [1, None, {"x": "no template"}],
    }


@pytest.mark.parametrize("text", ['{"n": 4}', 'Do it:\n```json\n{"n": 4}\n```\nplease'])
async def test_the_request_is_parsed_when_it_is_json_or_carries_a_fence(text):
    reply = await converse(ScriptedModel([{"tool": "f", "input": {"n": "{{ request.n }}"}}]), [user(text)])
    assert reply.tool_uses[0].input == {"n": 4}


async def test_a_plain_request_is_its_text():
    assert (await converse(ScriptedModel(["You said {{ request }}."]), [user("hello")])).text == "You said hello."


async def test_an_input_may_be_one_expression():
    reply = await converse(ScriptedModel([{"tool": "f", "input": "{{ request }}"}]), [user('{"n": 4}')])
    assert reply.tool_uses[0].input == {"n": 4}
    with pytest.raises(BadInput, match="object"):
        await converse(ScriptedModel([{"tool": "f", "input": "{{ request.n }}"}]), [user('{"n": 4}')])


async def test_an_expression_that_finds_nothing_is_an_error_and_not_an_answer():
    model = ScriptedModel(["Total: {{ results.fries.price }}"])
    with pytest.raises(TemplateUnresolved, match=r"results\.fries\.price") as caught:
        await converse(model, [user("go")])
    assert caught.value.expression == "results.fries.price"


async def test_false_zero_and_empty_are_values():
    given = {key: f"{{{{ request.{key} }}}}" for key in "abc"}
    model = ScriptedModel([{"tool": "f", "input": given}])
    reply = await converse(model, [user('{"a": false, "b": 0, "c": []}')])
    assert reply.tool_uses[0].input == {"a": False, "b": 0, "c": []}


async def test_an_exhausted_script_names_scene_turn_and_last_message():
    model = ScriptedModel([{"name": "order", "turns": ["only"]}])
    conversation = [user("go"), {"role": "assistant", "content": [{"text": "only"}]}, user("and now?")]
    with pytest.raises(ScriptExhausted, match=r"order has no turn 1.*and now\?") as caught:
        await converse(model, conversation)
    assert (caught.value.scene, caught.value.turn) == ("order", 1)
    assert len(model.calls) == 1


async def test_a_request_no_scene_fits_is_an_error():
    with pytest.raises(ScriptExhausted, match=r"no scene fits.*hello") as caught:
        await converse(ScriptedModel([{"match": "order", "turns": ["x"]}]), [user("hello")])
    assert caught.value.scene is None


async def test_exceptions_and_callables_are_turns_in_python():
    def look(messages: Any, tool_specs: Any) -> Any:
        return {"tool": tool_specs[0]["name"], "input": {"said": messages[0]["content"][0]["text"]}}

    spec = {"name": "f", "description": "f", "inputSchema": {"json": {"type": "object"}}}
    reply = await converse(ScriptedModel([look]), [user("hi")], tools=[spec])
    assert (reply.tool_uses[0].name, reply.tool_uses[0].input) == ("f", {"said": "hi"})
    with pytest.raises(ModelThrottledException):
        await events(ScriptedModel([ModelThrottledException("slow")]), [user("hi")])


async def test_a_strands_agent_runs_a_tool_with_it():
    @tool
    def price(item: str) -> dict[str, Any]:
        """Price of an item."""
        return {"item": item, "price": len(item) / 2}

    model = ScriptedModel([{"tool": "price", "input": {"item": "fries"}}, "{{ results.price.item }}: {{ last.price }}"])
    result = await Agent(model=model, tools=[price], callback_handler=None).invoke_async("How much?")
    assert result.stop_reason == "end_turn"
    assert str(result) == "fries: 2.5\n"
    assert result.metrics.accumulated_usage["outputTokens"] > 0


async def test_a_file_may_take_text_and_code_from_files_beside_it(tmp_path):
    code = 'def handler(n: int) -> str:\n    return f"{{{n}}}"\n'
    (tmp_path / "code.py").write_text(code)
    (tmp_path / "notes.txt").write_text("plain {{ not an expression }}")
    script = {
        "label": "kitchen",
        "scenes": [{"turns": [{"code_file": "code.py"}, [{"text_file": "notes.txt"}, {"tool": "f"}]]}],
    }
    path = tmp_path / "script.json"
    path.write_text(json.dumps(script))
    model = ScriptedModel.from_file(path)
    first = await converse(model, [user("go")])
    assert first.text == "```python\n" + code + "```"
    second = await converse(model, [user("go"), first.message, user("on")])
    assert second.text == "plain {{ not an expression }}"
    assert second.tool_uses[0].id == "tooluse_1_1"
    assert model.label == "scripted (kitchen) — not a real model"
    assert describe(model) == model.label


@pytest.mark.parametrize(
    ("script", "field"),
    [
        ([], "script"),
        ([[]], "scenes[0].turns[0]"),
        ([4], "scenes[0].turns[0]"),
        ([{"say": "x"}], "scenes[0].turns[0]"),
        ([{"text": "x", "tool_input": {}}], "scenes[0].turns[0]"),
        ([["x", {"tool": "f", "input": [1]}]], "scenes[0].turns[0][1].input"),
        (["{{ a. }}"], "scenes[0].turns[0]"),
        (["{{ a"], "scenes[0].turns[0]"),
        ([{"tool": "f", "input": {"a": ["{{ ] }}"]}}], "scenes[0].turns[0].input"),
        ([{"match": "(", "turns": ["x"]}], "scenes[0].match"),
        ([{"turns": []}], "scenes[0].turns"),
        ([{"turns": "x"}], "scenes[0].turns"),
        ([{"turns": ["x"], "matches": "y"}], "scenes[0]"),
        ([{"code_file": "nowhere.py"}], "scenes[0].turns[0].code_file"),
    ],
)
def test_a_script_that_is_not_one_is_refused_when_it_is_read(script, field):
    with pytest.raises(BadInput) as caught:
        ScriptedModel(script)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"scenes": {}}',
        '{"scenes": [], "extra": 1}',
        '{"scenes": []}',
        '{"label": "a", "label": "b", "scenes": [{"turns": ["x"]}]}',
    ],
)
def test_a_file_that_is_not_a_script_is_refused(tmp_path, content):
    path = tmp_path / "script.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput):
        ScriptedModel.from_file(path)


async def test_only_the_last_calls_are_kept():
    model = ScriptedModel(["hi"], keep_calls=3)
    for number in range(5):
        await converse(model, [user(str(number))])
    assert [call.messages[0]["content"][0]["text"] for call in model.calls] == ["2", "3", "4"]


async def test_usage_follows_the_length_of_the_text():
    short = await converse(ScriptedModel(["hi"]), [user("a")])
    long = await converse(ScriptedModel(["hi " * 400]), [user("a" * 4000)])
    assert long.usage.input_tokens > short.usage.input_tokens + 900
    assert long.usage.output_tokens > short.usage.output_tokens + 200


async def test_the_deprecated_structured_output_works():
    from pydantic import BaseModel

    class Plan(BaseModel):
        steps: int

    for turn in ({"tool": "Plan", "input": {"steps": 3}}, '{"steps": 3}'):
        model = ScriptedModel([turn])
        assert [event["output"].steps async for event in model.structured_output(Plan, [user("go")])] == [3]
