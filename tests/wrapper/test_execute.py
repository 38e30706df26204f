"""Whatever a capability does, its task ends as the right typed completion with evidence, on a real board."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from arbiter_support import arbiter, call, completions

from arbiter import Call, CapabilityLimits, Grants, Manifest, Status, capability
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.testing import RedisServer
from registry import Registry, validate_output

ANY: dict[str, Any] = {"type": "object"}

AGENT = '''
from strands import Agent, models, tool

@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()

def handler(text: str) -> dict:
    agent = Agent(model=models.BedrockModel(), tools=[shout], callback_handler=None)
    return {"said": str(agent(text)).strip()}
'''

CASES: dict[str, tuple[str, Status, str | None]] = {
    "fine": ("def handler(**given):\n    return {'given': given}\n", Status.SUCCEEDED, None),
    "fine_async": ("async def handler(**given):\n    return 1\n", Status.SUCCEEDED, None),
    "bad_syntax": ("def handler(:\n", Status.FAILED, "syntax_error"),
    "bad_import": ("import there_is_no_such_module\ndef handler():\n    return 1\n", Status.FAILED, "import_error"),
    "no_handler": ("def run():\n    return 1\n", Status.FAILED, "missing_handler"),
    "other_signature": ("def handler(wanted):\n    return 1\n", Status.FAILED, "signature_mismatch"),
    "raises": ("def handler():\n    raise KeyError('the key')\n", Status.FAILED, "handler_error"),
    "exits": ("import os\ndef handler():\n    os._exit(3)\n", Status.FAILED, "exited"),
    "segfaults": ("import ctypes\ndef handler():\n    ctypes.string_at(0)\n", Status.FAILED, "crashed"),
    "loops": ("def handler():\n    while True: pass\n", Status.TIMED_OUT, "timeout"),
    "no_json": ("def handler():\n    return object()\n", Status.FAILED, "not_json"),
    "too_large": ("def handler():\n    return 'x' * (10 << 20)\n", Status.FAILED, "result_too_large"),
    "binary_noise": (
        "import sys\ndef handler():\n    sys.stdout.buffer.write(bytes(range(256)) * 40000)\n    return 'still here'\n",
        Status.SUCCEEDED,
        None,
    ),
    "asks_for_a_model": (AGENT.replace("handler(text: str)", "handler(text='x')"), Status.REFUSED, "grant"),
}


async def test_every_way_to_end_is_a_typed_completion(redis_server: RedisServer) -> None:
    turns = [[call(name) for name in CASES], "done"]
    async with arbiter(redis_server.url, turns) as (a, _):
        for name, (source, _, _) in CASES.items():
            limits = CapabilityLimits(attempt_seconds=1.0 if name == "loops" else 30.0)
            manifest = Manifest(name=name, description=f"case {name}", input_schema=ANY, limits=limits)
            await a.registry.register(manifest, source=source)
        result = await a.run("Run every case.", timeout=90)
    assert result.status == "succeeded"
    ended = completions(result)
    assert {name: (done.status, done.error.type if done.error else None) for name, done in ended.items()} == {
        name: (status, kind) for name, (_, status, kind) in CASES.items()
    }
    for name, done in ended.items():
        assert done.isolation in ("zygote-ns", "zygote-lsm"), name
        assert done.usage.seconds > 0, name
        assert done.version, name
    assert "the key" in ended["raises"].error.message
    assert "line 2" in str(ended["raises"].error.evidence)
    assert len(ended["binary_noise"].stdout) <= 16_000
    assert "not granted" in str(ended["asks_for_a_model"].error)


async def test_output_that_breaks_its_schema_and_unknown_or_tampered_versions_fail(redis_server: RedisServer) -> None:
    number = Manifest(
        name="number", description="a number", input_schema=ANY, output_schema={"type": "integer", "minimum": 10}
    )
    tampered = Manifest(name="tampered", description="changed behind our back", input_schema=ANY)
    async with arbiter(redis_server.url, [[call("number"), call("tampered")], "done"]) as (a, _):
        await a.registry.register(number, source="def handler():\n    return 3\n")
        version = await a.registry.register(tampered, source="def handler():\n    return 1\n")
        client = a.board.client
        changed = 0
        async for key in client.scan_iter(f"*{a.board.name}#reg*"):
            if await client.type(key) == "hash" and await client.hexists(key, version.artifact_sha):
                await client.hset(key, version.artifact_sha, "def handler():\n    return 'evil'\n")
                changed += 1
        assert changed == 1
        result = await a.run("Run both.", timeout=60)
    ended = completions(result)
    assert (ended["number"].status, ended["number"].error.type) == (Status.FAILED, "output_schema")
    assert "10" in ended["number"].error.message
    assert (ended["tampered"].status, ended["tampered"].error.type) == (Status.FAILED, "hash_mismatch")
    assert ended["tampered"].data is None


async def test_g10_what_nobody_vouches_for_is_refused_with_a_word_and_counted_against_the_version(
    redis_server: RedisServer,
) -> None:
    """Before each load: the second call of the same code, in a worker that has just run it, is refused too."""
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        manifest = Manifest(name="number", description="a number", input_schema=ANY)
        version = await a.registry.register(manifest, source="def handler():\n    return 3\n")
        fine = await a.run(Call("number", {}), timeout=60)
        assert (fine.status, fine.data) == ("succeeded", 3)
        assert version.signature is not None
        await a.registry.trust.revoke(version.signature.key, by="a test")
        ended = [await a.run(Call("number", {}), timeout=60)]
        prefix = f"arb:{{arbiter/{a.board.name}#reg}}:"
        await a.board.client.hdel(prefix + "signatures", f"number|{version.sha}")
        ended.append(await a.run(Call("number", {}), timeout=60))
        outcomes = await a.registry.outcomes("number")
    for result, reason in zip(ended, ("revoked_key", "unsigned"), strict=True):
        (task,) = result.state.work
        done = task.completion
        assert done is not None
        assert (done.status, done.error and done.error.type, done.data) == (Status.REFUSED, "signature", None)
        assert done.error is not None
        assert done.error.evidence["reason"] == reason
        assert "arbiter capabilities" in done.error.message
    assert outcomes == {version.sha: {Status.SUCCEEDED: 1, Status.REFUSED: 2}}


async def test_an_unmodified_sample_agent_runs_without_credentials_and_its_tokens_are_metered(
    redis_server: RedisServer, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "must not be seen")
    inner = [call("shout", text="hello"), "{{ results.shout }}!"]
    outer = [call("greeter", text="say hello"), "{{ results.greeter.said }}"]

    def turn(messages: Any, specs: Any) -> Any:
        script = inner if "shout" in [spec["name"] for spec in specs] else outer
        return script[sum(message["role"] == "assistant" for message in messages)]

    async with arbiter(redis_server.url, [turn] * 2) as (a, _):
        manifest = Manifest(
            name="greeter", description="greets", input_schema=ANY, grants=Grants(model=True), effects="reads"
        )
        await a.registry.register(manifest, source=AGENT)
        result = await a.run("Greet.", timeout=60)
    done = completions(result)["greeter"]
    assert result.answer == "HELLO!"
    assert done.usage.model_calls == 2
    assert done.usage.total_tokens > 0
    assert result.usage.model_calls == 4


async def test_the_token_limit_of_a_capability_stops_its_model_calls(redis_server: RedisServer) -> None:
    def turn(messages: Any, specs: Any) -> Any:
        if "shout" in [spec["name"] for spec in specs]:
            return call("shout", text="again")
        return call("greeter", text="x") if len(messages) == 1 else "done"

    async with arbiter(redis_server.url, [turn] * 50) as (a, _):
        manifest = Manifest(
            name="greeter",
            description="greets",
            input_schema=ANY,
            grants=Grants(model=True),
            limits=CapabilityLimits(tokens=100),
        )
        await a.registry.register(manifest, source=AGENT)
        result = await a.run("Greet.", timeout=60)
    done = completions(result)["greeter"]
    assert done.status is Status.FAILED
    assert "100 tokens" in str(done.error)
    assert done.usage.model_calls < 10


async def test_functions_of_the_program_end_as_typed_completions_too(redis_server: RedisServer) -> None:
    @capability
    def gives_an_object() -> Any:
        """Return what JSON cannot carry."""
        return object()

    @capability
    def reads_bad_data() -> Any:
        """Raise an error that happens to speak of JSON."""
        raise ValueError("this is no JSON")

    @capability(limits=CapabilityLimits(attempt_seconds=0.1))
    async def takes_too_long() -> None:
        """Never return."""
        await asyncio.Event().wait()

    @capability
    def gives_too_much() -> str:
        """Return more than a completion may hold."""
        return "x" * (9 << 20)

    made = (gives_an_object, reads_bad_data, takes_too_long, gives_too_much)
    turns = [[call(one.manifest.name) for one in made], "done"]
    async with arbiter(redis_server.url, turns, capabilities=made) as (a, _):
        result = await a.run("Run them.", timeout=30)
    ended = {name: (done.status, done.error.type) for name, done in completions(result).items()}
    assert ended == {
        "gives_an_object": (Status.FAILED, "not_json"),
        "reads_bad_data": (Status.FAILED, "handler_error"),
        "takes_too_long": (Status.TIMED_OUT, "timeout"),
        "gives_too_much": (Status.FAILED, "result_too_large"),
    }
    assert {done.isolation for done in completions(result).values()} == {"inprocess"}


async def test_what_a_function_raised_is_told_whatever_its_text_holds(redis_server: RedisServer) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @capability
    def finds_no_file() -> None:
        """Speak of a file whose name is no UTF-8."""
        raise FileNotFoundError("no file caf\udce9.txt")

    @capability
    def says_nothing() -> None:
        """Raise an error that cannot be shown."""
        raise Mute

    @capability
    async def asks_wrongly() -> None:
        """Refuse something of its own, as our interfaces do."""
        raise BadInput("call.capability", "prise", "There is no capability 'prise'.")

    made = (finds_no_file, says_nothing, asks_wrongly)
    turns = [[call(one.manifest.name) for one in made], "done"]
    async with arbiter(redis_server.url, turns, capabilities=made) as (a, _):
        ended = completions(await a.run("Run them.", timeout=30))
    assert {done.error.type for done in ended.values()} == {"handler_error"}
    assert ended["finds_no_file"].error.message == "FileNotFoundError: no file caf\\udce9.txt"
    assert "caf\\udce9.txt" in ended["finds_no_file"].error.evidence["traceback"]
    assert ended["asks_wrongly"].error.message.startswith("BadInput: call.capability: 'prise' was refused.")
    assert ended["says_nothing"].error.message == "Mute: <Mute whose str() raised RuntimeError>"


async def test_a_function_that_calls_exit_ends_its_task_and_not_the_program(redis_server: RedisServer) -> None:
    @capability
    def leaves() -> None:
        """Leave."""
        raise SystemExit(3)

    @capability
    async def leaves_too() -> None:
        """Leave from the event loop."""
        raise SystemExit("bye")

    turns = [[call("leaves"), call("leaves_too")], "still here"]
    async with arbiter(redis_server.url, turns, capabilities=(leaves, leaves_too)) as (a, _):
        result = await a.run("Leave.", timeout=60)
    assert result.answer == "still here"
    assert {done.error.type for done in completions(result).values()} == {"exited"}


async def test_a_damaged_manifest_is_neither_offered_nor_run(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [call("damaged"), "done"]) as (a, model):
        manifest = Manifest(name="damaged", description="damaged later", input_schema=ANY)
        async with await Board.open(redis_server.url, board=a.board.name) as elsewhere:
            await Registry(elsewhere.catalog).register(manifest, source="def handler():\n    return 1\n")
        client, changed = a.board.client, 0
        async for key in client.scan_iter(f"*{a.board.name}#reg*"):
            if await client.type(key) == "hash":
                for field, value in (await client.hgetall(key)).items():
                    if "damaged later" in value:
                        await client.hset(key, field, value.replace("damaged later", "harmless"))
                        changed += 1
        assert changed
        result = await a.run("Run it.", timeout=60)
    assert result.status == "succeeded"
    assert completions(result) == {}
    assert "damaged" not in [spec["name"] for spec in model.calls[0].tool_specs]


async def test_a_large_result_is_held_against_its_schema_beside_the_loop_and_a_small_one_at_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[bool] = []

    def looked(manifest: Manifest, value: Any) -> list[str]:
        where.append(threading.current_thread() is threading.main_thread())
        return validate_output(manifest, value)

    monkeypatch.setattr("wrapper.fitting.validate_output", looked)
    schema: dict[str, Any] = {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
    manifest = Manifest(name="rows", description="rows", input_schema=ANY, output_schema=schema)
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        await a.registry.register(
            manifest, source="def handler(n):\n    return [[0] * 10] * n + ([['x']] if n > 500 else [])\n"
        )
        small = await a.run(Call("rows", {"n": 3}), timeout=60)
        large = await a.run(Call("rows", {"n": 1000}), timeout=60)
    assert (small.status, large.status, large.error and large.error.type) == ("succeeded", "failed", "output_schema")
    assert where == [True, False]
