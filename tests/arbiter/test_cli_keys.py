"""The commands about signing keys and signatures, each in a process of its own as people use them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cli_process import arbiter, records

from blackboard.board import Board
from blackboard.testing import RedisServer
from registry import ExamRecord, Grants, Manifest, Registry, SignatureRefused, Signer

SOURCE = "def handler():\n    return 1\n"


@pytest.fixture
def on(redis_server: RedisServer, board_name: str) -> list[str]:
    return ["--url", redis_server.url, "--board", board_name]


def command(*words: str, data: Path, code: int = 0) -> str:
    done = arbiter(*words, env={"ARBITER_DATA_DIR": str(data), "ARBITER_SIGNING_KEY": ""})
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def register(on: list[str], data: Path, about: str = "Gives one.") -> str:
    async def put() -> str:
        async with await Board.open(on[1], board=on[3]) as board:
            registry = Registry(board.catalog, signer=lambda: Signer.find(_key(data)))
            manifest = Manifest(name="one", description=about, input_schema={"type": "object"})
            return (await registry.register(manifest, source=SOURCE)).sha

    return asyncio.run(put())


def _key(data: Path) -> Path:
    return data / "keys" / "signing.pem"


def refusal(on: list[str]) -> str | None:
    async def look() -> str | None:
        async with await Board.open(on[1], board=on[3]) as board:
            try:
                await Registry(board.catalog).load("one")
            except SignatureRefused as error:
                return error.reason
            return None

    return asyncio.run(look())


def test_keys_are_trusted_rotated_and_revoked_and_versions_signed_again(on: list[str], tmp_path: Path) -> None:
    command("keys", "trust", "--note", "this machine", *on, data=tmp_path)
    first = Signer.find(_key(tmp_path)).key
    register(on, tmp_path)
    shown = command("capabilities", "show", "one", *on, data=tmp_path)
    assert f"key {first}" in shown
    assert "this machine" in shown

    assert "signs from now on" in command("keys", "rotate", *on, data=tmp_path)
    second = Signer.find(_key(tmp_path)).key
    assert second != first
    assert refusal(on) is None
    command("keys", "revoke", first[:8], "--reason", "old", *on, data=tmp_path)
    assert refusal(on) == "revoked_key"
    assert "arbiter capabilities sign one" in command("capabilities", "show", "one", *on, data=tmp_path)
    listed = {one["id"]: one for one in records(command("keys", "list", "--json", *on, data=tmp_path))}
    assert {id: one["state"] for id, one in listed.items()} == {first: "revoked", second: "trusted"}
    assert listed[second]["note"] == f"follows {first}"

    command("capabilities", "sign", "one", *on, data=tmp_path)
    assert refusal(on) is None
    whole = json.loads(command("capabilities", "show", "one", "--json", *on, data=tmp_path))
    assert (whole["signature"]["key"], whole["signature"]["counts"]) == (second, True)
    assert "never runs again" in command("capabilities", "revoke", "one", *on, data=tmp_path)
    assert "was revoked" in command("capabilities", "sign", "one", *on, data=tmp_path, code=2)
    verbs = [one["verb"] for one in records(command("keys", "audit", "--json", *on, data=tmp_path))]
    assert verbs == ["trusted", "signed", "trusted", "revoked", "signed", "revoked"]


def test_an_operator_goes_back_to_a_version_and_offers_none_on_record(on: list[str], tmp_path: Path) -> None:
    command("keys", "trust", *on, data=tmp_path)
    old, new = register(on, tmp_path), register(on, tmp_path, "Gives one, better.")

    def offered() -> list[str]:
        return [one["sha"] for one in records(command("capabilities", "--json", *on, data=tmp_path))]

    assert offered() == [new]
    why = ["--reason", "the new one is slower"]
    assert "is offered" in command("capabilities", "activate", "one", "--sha", old[:8], *why, *on, data=tmp_path)
    assert offered() == [old]
    assert "not offered any more" in command("capabilities", "retire", "one", *on, data=tmp_path)
    assert offered() == []
    command("capabilities", "activate", "one", *on, data=tmp_path, code=2)
    command("capabilities", "retire", "two", *on, data=tmp_path, code=2)
    kinds = "kind=version.activated,version.retired"
    kept = records(command("audit", "--json", "--where", kinds, *on, data=tmp_path))
    assert {(one["kind"], one["subject"], one["reason"]) for one in kept} == {
        ("version.activated", f"one|{old}", "the new one is slower"),
        ("version.retired", f"one|{old}", ""),
    }


def test_an_operator_lets_a_share_of_the_runs_try_a_version_and_sees_how_it_stands(
    on: list[str], tmp_path: Path
) -> None:
    command("keys", "trust", *on, data=tmp_path)
    old, new = register(on, tmp_path), register(on, tmp_path, "Gives one, better.")
    command("capabilities", "activate", "one", "--sha", old[:8], *on, data=tmp_path)
    share = ["--canary", "0.25", "--reason", "it is faster"]
    said = command("capabilities", "activate", "one", "--sha", new[:8], *share, *on, data=tmp_path)
    assert "is used by 0.25 of the runs that begin to use it" in said
    rows = records(command("capabilities", "--json", *on, data=tmp_path))
    assert [(row["sha"], row["state"]) for row in rows] == [(old, "active"), (new, "canary")]
    assert rows[1]["why"].startswith("canary for 0.25 of the runs: 0 of 0 tasks succeeded")
    assert "to take its place it needs about" in command("capabilities", *on, data=tmp_path)
    found = [one for one in records(command("doctor", "--json", *on, data=tmp_path)) if one["name"] == "canary"]
    assert [(one["level"], f"one {new[:12]}, canary for" in one["said"]) for one in found] == [("warn", True)]
    (kept,) = records(command("audit", "--json", "--where", "kind=version.tried", *on, data=tmp_path))
    assert (kept["subject"], kept["reason"]) == (f"one|{new}", "it is faster")
    command("capabilities", "retire", "one", "--sha", new[:8], *on, data=tmp_path)
    refused = command("capabilities", "activate", "one", "--sha", old[:8], *share, *on, data=tmp_path, code=2)
    assert "no other active version with code" in refused


def test_a_part_of_what_a_key_signed_is_revoked_by_time(on: list[str], tmp_path: Path) -> None:
    command("keys", "trust", *on, data=tmp_path)
    register(on, tmp_path)
    key = Signer.find(_key(tmp_path)).key
    command("keys", "revoke", key, "--before", "2020-01-01", *on, data=tmp_path)
    assert refusal(on) is None
    command("keys", "revoke", key, "--before", "2199-01-01T00:00+02:00", *on, data=tmp_path)
    assert refusal(on) == "revoked_key"
    assert "Give a time" in command("keys", "revoke", key, "--after", "yesterday", *on, data=tmp_path, code=2)
    assert "No key begins" in command("keys", "revoke", "zz", *on, data=tmp_path, code=2)
    assert "64 lower-case" in command("keys", "trust", "00", *on, data=tmp_path, code=2)


def test_doctor_looks_at_the_key(on: list[str], tmp_path: Path) -> None:
    def doctor(code: int) -> tuple[str, str]:
        lines = records(command("doctor", "--json", *on, data=tmp_path, code=code))
        [found] = [one for one in lines if one["name"] == "signing key"]
        return found["level"], found["said"] + " " + found["remedy"]

    assert doctor(0)[0] == "ok"
    command("keys", "trust", *on, data=tmp_path)
    assert (doctor(0)[0], "trusted" in doctor(0)[1]) == ("ok", True)
    _key(tmp_path).chmod(0o644)
    level, said = doctor(1)
    assert (level, "chmod 600" in said) == ("fail", True)
    _key(tmp_path).chmod(0o600)
    command("keys", "revoke", Signer.find(_key(tmp_path)).key, *on, data=tmp_path)
    level, said = doctor(1)
    assert (level, "arbiter keys rotate" in said) == ("fail", True)


def test_what_waits_for_approval_is_listed_and_approved(on: list[str], tmp_path: Path) -> None:
    command("keys", "trust", *on, data=tmp_path)

    async def put() -> None:
        async with await Board.open(on[1], board=on[3]) as board:
            grants = Grants(http_hosts=("api.example.com",))
            manifest = Manifest(name="one", description="One.", input_schema={"type": "object"}, grants=grants)
            exam = ExamRecord(public_cases=2, sealed_cases=1, passed=True, when=1.0)
            await Registry(board.catalog).register(manifest, source=SOURCE, exam=exam, activate=False, sign=False)

    asyncio.run(put())
    assert "api.example.com" in command("capabilities", "waiting", *on, data=tmp_path)
    [listed] = records(command("capabilities", "waiting", "--json", *on, data=tmp_path))
    assert (listed["name"], listed["state"]) == ("one", "examined")
    assert "is offered from now on" in command("capabilities", "approve", "one", *on, data=tmp_path)
    assert refusal(on) is None
    assert "nothing waits" in command("capabilities", "waiting", *on, data=tmp_path)
    assert "waits for approval" in command("capabilities", "approve", "one", *on, data=tmp_path, code=2)


def test_what_untrusted_content_asked_for_is_approved_only_by_whoever_names_the_sources(
    on: list[str], tmp_path: Path
) -> None:
    command("keys", "trust", *on, data=tmp_path)

    async def put() -> None:
        async with await Board.open(on[1], board=on[3]) as board:
            made = {"made_by": "fabricator", "untrusted": ["event:/mail", "http:evil.example"], "waits": True}
            manifest = Manifest(name="one", description="One.", input_schema={"type": "object"}, provenance=made)
            exam = ExamRecord(public_cases=2, sealed_cases=1, passed=True, when=1.0)
            await Registry(board.catalog).register(manifest, source=SOURCE, exam=exam, activate=False, sign=False)

    asyncio.run(put())
    shown = command("capabilities", "waiting", *on, data=tmp_path)
    assert "content from event:/mail, http:evil.example, which is not trusted, asked for it" in shown
    [listed] = records(command("capabilities", "waiting", "--json", *on, data=tmp_path))
    assert listed["sources"] == ["event:/mail", "http:evil.example"]
    approve = ("capabilities", "approve", "one")
    refused = command(*approve, *on, data=tmp_path, code=2)
    assert "event:/mail, http:evil.example" in refused
    assert "naming these sources" in refused
    command(*approve, "--source", "event:/mail", *on, data=tmp_path, code=2)
    assert "asked for it" in command("capabilities", "waiting", *on, data=tmp_path), "it still waits"
    both = ("--source", "event:/mail", "--source", "http:evil.example")
    assert "is offered from now on" in command(*approve, *both, *on, data=tmp_path)
    assert refusal(on) is None
