"""The tables of the pages about HTTP and the audit are those of the code."""

from __future__ import annotations

import re

from doc_pages import ROOT

from arbiter.http import application, bodies, entries, problems, runs, server, streams
from blackboard.audit import KINDS
from blackboard.tokens import SCOPES


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def rows(name: str) -> list[list[str]]:
    """The cells of every table row that begins with a word of code."""
    found = re.findall(r"^\| (`.*) \|$", page(name), re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in found]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_route_has_its_scope_in_the_table() -> None:
    said = {
        (route, (words(row[1]) or [row[1]])[0])
        for row in rows("http.md")
        for route in words(row[0])
        if " /v1/" in route
    }
    made = {(f"{verb} {path}".replace(":path", ""), scope) for verb, path, scope, _ in application.ROUTES}
    made |= {(f"{verb} {path}", "callback") for verb, path, _ in application.CALLBACKS}
    assert said == made | {("GET /v1/token", "any"), ("GET /v1/openapi.json", "none")}


def test_every_scope_is_in_the_table_as_the_code_describes_it() -> None:
    said = {words(row[0])[0]: row[1].partition(";")[0] for row in rows("http.md") if words(row[0])[0] in SCOPES}
    assert said == dict(SCOPES)


def test_every_problem_is_in_the_table_with_its_status() -> None:
    said = {
        (kind, int(row[1])) for row in rows("http.md") for kind in words(row[0]) if row[1].isdigit() and len(row) > 2
    }
    assert said == {(code, status) for _, status, code in problems._STATUS}  # pyright: ignore[reportPrivateUsage]


def test_every_kind_of_record_is_in_the_table() -> None:
    assert {kind for row in rows("audit.md") for kind in words(row[0])} == set(KINDS)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    text = " ".join(page("http.md").split())
    for said in (
        f"A head has {server.HEAD_SECONDS:g} s to arrive and {server.HEAD_BYTES >> 10} KiB",
        f"a body {bodies.BODY_SECONDS:g} s and {bodies.BODY_BYTES >> 20} MiB",
        f"not taken for {server.STUCK_SECONDS:g} s is given up, an idle connection after {server.IDLE_SECONDS} s",
        f"beyond {server.CONNECTIONS} connections",
        f"gives what runs {server.DRAIN_SECONDS} s",
        f"at most {runs.WAIT_SECONDS} s later",
        f"`wait` at most {entries.WAIT_SECONDS:g} s",
        f"within {streams.ALIVE_SECONDS:g} s when its token is revoked",
    ):
        assert said in text, said
