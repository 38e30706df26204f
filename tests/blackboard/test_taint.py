"""Where content comes from: labels that only grow, what the board writes down of them, and what a policy makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict import Play, broken, done, spec, watched_play

from blackboard import claims, taint
from blackboard.dead_letters import DeadLetters
from blackboard.errors import BadInput
from blackboard.events import RunAccepted, TaskCompleted, TaskPosted
from blackboard.taint import EVERYTHING, UNKNOWN, TaintPolicy, merged, source
from blackboard.types import Completion, RetryPolicy, Status

play = watched_play

KINDS = st.sampled_from(["person", "event", "http", "mail", "file"]) | st.from_regex(r"[a-z]{1,3}", fullmatch=True)
LABELS = st.builds(source, KINDS, st.text(max_size=6))
TAINTS = st.lists(LABELS, min_size=1, max_size=40)
PATTERNS = st.sampled_from(["*", "http:*", "*:*", "p*", "mail:a*", "*y", "*any", "m*", "event:", "a*:b*"])


@given(st.lists(TAINTS, min_size=1, max_size=4), st.lists(PATTERNS, max_size=3))
def test_what_is_made_of_several_pieces_is_trusted_only_if_each_of_them_is(
    parts: list[list[str]], patterns: list[str]
) -> None:
    """Whatever is collapsed on the way, and in whatever order it is joined."""
    policy = TaintPolicy(trusted=tuple(patterns))
    whole = merged(*parts)
    stepwise: tuple[str, ...] = ()
    for part in parts:
        stepwise = merged(stepwise, part)
    for joined in (whole, stepwise):
        assert len(joined) <= taint.MOST
        assert sum(map(len, joined)) <= taint.MOST * taint.LABEL_CHARACTERS
        assert merged(joined) == joined == tuple(sorted(set(joined)))
        if not policy.untrusted(joined):
            assert not any(policy.untrusted(part) for part in parts)


@given(st.text(max_size=300))
def test_a_label_made_of_anything_is_one_plain_word(what: str) -> None:
    label = source("event", what)
    assert label.isascii()
    assert label.isprintable()
    assert not set(label) & set(" \"'<>\n\\|`{}")
    assert len(label) <= taint.LABEL_CHARACTERS
    assert taint.given([label]) == (label,)


def test_more_sources_of_a_kind_than_can_be_told_count_as_all_of_that_kind_and_never_as_none() -> None:
    many = merged(["person"], [source("http", f"h{n}.example") for n in range(20)])
    assert many == ("http:(many)", "person")
    assert TaintPolicy(trusted=("person", "http:h*.example")).untrusted(many) == ("http:(many)",)
    assert TaintPolicy(trusted=("person", "http:*")).untrusted(many) == ()
    assert merged(many, ["http:h1.example"]) == many
    assert merged([source(f"k{chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(40)]) == (EVERYTHING,)
    assert source("event", "x" * 200) == "event:(many)"
    assert merged([EVERYTHING], ["person"]) == (EVERYTHING,)


@pytest.mark.parametrize("sources", [[], ["two words"], ["Http:x"], ["http:"], ["x" * 200], [3], ["http:(none)"]])
def test_sources_that_are_none_are_refused(sources: list[Any]) -> None:
    with pytest.raises(BadInput, match="sources"):
        taint.given(sources)


def test_an_event_comes_from_its_source_and_everything_else_from_a_person() -> None:
    assert taint.of_request({"specversion": "1.0", "source": "/orders eu", "id": "1", "type": "t"}) == (
        "event:/orders%20eu",
    )
    assert taint.of_request({"source": "/orders"}) == ("person",)
    assert taint.of_request("do it") == ("person",)


# ---- policy ------------------------------------------------------------------------------------------------------------


def test_by_default_persons_models_and_generated_code_are_trusted_and_nothing_else() -> None:
    policy = TaintPolicy()
    assert policy.untrusted(["person", "model:bedrock:x", "generated:sum"]) == ()
    foreign = ("event:/o", "file:rates", "http:api.example.com", "mail:inbox", "unknown")
    assert policy.untrusted(foreign) == foreign
    rules = [policy.judge(gate, foreign) for gate in ("fabricate", "secret", "approve")]
    assert [each.rule for each in rules if each] == ["ask", "refuse", "ask"]
    assert policy.judge("secret", ["person"]) is None


@pytest.mark.parametrize(
    ("name", "text", "field", "remedy"),
    [
        ("p.json", '{"secret": "maybe"}', "secret", "allow, ask or refuse"),
        ("p.json", '{"fabricate": "maybe"}', "fabricate", "allow, ask or refuse"),
        ("p.json", '{"trusted": ["http:(many)"]}', "trusted", "'event:/orders'"),
        ("p.json", '{"trusted": "person"}', "trusted", "a list"),
        ("p.json", '{"fabrication": "allow"}', "fabrication", "any of trusted"),
        ("p.json", "[]", "", "an object"),
        ("p.json", "{", "", "not JSON"),
        ("p.toml", "trusted = person", "", "TOML"),
        ("none.json", None, "", "cannot be read"),
    ],
)
def test_a_malformed_policy_is_refused_with_field_value_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, field: str, remedy: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("ARBITER_TAINT_POLICY", str(path))
    with pytest.raises(BadInput, match=remedy) as refused:
        TaintPolicy.of(None)
    assert refused.value.field.startswith("ARBITER_TAINT_POLICY" + (f".{field}" if field else ""))


def test_a_policy_is_read_from_json_or_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.toml").write_text('trusted = ["person", "event:/orders"]\nsecret = "allow"\n')
    wanted = TaintPolicy(trusted=("person", "event:/orders"), secret="allow")
    assert TaintPolicy.of(tmp_path / "p.toml") == wanted
    monkeypatch.setenv("ARBITER_TAINT_POLICY", str(tmp_path / "p.toml"))
    assert TaintPolicy.of(None) == wanted
    assert TaintPolicy.of({"trusted": ["person", "event:/orders"], "secret": "allow"}) == wanted


# ---- on the board ------------------------------------------------------------------------------------------------------


async def told(play: Play, run: str, kind: type) -> dict[str, tuple[str, ...]]:
    found = [event for event in await play.board.history(run) if isinstance(event, kind)]
    return {event.subject.rpartition("/")[2]: event.data.taint for event in found}


async def test_what_a_task_brings_in_is_in_whatever_waits_for_it(play: Play) -> None:
    asked = ("event:/orders", "model:m")
    run = await play.run(
        spec("fetch", taint=asked), spec("use", ["fetch"], taint=asked), spec("after", ["use"], taint=asked),
        spec("apart", taint=asked), taint=("event:/orders",),
    )  # fmt: skip
    assert (await told(play, run, RunAccepted)) == {run: ("event:/orders",)}
    assert set((await told(play, run, TaskPosted)).values()) == {(), asked}
    for key, brings in (("fetch", ("http:evil.example",)), ("use", ("file:rates",)), ("after", ())):
        claim = next(each for each in await play.take(n=9) if each.key == key)
        await play.board.complete(claim, claim.completion(Status.SUCCEEDED, data=1, sources=brings))
    ended = await told(play, run, TaskCompleted)
    assert ended["1.fetch"] == ("event:/orders", "http:evil.example", "model:m")
    assert ended["1.after"] == ended["1.use"] == ("event:/orders", "file:rates", "http:evil.example", "model:m")
    await play.sound()


async def test_whoever_reports_can_add_sources_and_never_take_one_away(play: Play) -> None:
    run = await play.run(spec("a", taint=("http:evil.example", "person")))
    claim = await play.one()
    forged = Completion(
        orchestration_id="x", tool_use_id="y", node="z", status=Status.SUCCEEDED, taint=("generated:own",), data=1
    )
    await play.board.complete(claim, forged)
    assert (await told(play, run, TaskCompleted))["1.a"] == ("generated:own", "http:evil.example", "person")


async def test_a_task_nobody_could_report_on_still_says_where_its_input_came_from(play: Play) -> None:
    run = await play.run(spec("a", taint=("mail:inbox",)), spec("b", ["a"], taint=("mail:inbox",)))
    claim = await play.one()
    await play.board.complete(claim, broken(claim, retryable=False))
    ended = await told(play, run, TaskCompleted)
    assert ended["1.a"] == ended["1.b"] == ("mail:inbox",), "the end of b is the board's own word"


async def test_sources_survive_retries_pauses_and_a_lost_worker(play: Play) -> None:
    run = await play.run(spec("a", taint=("mail:inbox",)))
    first = await play.one()
    await play.board.fail(first, broken(first))
    await play.board.pause_run(run)
    await play.board.resume_run(run)
    await play.clock.advance(20)
    await play.board.sweep()
    second = await play.one()
    assert second.taint == ("mail:inbox",)
    await play.clock.advance(20)
    await play.board.sweep()
    await play.clock.advance(20)
    await play.board.sweep()
    third = await play.one()
    assert (third.attempt, third.taint) == (3, ("mail:inbox",))


async def test_a_call_carries_its_sources_from_the_first_moment(play: Play) -> None:
    run = await play.board.submit_call("c", {"n": 1}, lane="work", taint=("mail:inbox",))
    assert (await told(play, run, RunAccepted))[run] == ("mail:inbox",)
    assert (await play.one()).taint == ("mail:inbox",)


async def test_a_dead_letter_keeps_the_sources_of_all_its_payload_refers_to(play: Play) -> None:
    uses = spec("use", ["fetch"], input={"$ref": "fetch"}, taint=("person",), retry=RetryPolicy(max_attempts=1))
    run = await play.run(spec("fetch", taint=("person",)), uses, taint=("person",))
    claim = await play.one()
    await play.board.complete(claim, claim.completion(Status.SUCCEEDED, data=1, sources=("http:evil.example",)))
    await play.one()
    await play.clock.advance(20)
    await play.board.sweep()  # its only attempt is lost: the board itself writes the end
    letter = await DeadLetters(play.board).get(f"{run}/1.use")
    assert letter.taint == ("http:evil.example", "person")


async def test_what_an_earlier_version_left_behind_comes_from_a_source_nobody_knows(play: Play) -> None:
    """It wrote no sources down: not into the task's header, not into the completions it waits for."""
    run = await play.run(spec("old"))
    header = await play.header(f"{run}/1.old")
    assert "src" not in header
    claim = await play.one()
    assert claim.taint == UNKNOWN
    row = [
        claim.task_id,
        json.dumps(header | {"fence": "1"}),
        "null",
        "",
        f"{run}/1.before",
        '{"data": 1, "status": "succeeded"}',
    ]
    assert claims.parse(row, "w").taint == UNKNOWN
    row[1] = json.dumps(header | {"src": ["person"]})
    assert claims.parse(row, "w").taint == ("person", "unknown"), "a result of before makes the whole unknown"
    await play.board.complete(claim, done(claim))
    assert (await told(play, run, TaskCompleted))["1.old"] == UNKNOWN
