"""What a call may cost at most: the bounds of a request and of its answer, and what their tokens cost."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arbiter import Price, Prices, ScriptedModel
from blackboard.errors import BadInput
from wrapper.worst_case import OUTPUT_TOKENS, bound_output, most_input, most_output


def test_the_bound_of_a_request_is_its_bytes_and_media_count_apart() -> None:
    plain = most_input([{"role": "user", "content": [{"text": "é" * 1000}]}])
    assert plain >= 2000
    picture = {"image": {"format": "png", "source": {"bytes": "A" * 10_000_000}}}
    assert plain < most_input([{"role": "user", "content": [{"text": "é" * 1000}, picture]}]) < plain + 20_000
    inside = {"toolResult": {"toolUseId": "x", "content": [picture]}}
    assert most_input([{"role": "user", "content": [inside]}]) < 20_000


def test_the_bound_of_an_answer_is_what_the_model_is_configured_with() -> None:
    def model(**config: Any) -> Any:
        return SimpleNamespace(get_config=lambda: config)

    assert most_output(model(max_tokens=77)) == 77
    assert most_output(model(params={"max_completion_tokens": 78})) == 78
    assert most_output(model(options={"num_predict": 79})) == 79
    assert most_output(model()) == OUTPUT_TOKENS
    scripted = ScriptedModel(["x"])
    assert bound_output(scripted) is scripted


def test_a_model_without_a_bound_is_told_the_one_that_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    from wrapper.models import resolve

    assert most_output(bound_output(resolve("bedrock:us.anthropic.claude-sonnet-4-6")), 0) == OUTPUT_TOKENS
    assert most_output(bound_output(resolve("bedrock:us.amazon.nova-lite-v1:0")), 0) == 5000
    assert most_output(bound_output(resolve("bedrock:us.amazon.nova-lite-v1:0", max_tokens=100)), 0) == 100


def test_prices_are_exact_and_round_up() -> None:
    price = Price("3", "0.25")
    assert price.cost(1_000_000, 0) == 3_000_000
    assert price.cost(0, 1) == 1
    assert price.cost(0, 8) == 2
    assert price.input == Decimal(3)
    for wrong in ("x", -1, "nan", 10**7):
        with pytest.raises(BadInput, match="million tokens"):
            Price(wrong, 1)


def test_the_longest_beginning_counts_and_the_policy_covers_the_rest(tmp_path: Path) -> None:
    table = {"bedrock:": Price(1, 1), "bedrock:us.anthropic": Price(2, 2)}
    assert Prices(table).cost("bedrock:us.anthropic.claude", 10, 0) == 20
    assert Prices(table).cost("bedrock:other", 10, 0) == 10
    assert Prices(table).cost("openai:x", 10, 0) is None
    assert Prices(table, unpriced="free").cost("openai:x", 10, 0) == 0
    assert Prices(table, unpriced="bedrock:").cost("openai:x", 10, 0) == 10
    with pytest.raises(BadInput, match="refuse, free"):
        Prices(table, unpriced="guess")
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"openai:": {"input": "0.5", "output": 2}, "unpriced": "openai:"}))
    assert Prices.load(file).cost("anthropic:x", 2, 1) == 3
    for text in ("[", "[1]", '{"a": 5}', '{"a": {"input": 1}}'):
        file.write_text(text)
        with pytest.raises(BadInput, match="prices"):
            Prices.load(file)
    file.write_text('{"openai:": {"input": 1, "output": 2, "input": 0}}')
    with pytest.raises(BadInput, match='the key "input" stands twice in'):
        Prices.load(file)
