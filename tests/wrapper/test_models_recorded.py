"""Recording and replaying: what counts as the same request, and how loudly a changed one is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from strands import Agent, tool

from blackboard.errors import BadInput
from wrapper.models import RecordedModel, RecordingDrift, ScriptedModel, converse, describe, resolve

TOOLS = [
    {"name": name, "description": f"{name} tool", "inputSchema": {"json": {"type": "object"}}} for name in ("a", "b")
]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.jsonl"


async def record(path, script, *requests: list[Any], ignore=(), **options) -> list[Any]:
    model = RecordedModel(path, "record", ScriptedModel(script), ignore=ignore)
    return [await converse(model, messages, **options) for messages in requests]


async def test_what_was_recorded_is_replayed_without_the_model(path):
    script = [{"match": "one", "turns": [["first", {"tool": "a", "input": {"n": 1}}]]}, {"turns": ["second"]}]
    recorded = await record(path, script, [user("one")], [user("two")], tools=TOOLS, system="Be brief.")
    model = RecordedModel(path)
    replayed = [await converse(model, [user(text)], tools=TOOLS, system="Be brief.") for text in ("two", "one")]
    assert [reply.text for reply in replayed] == ["second", "first"]
    assert replayed[1].tool_uses == recorded[0].tool_uses
    assert replayed[1].usage.total_tokens == recorded[0].usage.total_tokens
    assert describe(model) == f"recorded ({path}) — not a real model"


async def test_requests_replay_in_any_order_and_at_once(path):
    await record(path, ["said {{ request }}"], *[[user(f"r{n}")] for n in range(8)])
    model = RecordedModel(path)
    replies = await asyncio.gather(*[converse(model, [user(f"r{n}")]) for n in reversed(range(8))])
    assert [reply.text for reply in replies] == [f"said r{n}" for n in reversed(range(8))]


async def test_a_request_recorded_twice_replays_in_order_and_then_stays_at_the_last(path):
    answers = iter(["one", "two"])
    await record(path, [lambda *_: next(answers)], [user("go")], [user("go")])
    model = RecordedModel(path)
    assert [(await converse(model, [user("go")])).text for _ in range(4)] == ["one", "two", "two", "two"]


async def test_identifiers_metadata_and_the_order_of_tools_do_not_matter(path):
    def conversation(identifier: str, **extra: Any) -> list[Any]:
        use = {"toolUseId": identifier, "name": "a", "input": {}}
        back = {"toolUseId": identifier, "status": "success", "content": [{"json": {"n": 1}}]}
        return [
            {**user("go"), **extra},
            {"role": "assistant", "content": [{"toolUse": use}]},
            {"role": "user", "content": [{"toolResult": back}]},
        ]

    await record(path, ["x", "done"], conversation("id-1", tracking_id="t1", metadata={"a": 1}), tools=TOOLS)
    reply = await converse(RecordedModel(path), conversation("id-2", tracking_id="t2"), tools=TOOLS[::-1])
    assert reply.text == "done"


@pytest.mark.parametrize(
    ("text", "change", "place"),
    [
        ("What is the price of frites?", {}, "messages[0].content[0].text"),
        ("What is the price of fries?", {"system": "Be exact."}, "system[0].text"),
        ("What is the price of fries?", {"tools": TOOLS[:1]}, "tools[1].name"),
        ("What is the price of fries?", {"tool_choice": {"any": {}}}, "tool_choice"),
    ],
)
async def test_a_changed_request_is_refused_with_its_first_difference_to_the_nearest(path, text, change, place):
    options = {"tools": TOOLS, "system": "Be brief."}
    await record(path, ["ok"], [user("Something else")], [user("What is the price of fries?")], **options)
    with pytest.raises(RecordingDrift, match="number 2") as caught:
        await converse(RecordedModel(path), [user(text)], **(options | change))
    assert caught.value.path == place
    assert "recorded:" in str(caught.value)
    assert "now:" in str(caught.value)


async def test_the_difference_is_shown_where_the_texts_part(path):
    await record(path, ["ok"], [user("x" * 5000 + " price of fries")])
    with pytest.raises(RecordingDrift) as caught:
        await converse(RecordedModel(path), [user("x" * 5000 + " price of cake")])
    assert "price of fries" in str(caught.value)
    assert "price of cake" in str(caught.value)
    assert len(str(caught.value)) < 800


async def test_drift_is_not_tried_again(path):
    await record(path, ["ok"], [user("a")])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with pytest.raises(RecordingDrift):
        await converse(RecordedModel(path), [user("b")], sleep=sleep)
    assert waits == []


async def test_text_that_may_change_is_ignored_when_the_recording_said_so(path):
    await record(path, ["ok"], [user("run 17 of 2024-01-01")], ignore=[r"run \d+", r"\d{4}-\d\d-\d\d"])
    assert (await converse(RecordedModel(path), [user("run 18 of 2025-06-30")])).text == "ok"
    with pytest.raises(RecordingDrift):
        await converse(RecordedModel(path), [user("walk 18 of 2025-06-30")])


async def test_an_agent_with_tools_replays_its_whole_conversation(path):
    @tool
    def double(n: int) -> dict[str, int]:
        """Twice a number."""
        return {"n": 2 * n}

    script = [{"tool": "double", "input": {"n": 21}}, "{{ last.n }}"]
    for mode, real in (("record", ScriptedModel(script)), ("replay", None)):
        model = RecordedModel(path, mode, real)
        agent = Agent(model=model, tools=[double], callback_handler=None, retry_strategy=None)
        assert str(await agent.invoke_async("Double 21.")) == "42\n"
        assert agent.messages[1]["content"][0]["toolUse"]["input"] == {"n": 21}


async def test_a_failed_stream_leaves_no_line(path):
    model = RecordedModel(path, "record", ScriptedModel([ConnectionResetError("gone")]))
    with pytest.raises(ConnectionResetError):
        async for _ in model.stream([user("go")]):
            pass
    assert len(path.read_text().splitlines()) == 1


async def test_binary_parts_survive(path):
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00"}}}
    message = {"role": "user", "content": [image, {"text": "what is it?"}]}
    await record(path, ["a picture"], [message])
    assert (await converse(RecordedModel(path), [message])).text == "a picture"


async def test_binary_events_survive(path):
    class Thinking(ScriptedModel):
        async def stream(self, *args: Any, **kwargs: Any) -> Any:
            yield {"contentBlockDelta": {"delta": {"reasoningContent": {"redactedContent": b"\x00\xff"}}}}
            yield {"contentBlockStop": {}}
            async for event in super().stream(*args, **kwargs):
                yield event

    recorded = await converse(RecordedModel(path, "record", Thinking(["ok"])), [user("go")])
    replayed = await converse(RecordedModel(path), [user("go")])
    assert "reasoningContent" in replayed.message["content"][0]
    assert replayed.message == recorded.message


async def test_a_recording_is_continued_only_when_asked_to(path):
    await record(path, ["ok"], [user("a")])
    with pytest.raises(BadInput, match="append=True"):
        RecordedModel(path, "record", ScriptedModel(["more"]))
    more = RecordedModel(path, "record", ScriptedModel(["more"]), append=True)
    await converse(more, [user("b")])
    model = RecordedModel(path)
    assert [(await converse(model, [user(text)])).text for text in "ab"] == ["ok", "more"]
    with pytest.raises(BadInput, match="begun with"):
        RecordedModel(path, "record", ScriptedModel(["more"]), append=True, ignore=["x"])


async def test_model_strings_record_and_replay(path, tmp_path):
    script = tmp_path / "s.json"
    script.write_text(json.dumps({"scenes": [{"turns": ["hello"]}]}))
    recording = resolve(f"recorded:{path}", record=f"scripted:{script}")
    assert "recorded to" in describe(recording)
    assert "not a real model" in describe(recording)
    await converse(recording, [user("hi")])
    assert (await converse(resolve(f"recorded:{path}"), [user("hi")])).text == "hello"


@pytest.mark.parametrize("content", [None, "", "not json\n", '{"hash": "x"}\n'])
def test_a_file_that_is_not_a_recording_is_refused(path, content):
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput):
        RecordedModel(path)


def test_arguments_must_fit_the_mode(path):
    for arguments in (
        {"mode": "record"},
        {"mode": "rewind"},
        {"mode": "replay", "model": ScriptedModel(["x"])},
        {"mode": "record", "model": ScriptedModel(["x"]), "ignore": ["("]},
    ):
        with pytest.raises(BadInput):
            RecordedModel(path, **arguments)
    assert not path.exists()
