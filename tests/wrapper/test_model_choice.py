"""Which models code may ask for is in its grants, decided outside it, and asking for another ends it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from arbiter import Arbiter, BadInput, Call, CapabilityLimits, Grants, Manifest, ScriptedModel, Status
from blackboard.testing import RedisServer
from blackboard.types import Completion
from registry.signing import statement
from wrapper.broker import AttemptBroker
from wrapper.isolation import BrokerError, NotGranted
from wrapper.model_choice import NamedModels, choose

LITE, PRO = "bedrock:us.amazon.nova-lite-v1:0", "bedrock:us.amazon.nova-pro-v1:0"


class Named(ScriptedModel):
    """A scripted model that is taken for one of a provider."""

    def __init__(self, label: str) -> None:
        super().__init__(["Good morning."] * 20)
        self._named = label

    @property
    def label(self) -> str:
        return self._named


def configured() -> Callable[[], Any]:
    model = Named(LITE)
    return lambda: model


def granted(*models: str) -> Grants:
    return Grants(model=True, models=models)


@pytest.mark.parametrize(
    ("grants", "wish", "label"),
    [
        ((), None, LITE),
        ((), "anything at all", LITE),
        ((LITE,), None, LITE),
        ((LITE,), "us.amazon.nova-lite-v1:0", LITE),
        ((LITE,), LITE, LITE),
        (("bedrock:us.amazon.nova-*",), "us.amazon.nova-pro-v1:0", PRO),
        (("bedrock:us.amazon.nova-*",), None, LITE),
        ((PRO,), None, PRO),
        (("anthropic:*", PRO), None, PRO),
    ],
)
async def test_what_is_granted_is_asked(grants: tuple[str, ...], wish: str | None, label: str) -> None:
    model = await choose(granted(*grants), wish, configured(), Named)
    assert getattr(model, "label", None) == label


@pytest.mark.parametrize(
    "wish", ["us.amazon.nova-pro-v1:0", PRO, "openai:gpt-4o", "scripted:/etc/passwd", "ollama:x@h:1"]
)
async def test_what_is_not_granted_is_more_than_was_granted(wish: str) -> None:
    with pytest.raises(NotGranted, match="not among the granted models"):
        await choose(granted(LITE, "anthropic:*"), wish, configured(), Named)


@pytest.mark.parametrize(
    ("grants", "wish", "kind"),
    [
        (("ollama:*",), "ollama:llama3@169.254.169.254:80", "denied"),
        (("anthropic:*",), None, "denied"),
        ((LITE,), 5, "bad_request"),
        ((LITE,), "x" * 300, "bad_request"),
        ((LITE,), "a\nb", "bad_request"),
    ],
)
async def test_a_wish_that_cannot_be_served_is_told_and_reaches_nothing(
    grants: tuple[str, ...], wish: object, kind: str
) -> None:
    def never(name: str) -> Any:
        raise AssertionError(f"{name} was made")

    with pytest.raises(BrokerError) as caught:
        await choose(granted(*grants), wish, configured(), never)
    assert caught.value.type == kind
    assert not isinstance(caught.value, NotGranted)


async def test_a_model_that_cannot_be_made_tells_the_code_nothing_of_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BrokerError) as caught:
        await choose(granted("openai:*"), "openai:gpt-4o", configured(), NamedModels().get)
    assert str(caught.value) == "This worker cannot ask openai:gpt-4o."


def test_named_models_are_made_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def resolve(name: str) -> Any:
        made.append(name)
        return Named(name)

    monkeypatch.setattr("wrapper.model_choice.resolve", resolve)
    models = NamedModels()
    assert models.get(PRO) is models.get(PRO)
    for number in range(40):
        models.get(f"bedrock:m{number}")
    models.get(PRO)
    assert made.count(PRO) == 2


async def test_model_calls_are_counted() -> None:
    manifest = Manifest(
        name="asks", description="asks", input_schema={"type": "object"}, grants=Grants(model=True),
        limits=CapabilityLimits(model_calls=2),
    )  # fmt: skip
    broker = AttemptBroker(manifest, configured())
    ask: Any = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    for _ in range(2):
        await broker("model.invoke", ask)
    with pytest.raises(BrokerError, match="2 model calls"):
        await broker("model.invoke", ask)
    assert not broker.exceeded.is_set()


ASKS = """
from strands import Agent
from wrapper import sdk

def handler(model_id):
    try:
        agent = Agent(model=sdk.model(model_id), callback_handler=None)
        return str(agent("hello")).strip()
    except sdk.CallError as error:
        return error.message
"""


async def _asked(redis_server: RedisServer, model_id: str) -> tuple[Completion, Any, int]:
    model = Named(LITE)
    async with Arbiter(redis_server.url, model, board="t" + uuid.uuid4().hex[:12], roles=["wrapper"]) as a:
        grants = Grants(model=True, models=(LITE,))
        manifest = Manifest(name="asks", description="asks", input_schema={"type": "object"}, grants=grants)
        await a.registry.register(manifest, source=ASKS)
        result = await a.run(Call("asks", {"model_id": model_id}), timeout=60)
        outcomes = await a.registry.outcomes("asks")
    (task,) = result.state.work
    assert task.completion is not None
    return task.completion, outcomes, len(model.calls)


async def test_g10_asking_for_another_model_ends_the_run_and_counts_against_the_version(
    redis_server: RedisServer,
) -> None:
    done, _, calls = await _asked(redis_server, "us.amazon.nova-lite-v1:0")
    assert (done.status, done.data, calls) == (Status.SUCCEEDED, "Good morning.", 1)
    done, outcomes, calls = await _asked(redis_server, "us.amazon.nova-pro-v1:0")
    assert (done.status, done.error and done.error.type, done.data) == (Status.REFUSED, "grant", None)
    assert PRO in str(done.error)
    assert outcomes == {done.version: {Status.REFUSED: 1}}
    assert calls == 0


@pytest.mark.parametrize(
    "grants",
    [
        {"models": [LITE]},
        {"model": True, "models": ["nova"]},
        {"model": True, "models": ["scripted:/etc/passwd"]},
        {"model": True, "models": ["ollama:x@host"]},
        {"model": True, "models": ["bedrock:a b"]},
    ],
)
def test_models_that_make_no_sense_are_refused(grants: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        Manifest.of({"name": "x", "description": "x", "input_schema": {"type": "object"}, "grants": grants})
    assert "models" in caught.value.field


def test_models_are_signed_and_grants_from_before_them_keep_their_form() -> None:
    def said(grants: Grants) -> bytes:
        return statement(
            name="x", sha="0" * 64, manifest="{}", artifact_sha="0" * 64, exam=None, grants=grants, created="1", key="k"
        )

    assert "models" not in Grants(model=True).model_dump(mode="json")
    assert said(granted()) == said(Grants(model=True))
    assert len({said(granted()), said(granted(LITE)), said(granted(PRO))}) == 3

    def manifest(**more: Any) -> Manifest:
        return Manifest(name="x", description="x", input_schema={"type": "object"}, **more)

    stored = manifest(grants=Grants(model=True)).text()
    assert "models" not in stored
    assert "model_calls" not in stored
    assert Manifest.stored(stored).grants == Grants(model=True)
    assert Manifest.stored(stored).limits.model_calls == 1000
    limited = manifest(limits=CapabilityLimits(model_calls=3))
    assert Manifest.stored(limited.text()).limits.model_calls == 3
    assert limited.content_hash() != manifest().content_hash()
