"""Secrets are taken out of logs and stored errors, in whatever coding they come back."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard import redaction
from blackboard.board import Board
from blackboard.types import Failure, Limits, RetryPolicy, Status

SECRET = 'p@ss w0rd/"+=?&%'


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://api.example.com/?key={quote(SECRET, safe='')} failed",
        f"GET https://api.example.com/?{urlencode({'key': SECRET})} failed",
        f"https://me:{quote(SECRET)}@host/",
        f"https://me:{quote_plus(SECRET)}@host/",
        f"header Authorization: Bearer {SECRET}",
        f"Authorization: {base64.b64encode(SECRET.encode()).decode()}",
        f"Authorization: Basic {base64.b64encode(f'u:{SECRET}'.encode()).decode()}",
        f"Authorization: Basic {base64.b64encode(f'us:{SECRET}'.encode()).decode()}",
        f"Authorization: Basic {base64.b64encode(f'use:{SECRET} and more'.encode()).decode()}",
        base64.urlsafe_b64encode(f"user:{SECRET}".encode()).decode(),
        json.dumps({"key": SECRET}),
        SECRET.encode().hex(),
        f"twice {SECRET}{SECRET}",
    ],
)
def test_a_secret_is_recognised_in_its_usual_codings(text: str) -> None:
    redaction.remember("KEY", SECRET)
    said = redaction.clean(text)
    assert "[secret:KEY]" in said
    for piece in (
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode()[:12],
        SECRET.encode().hex(),
    ):
        assert piece not in said


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=60),
    st.binary(max_size=30), st.binary(max_size=30),
)  # fmt: skip
def test_base64_of_a_longer_text_hides_no_secret(secret: str, before: bytes, after: bytes) -> None:
    redaction.forget()
    redaction.remember("KEY", secret)
    coded = base64.b64encode(before + secret.encode() + after).decode()
    assert "[secret:KEY]" in redaction.clean(coded)


def test_the_longest_of_several_is_taken_out_first_and_short_ones_are_not_remembered() -> None:
    redaction.remember("A", "first")
    redaction.remember("B", "first and longer")
    redaction.remember("C", "abc")
    redaction.remember("D", None)
    assert redaction.clean("first and longer, first, abc") == "[secret:B], [secret:A], abc"


def test_the_log_of_our_rooms_is_clean_whoever_handles_it_and_others_logs_are_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redaction.remember("KEY", SECRET)
    made = logging.getLogRecordFactory()
    try:
        redaction.install()
        installed = logging.getLogRecordFactory()
        redaction.install()
        assert logging.getLogRecordFactory() is installed
        try:
            raise ValueError(f"no answer from https://host/?key={quote(SECRET, safe='')}")
        except ValueError:
            logging.getLogger("arbiter.some.module").exception("it failed with %s", SECRET)
        logging.getLogger("theirs").warning("theirs: %s", SECRET)
        logging.getLogger("wrapper.x").warning("arguments that do not fit: %s %s", SECRET)
    except TypeError:
        pass
    finally:
        logging.setLogRecordFactory(made)
    ours, theirs = caplog.records[0], caplog.records[1]
    said = logging.Formatter().format(ours)
    assert "it failed with [secret:KEY]" in said
    assert "ValueError: no answer from https://host/?key=[secret:KEY]" in said
    assert SECRET not in said
    assert SECRET in theirs.getMessage()


def test_a_copy_of_a_record_can_be_made_once_secrets_are_known() -> None:
    redaction.remember("KEY", SECRET)
    made = logging.getLogRecordFactory()
    try:
        redaction.install()
        record = logging.getLogger("arbiter").makeRecord("arbiter", logging.ERROR, "", 0, "it failed", (), None)
        assert logging.makeLogRecord(record.__dict__).getMessage() == "it failed"
    finally:
        logging.setLogRecordFactory(made)


def test_credentials_of_the_environment_and_of_the_url_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-12345")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Tenant=a, Authorization=Bearer%20tok-777")
    redaction.remember_credentials("redis://me:s%40same@host:6379/0")
    assert redaction.clean("sent Bearer tok-777, and Bearer%20tok-777") == (
        "sent [secret:header-authorization], and [secret:header-authorization]"
    )
    assert redaction.clean("sk-ant-12345 and s@same") == "[secret:ANTHROPIC_API_KEY] and [secret:redis-password]"
    redaction.remember_credentials("redis://[broken")


def test_arguments_that_do_not_fit_stop_nobody_and_are_cleaned_as_well() -> None:
    redaction.remember("KEY", "sesame-1")
    record = logging.LogRecord("x", logging.INFO, "here.py", 1, "%d of %d", ("sesame-1",), None)
    assert redaction.Redaction().filter(record)
    assert record.getMessage() == "%d of %d ('[secret:KEY]',)"


async def test_errors_and_kept_output_are_stored_without_secrets_and_results_as_they_are(board: Board) -> None:
    redaction.remember("KEY", SECRET)
    failure = Failure(
        type="handler_error", message=f"401 for {SECRET}", retryable=True,
        evidence={"traceback": f"x {quote(SECRET, safe='')}", "list": [{"deep": SECRET}], "n": 1},
    )  # fmt: skip
    retry = RetryPolicy(max_attempts=2, interval_seconds=0.0)
    run = await board.submit_call("count", {}, lane="work", limits=Limits(), retry=retry)
    (claim,) = await board.claim("w", ["work"], shard=board.shard_of(run).number)
    assert await board.fail(claim, claim.completion(Status.FAILED, error=failure)) == "delayed"
    while not (again := await board.claim("w", ["work"], shard=board.shard_of(run).number)):
        await board.sweep()
    done = again[0].completion(Status.FAILED, error=failure, stdout=f"printed {SECRET}", stderr=SECRET.encode().hex())
    await board.complete(again[0], done)
    logged = json.dumps([event.model_dump(mode="json") for event in await board.history(run)])
    assert logged.count("[secret:KEY]") >= 8
    for form in (json.dumps(SECRET)[1:-1], quote(SECRET, safe=""), SECRET.encode().hex()):
        assert form not in logged
    kept = await board.submit_call("count", {}, lane="work", limits=Limits())
    (claim,) = await board.claim("w", ["work"], shard=board.shard_of(kept).number)
    await board.complete(claim, claim.completion(Status.SUCCEEDED, data={"text": SECRET}))
    assert json.dumps(SECRET)[1:-1] in json.dumps([e.model_dump(mode="json") for e in await board.history(kept)])
