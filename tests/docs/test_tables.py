"""The tables and numbers of the documentation are those of the code."""

from __future__ import annotations

import inspect
import re

from doc_pages import ROOT

from blackboard.types import Limits, RetryPolicy


def _words(page: str, heading: str) -> set[str]:
    """The first column of the first table under a heading."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"{page} has no section {heading!r}"
    return {
        word
        for row in re.findall(r"^\| (`[^|]*`) \|", section[1], re.MULTILINE)
        for word in re.findall(r"`([^`]+)`", row)
    }


def _said_in(folder: str) -> set[str]:
    """Words that the code of some rooms gives a failure, wherever it makes one."""
    text = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / folder).rglob("*.py")))
    made = re.findall(r'(?:Failure\(\s*type=|_failed\(\s*claim, |\bfailed\(\s*|_Ended\(\s*)"([a-z_]+)"', text)
    return set(made)


def test_every_word_for_the_end_of_an_attempt_is_in_the_table() -> None:
    from blackboard import callbacks
    from wrapper import failing

    lua = "\n".join(path.read_text("utf-8") for path in (ROOT / "blackboard" / "lua").glob("*.lua"))
    verdicts = set(re.findall(r"verdict\(\w+, '[a-z_]+',\s+'([a-z_]+)'", lua))
    words = set(re.findall(r"r\.want, r\.word = '[a-z_]+', '([a-z_]+)'", lua))
    lapsed = {"lease_lost", "deadline", "dependency", "cancelled", "poison", callbacks.TIMEOUT, callbacks.SILENT}
    assert verdicts | words == lapsed, "the board found a new way to end a task"
    raised = {
        failing.kind(error)
        for error in (failing.PeerUnavailable(), failing.RetryLater(), failing.Permanent(), ValueError())
    }
    said = _said_in("wrapper") | lapsed | raised | {"internal_error", "bad_input", "board_full", "topic_schema"}
    said |= {callbacks.FAILED}
    said -= {"type"}
    assert _words("capabilities.md", "Every way an attempt can end") == said


def test_the_fields_of_a_step_of_a_plan_are_in_their_table() -> None:
    from arbiter.plan_schema import STEP
    from arbiter.plans import Step

    assert _words("plans.md", "The fields of a step") == set(Step.model_fields) == {*STEP["properties"]}  # type: ignore[misc]


def test_every_stage_and_every_end_of_a_fabrication_is_in_its_table() -> None:
    from fabricator.pipeline import STAGES

    assert _words("fabrication.md", "The stages") == set(STAGES)
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "fabricator").glob("*.py"))
    made = set(re.findall(r'(?:Status\.[A-Z]+, )?self\._failure\(\s*"([a-z_]+)"', source))
    made |= set(re.findall(r'^\s+\("([a-z_]+)", Status\.REFUSED\) if', source, re.MULTILINE)) | {"bad_input"}
    made |= set(re.findall(r'else \("([a-z_]+)", Status\.FAILED\)', source))
    assert _words("fabrication.md", "How it ends") == made


def test_the_settings_of_the_fabricator_are_in_their_table() -> None:
    from fabricator import FabricationSettings

    assert _words("fabrication.md", "Settings") == set(FabricationSettings.model_fields)


def test_the_keys_and_scripts_of_the_board_are_in_their_tables() -> None:
    from blackboard._keys import Shard

    shard = Shard("n", "b", 0)
    run = [shard.log("<id>"), shard.open("<id>"), shard.turns("<id>"), shard.blobs("<id>"), *shard.agenda("<id>")]
    run += [
        shard.topics,
        shard.triggers,
        shard.subscriptions,
        *shard.entries("<scope>"),
        shard.rewritten("<scope>"),
        shard.compacted("<scope>"),
    ]
    keys = [*shard.fixed, *shard.lane("<lane>"), *run, shard.last_claim("<worker>")]
    assert _words("blackboard.md", "Keys") == {key.removeprefix(shard.prefix) for key in keys}
    scripts = {path.stem for path in (ROOT / "blackboard" / "lua").glob("*.lua") if not path.stem.startswith("_")}
    assert _words("blackboard.md", "Scripts") == scripts


def test_the_environment_and_the_exit_codes_are_in_their_tables() -> None:
    from arbiter import cli

    rooms = ("arbiter", "blackboard", "registry", "wrapper", "fabricator")
    source = "\n".join(path.read_text("utf-8") for room in rooms for path in (ROOT / room).rglob("*.py"))
    assert _words("operations.md", "Environment") == set(re.findall(r'"(ARBITER_[A-Z_]+|XDG_[A-Z_]+)"', source))
    codes = {cli.OK, cli.NOT_SUCCEEDED, cli.REFUSED, cli.DEFECT, cli.INTERRUPTED, cli.TERMINATED}
    assert _words("operations.md", "Exit codes") == {str(code) for code in codes}


def test_every_word_for_the_end_of_a_run_is_in_its_table() -> None:
    planner = "\n".join((ROOT / "arbiter" / name).read_text("utf-8") for name in ("planner.py", "given_plans.py"))
    said = set(re.findall(r'(?:_Over\(\s*|Failure\(type=)"([a-z_]+)"', planner))
    ours = {
        "deadline",
        "cancelled",
        "lease_lost",
        "poison",
        "timeout",
        "internal_error",
    }  # proven by the tests of the board and the worker
    assert _words("operations.md", "How a run ends") == said | ours


def test_the_limits_of_a_run_have_the_defaults_of_the_page() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([\d,]+) \|", text, re.MULTILINE))
    assert {name: float(value.replace(",", "")) for name, value in rows.items()} == Limits().model_dump()


def test_numbers_in_the_prose_are_those_of_the_code() -> None:
    from arbiter import choosing, conversation, plans, sdk, serving
    from blackboard import _probe, _script, blobs, board, catalog, entries, entry_checks, payloads, plan, topics
    from fabricator import policy
    from registry import CapabilityLimits
    from wrapper import entry_broker, execute
    from wrapper.isolation import JobLimits, framing
    from wrapper.models import converse

    def size(count: int) -> str:
        return (
            f"{count >> 10} KiB"
            if count < 1 << 20
            else f"{count >> 20} MiB"
            if count < 1 << 30
            else f"{count >> 30} GiB"
        )

    attempt, retry = CapabilityLimits(), RetryPolicy()
    said = {
        "operations.md": [
            f"| request; input, result, checkpoint of a task | {size(payloads.PAYLOAD_BYTES)} |",
            f"| the same on the board itself | {size(blobs.INLINE_BYTES)}",
            f"| {size(entries.ENTRY_BYTES)}; of one that generated code writes {size(entry_broker.CONTENT_BYTES)} |",
            f"| report of a running attempt | {size(payloads.REPORT_BYTES)} |",
            f"| message or answer of a model | {size(payloads.STEP_BYTES)} |",
            f"| tasks in a round; in one `post_plan` | {plan.TASKS_PER_ROUND}; 100 |",
            f"| {plans.MOST_AT_ONCE}; {plans.MOST_ATTEMPTS}, {plans.MOST_SECONDS // 86_400} days |",
            f"| capabilities offered to the model at first | {choosing.SHORTLIST};",
            f"| result shown to the model | {conversation.SHOWN_CHARACTERS:,} characters;",
            f"{size(catalog.MAX_MANIFEST_BYTES)}; {size(catalog.MAX_SOURCE_BYTES)}; {size(catalog.MAX_EXAM_BYTES)} |",
            f"| fabricated source | {size(policy.MOST_BYTES)} |",
            f"{size(attempt.memory_mb << 20)} (`memory_mb`), its wall-clock limit, {size(JobLimits().file_bytes)} each |",
            f"| the last {execute.LOG_CHARACTERS:,} characters of each stream |",
            f"| nesting of JSON | {framing.DEPTH} levels |",
            f"the planning model; {serving.CONCURRENCY['arbiter']} decisions at a time",
            f"examines capabilities; {serving.CONCURRENCY['fabricator']} at a time",
            f"runs capabilities; {serving.CONCURRENCY['wrapper']} at a time",
            f"`--grace` seconds ({sdk.GRACE_SECONDS:g})",
            f"when their lease ends ({board.LEASE_SECONDS:g} s,",
            f"tried for {_probe.CONNECT_SECONDS:g} s at the start and for {_script.RETRY_SECONDS:g} s later",
        ],
        "capabilities.md": [
            f"| {attempt.attempt_seconds:g} s, {size(attempt.memory_mb << 20)}, {size(attempt.output_bytes)} of output, "
            f"{attempt.tokens:,} tokens |",
            f"({retry.interval_seconds:g} s, {retry.rate:g}, {retry.cap_seconds:g} s)",
            f"Up to {framing.OPEN_CALLS} calls are in flight",
            f"exceed {size(framing.REQUEST_BYTES)} together",
            f"over {size(payloads.PAYLOAD_BYTES)}",
        ],
        "entries.md": [
            f"JSON, at most {size(entries.ENTRY_BYTES)}",
            f"up to {entry_checks.LINKS}: `supports`",
            f"up to {topics.WORDS} words with dots between them, {topics.CHARACTERS} characters",
            f"One attempt writes at most {entry_broker.WRITES} times, {size(entry_broker.CONTENT_BYTES)} at a time and "
            f"{size(entry_broker.WRITTEN_BYTES)} in all, and reads at most {entry_broker.READS:,} times and "
            f"{size(entry_broker.READ_BYTES)};",
        ],
        "models.md": [f"more than {inspect.getmodule(converse).LONGEST_WAIT_SECONDS:g} s ends the call"],  # type: ignore[union-attr]
        "blackboard.md": [f"A claim is a lease, {board.LEASE_SECONDS:g} s by default", "about the last 100,000 events"],
    }
    pages_said = {page: (ROOT / "docs" / page).read_text("utf-8") for page in said}
    assert not [words for page, listed in said.items() for words in listed if words not in pages_said[page]]


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "docs" / "guarantees.md").read_text("utf-8")))
    there = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert not [name for name in sorted(named) if f"def {name}(" not in there]
