"""The command ``arbiter entries``: written, found, watched, taken, and refused with words."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from arbiter.cli import entries, main, output
from blackboard.testing import RedisServer


@pytest.fixture
def said(redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> str:
        assert main(["entries", *words, "--url", redis_server.url, "--board", board_name]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return run


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_entries_are_written_found_changed_and_taken(
    said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claim.json").write_text('{"amount": 120, "status": "open"}')
    first = said("post", "claims.invoice.7", f"@{tmp_path}/claim.json", "--confidence", "0.5", "--key", "k").strip()
    assert (
        said("post", "claims.invoice.7", f"@{tmp_path}/claim.json", "--confidence", "0.5", "--key", "k").strip()
        == first
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("not an invoice"))
    (second,) = lines(said("post", "claims.note", "-", "--link", f"contradicts:{first}", "--taint", "mail", "--json"))
    (found,) = lines(said("query", "claims.*.7", "--where", "amount>=100 status=open", "--json"))
    assert (found["id"], found["content"], found["confidence"]) == (first, {"amount": 120, "status": "open"}, 0.5)
    assert found["author"]["kind"] == "person"
    (linking,) = lines(said("query", "--links-to", first, "--json"))
    assert (linking["content"], linking["taint"]) == ("not an invoice", ["mail"])
    with monkeypatch.context() as small:
        small.setattr(entries, "MOST_FOUND", 1)
        assert len(lines(said("query", "--json"))) == 2, "page by page"
        assert "claims.note" in said("query")
    (best,) = lines(said("query", "--about", "open invoice", "--limit", "1", "--json"))
    assert (best["id"], best["score"] > 0) == (first, True)
    assert "open" in said("query", "claims.*.7", "--about", "open").splitlines()[-1]
    assert "ask in 1 to" in said("query", "--about", " ", code=2).lower()
    said("amend", first, "--expect", "1", '{"amount": 130}')
    said("amend", first, "--confidence", "0.9", "--seconds", "3600")
    assert [one["content"]["amount"] for one in lines(said("read", first, "--history", "--json"))] == [120, 130, 130]
    assert '"amount": 120' in said("read", first, "--at", second["position"])
    assert "expires" in said("read", first)
    for words in (("amend", second["id"], "x"), ("retract", second["id"])):
        assert "claims.note has version 1, not 0" in said(*words, "--expect-topic", "0", code=2)
    said("retract", second["id"], "--reason", "a mistake", "--expect-topic", "1")
    table = said("query")
    assert "claims.invoice.7" in table
    assert "claims.note" not in table
    assert json.loads(said("take", "claims.>")) == {"amount": 130}
    assert "there was none" in said("take", "claims.>", "--wait", "0.01", code=1)
    told = [line["type"] for line in lines(said("watch", "--after", "-", "--count", "6", "--json"))]
    assert [kind.split(".")[3] for kind in told] == ["posted", "posted", "amended", "amended", "retracted", "taken"]
    assert "retracted what was written on claims.note: a mistake" in said("watch", "--after", "-", "--count", "5")


def test_what_was_taken_under_a_lease_is_renewed_confirmed_or_given_back(said: Any) -> None:
    for number in (1, 2):
        said("post", "todo.x", str(number))
    (held,) = lines(said("take", "todo.x", "--lease", "3600", "--json").splitlines()[0])
    assert (held["content"], held["state"], held["fence"]) == (1, "leased", 2)
    assert json.loads(said("take", "todo.x", "--lease", "3600")) == 2
    said("renew", held["id"], "2", "3600")
    said("confirm", held["id"], "2")
    assert "LEASE" in said("give-back", held["id"], "2", code=2)
    assert "holds todo.x until" in said("watch", "--after", "-", "--count", "4")


def test_schemas_of_topics_are_set_listed_kept_and_taken_away(said: Any) -> None:
    said("schema", "claims.>", '{"type": "object"}')
    assert lines(said("schema")) == [{"pattern": "claims.>", "schema": {"type": "object"}}]
    assert "claims.>" in said("post", "claims.x", "text", "--scope", "public", code=2)
    said("schema", "claims.>", "--none")
    said("post", "claims.x", "text", "--scope", "public")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["post", "claims.*", "1"], "topic"),
        (["post", "claims", "@/nowhere"], "content"),
        (["post", "claims", "1", "--confidence", "high"], "--confidence"),
        (["post", "claims", "1", "--confidence", "2"], "confidence"),
        (["post", "claims", "1", "--link", "nonsense"], "RELATION:ENTRY"),
        (["post", "claims", "1", "--link", "likes:public:/e/" + "0" * 24], "links"),
        (["post", "claims", "1", "--scope", "somewhere"], "scope"),
        (["post", "claims", "1", "--scope", "run:nothing"], "no run"),
        (["post", "claims", "1", "--expect-topic", "3"], "STALE"),
        (["query", "claims.>.x"], "pattern"),
        (["query", "--where", "amount"], "where"),
        (["query", "--at", "yesterday"], "position"),
        (["read", "nonsense"], "entry"),
        (["read", "public:/e/" + "0" * 24], "scope"),
        (["retract", "tenant:default/e/" + "0" * 24], "no entry"),
        (["schema", "claims"], "--none"),
        (["schema", "claims", '{"type": "nonsense"}'], "schema"),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(said: Any, words: list[str], says: str) -> None:
    assert says in said(*words, code=2)


def test_what_lasts_is_promoted_and_what_is_to_go_is_erased(said: Any) -> None:
    first = said("post", "claims.a", "a secret", "--scope", "session:s").strip()
    kept = said("promote", first, "--to", "tenant:default", "--topic", "learned.a").strip()
    assert kept.startswith("tenant:default/e/")
    assert json.loads(said("read", kept, "--json"))["links"] == [{"rel": "derived_from", "to": first}]
    name = json.loads(said("read", kept, "--json"))["author"]["name"]
    assert "1 facts: 1 contents as written, 0 erased" in said("verify")
    (told,) = lines(said("erase", "--author", name, "--scope", "session:s", "--reason", "asked", "--json"))
    assert (told["facts"], told["entries"], told["scopes"]) == (1, 1, ["session:s"])
    assert "erased 1 facts of 1 scopes" in said("erase", "--author", name)
    assert "2 facts: 0 contents as written, 1 erased" in said("verify")
    assert "secret" not in said("read", kept)
    assert "had what was written on learned.a erased" in said("watch", "--after", "-", "--count", "2")
    assert "no run" not in said("erase", "--run", "r0123")


def test_what_counts_no_more_is_taken_out_of_a_log(said: Any) -> None:
    first = said("post", "claims.a", "1").strip()
    said("amend", first, "2")
    said("retract", said("post", "claims.b", "1").strip())
    position = json.loads(said("read", first, "--json"))["position"]
    assert "0 facts taken out" in said("compact")
    assert "3 facts would be taken out; nothing is left of 1 entries" in said(
        "compact", "--older-than", "0s", "--dry-run"
    )
    (dry,) = lines(said("compact", "--before", position, "--json", "--dry-run"))
    assert (dry["facts"], dry["readable_from"], dry["dry_run"]) == (1, position, True)
    assert "3 facts taken out" in said("compact", "--older-than", "0s")
    assert "3 taken out before" in said("verify")
    assert "was compacted; that is the first readable position" in said("read", first, "--at", position, code=2)
    assert "claims.a" in said("query")
    assert "soon" in said("compact", "--older-than", "soon", code=2)
    assert "scope" in said("compact", "--scope", "run:r1", code=2)


async def test_who_waits_at_a_terminal_is_told_how_far_it_is_on_a_line_that_goes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    async with output.progress(lambda: "34 entries", after=0):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert written.getvalue() == "", "nobody is at a terminal"
    monkeypatch.setattr(written, "isatty", lambda: True)
    async with asyncio.timeout(30), output.progress(lambda: "34 entries", after=0):
        while "34 entries" not in written.getvalue():
            await asyncio.sleep(0)
    assert written.getvalue().endswith("34 entries\r\x1b[K")


def test_a_question_by_meaning_tells_how_many_entries_were_read_for_it(
    said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextlib.asynccontextmanager
    async def progress(far: Callable[[], str]) -> AsyncGenerator[None, None]:
        yield
        told.append(far())

    monkeypatch.setattr(output, "progress", progress)
    said("post", "claims.a", "a boat")
    said("post", "claims.b", "a train")
    assert "claims.a" in said("query", "--about", "boat")
    assert told == ["reading what is to be ranked: 2 entries"]
