"""Where secrets come from, which of them can be used, and how those that were used stay out of logs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from blackboard.errors import BadInput
from wrapper.secrets import Redaction, Secrets

SECRET = "s3cr3t/+value=="


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"TOKEN": "abc"}, "secrets.TOKEN"), ({"TOKEN": "line\nbreak"}, "secrets.TOKEN"), ({"TOKEN": 12345}, "secrets.TOKEN"),
        ({"1 TOKEN": SECRET}, "secrets"), (["TOKEN"], "secrets"), ("/nowhere.json", "secrets"),
    ],
)  # fmt: skip
def test_secrets_that_could_never_be_used_are_refused_when_they_are_given(source: Any, field: str) -> None:
    with pytest.raises(BadInput) as error:
        Secrets(source)
    assert error.value.field == field
    assert SECRET not in str(error.value)


def test_secrets_come_from_the_environment_or_a_file_only_this_user_can_read(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"FILED": "from the file"}))
    file.chmod(0o600)
    monkeypatch.setenv("ARBITER_SECRET_MY_KEY", "from the environment")
    monkeypatch.setenv("ARBITER_SECRETS_FILE", str(file))
    found = Secrets()
    assert [found.get(name) for name in ("my-key", "FILED", "NONE", "../x")] == [
        "from the environment", "from the file", None, None
    ]  # fmt: skip
    file.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        found.get("FILED")
    file.chmod(0o600)
    file.write_text(f'{{"FILED": "{SECRET}", "FILED": "another"}}')
    with pytest.raises(BadInput, match='the key "FILED" stands twice') as twice:
        found.get("FILED")
    assert SECRET not in str(twice.value)
    for named in (None, file, tmp_path / "nowhere.json"):  # noticed at the start, and not by the first that needs one
        with pytest.raises(BadInput):
            Secrets(named)


def test_secrets_that_were_used_are_taken_out_of_the_log() -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.addFilter(Redaction())
    log = logging.Logger("one")
    log.addHandler(handler)
    assert Secrets({"LOGGED": "a value to hide"}).get("LOGGED")
    log.info("sent %s to %s", "a value to hide", "there")
    try:
        raise ValueError("a+value+to+hide")
    except ValueError:
        log.exception("it failed")
    assert lines[0] == "sent [secret:LOGGED] to there"
    assert "ValueError: [secret:LOGGED]" in lines[1]
