"""The crash matrix as a table: what was tried at which call, and how it ended."""

from __future__ import annotations

import platform
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from arbiter.testing.cases import Case, Outcome
from arbiter.testing.injection import BOUNDARIES, ROLES


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line: how many passed, failed, and were not reached."""
    words = Counter(outcome.word for outcome in outcomes)
    said = [f"{len(outcomes)} cases", f"{words['passed']} passed", f"{words['failed']} failed"]
    if words["not reached"]:
        said.append(f"{words['not reached']} whose call never came")
    return ", ".join(said)


def markdown(outcomes: Sequence[Outcome], *, of: Sequence[Case], seed: int, seconds: float, server: str) -> str:
    """The table and the facts about the run, as they stand between the marks in ``docs/crash-matrix.md``.

    Args:
        of: every case there is, played or not.
    """
    words = {outcome.case: outcome.word for outcome in outcomes}
    every = {**dict.fromkeys(of, ""), **words}
    named = [name for name in BOUNDARIES if any(case.column == name for case in every)]
    cells: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case, word in every.items():
        cells[case.row][case.column].append(word)
    order = [*ROLES, "all"]
    lines = [
        f"| role | call | {' | '.join(named)} |",
        f"|---|---|{'---|' * len(named)}",
    ]
    for role, script in sorted(cells, key=lambda row: (order.index(row[0]), row[1])):
        row = cells[role, script]
        if "case" not in row:
            lines.append(f"| {role} | `{script}` | {' | '.join(_cell(row.get(name, [])) for name in named)} |")
    lines += ["", "| other fault | result |", "|---|---|"]
    for (_, about), row in sorted(cells.items()):
        if "case" in row:
            lines.append(f"| {about} | {_cell(row['case'])} |")
    total = sum(outcome.seconds for outcome in outcomes)
    restarts = sum(outcome.lives - 1 for outcome in outcomes)
    when, python = time.strftime("%Y-%m-%d"), platform.python_version()
    lines += [
        "",
        f"Run on {when} with seed {seed}, {_part(len(outcomes), len(every))}: {summary(outcomes)}; {restarts:,} processes were "
        f"killed and replaced; {seconds:,.0f} s on the clock, {total:,.0f} s of cases, on {server} and Python {python}.",
    ]
    failed = [outcome for outcome in outcomes if outcome.problems]
    if failed:
        lines += ["", "Failed:", ""]
        lines += [f"- `{outcome.case.id}`: {outcome.problems[0][:300]}" for outcome in failed]
    unreached = [outcome.case.id for outcome in outcomes if outcome.word == "not reached"]
    if unreached:
        lines += ["", "Not reached: " + ", ".join(f"`{one}`" for one in unreached) + "."]
    return "\n".join(lines) + "\n"


def _part(played: int, of: int) -> str:
    return "every case" if played == of else f"{played} of {of:,} cases"


def _cell(words: Sequence[str]) -> str:
    """How many passed; of how many, where some were not played."""
    if not words:
        return "–"
    passed, failed, left = words.count("passed"), words.count("failed"), words.count("")
    said = str(passed) if passed or not failed else ""
    said += f" **{failed} failed**" if failed else ""
    return f"{said} of {len(words)}".strip() if left else said.strip()
