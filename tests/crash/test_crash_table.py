"""What stays of a crash matrix: its table, and the file by which an interrupted run goes on."""

from __future__ import annotations

from pathlib import Path

from arbiter.testing import report
from arbiter.testing.cases import Case, Outcome
from arbiter.testing.kept import Kept

PASSED = Outcome(Case.parse("wrapper:complete:1:after"), seconds=1.5, lives=2)
MISSED = Outcome(Case.parse("desk/skew:86400"), fired=False)
FAILED = Outcome(Case.parse("wrapper:complete:1:lost"), ["G4 fences"])


def test_the_table_says_what_was_not_played() -> None:
    left = [Case.parse(f"wrapper:complete:{number}:after") for number in (2, 3)]
    never = [Case.parse("wrapper:fail:1:after"), Case.parse("bids/resend:1")]
    every = [PASSED.case, MISSED.case, FAILED.case, *left, *never]
    told = report.markdown([PASSED, MISSED, FAILED], of=every, seed=3, seconds=9, server="Redis")
    assert "| wrapper | `complete` | 1 of 3 | **1 failed** |" in told
    assert "| wrapper | `fail` | 0 of 1 | – |" in told
    assert "| the process's own clock a day ahead | 0 |" in told
    assert "| every call delivered again after the end, in another order | 0 of 1 |" in told
    assert "seed 3, 3 of 7 cases" in told
    whole = report.markdown([PASSED], of=[PASSED.case], seed=3, seconds=9, server="Redis")
    assert "| wrapper | `complete` | 1 |" in whole
    assert "seed 3, every case" in whole


def test_an_interrupted_matrix_goes_on_with_what_did_not_pass(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    first = Kept(file, "Redis 7", "arbiter.testing.story:loop")
    for seconds, outcome in enumerate((PASSED, FAILED, MISSED)):
        first.add(outcome, seconds)
    with file.open("a") as torn:
        torn.write('{"case": "arbiter:com')
    again = Kept(file, "Redis 7", "arbiter.testing.story:loop")
    assert again.outcomes == {outcome.case.id: outcome for outcome in (PASSED, MISSED)}
    assert again.seconds == 2


def test_results_of_other_code_are_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    Kept(file, "Redis 7").add(PASSED, 1)
    assert Kept(file, "Redis 6").outcomes == {}
    assert Kept(file, "Redis 7").outcomes == {}  # it was begun anew
