"""Rows, and how they are shown: one markdown table for people, one JSON file for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import wrap
from typing import Any

from benchmarks.measure import Sample, Spread, percentile, ratio


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a quantity, and what it is held against."""

    benchmark: str
    what: str
    value: Spread
    unit: str
    """``s`` is shown in µs, ms or s, ``B`` in B, kB or MB, anything else as it is."""
    rate: str = ""
    """What ``1 / value`` counts, for example ``tasks/s``; empty shows none."""
    p50: float | None = None
    p99: float | None = None
    """Seconds, over single units of all repetitions."""
    against: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    """Value divided by theirs, repetition by repetition."""


def rows(
    benchmark: str,
    measured: Mapping[str, Sequence[Sample]],
    ours: Sequence[str],
    against: Sequence[str],
    rate: str = "",
) -> list[Row]:
    """A row for each of ours, once against every alternative; and once more for processor time where it was measured."""
    out: list[Row] = []
    for name in ours:
        mine = measured[name]
        singles = [one for sample in mine for one in sample.latencies]
        for number, other in enumerate(against):
            out.append(
                Row(
                    benchmark=benchmark,
                    what=name if number == 0 else "",
                    value=Spread.of([sample.each for sample in mine]),
                    unit="s",
                    rate=rate,
                    p50=percentile(singles, 0.5) if singles else None,
                    p99=percentile(singles, 0.99) if singles else None,
                    against=other,
                    theirs=Spread.of([sample.each for sample in measured[other]]),
                    ratio=ratio(mine, measured[other]),
                )
            )
        if mine[0].processor:
            costs = {each: [Sample(one.units, one.processor) for one in samples] for each, samples in measured.items()}
            out += [
                replace(row, what=f"{name}, processor time" if row.what else "")
                for row in rows(benchmark, costs, [name], against)
            ]
    return out


HEAD = ("benchmark", "what", "median (min–max)", "rate", "p50", "p99", "against", "theirs", "ratio (min–max)")


def markdown(found: Sequence[Row]) -> str:
    """The rows as one table. A ratio above 1 means that ours takes more."""
    lines = [_line(HEAD), "|---|---|---:|---:|---:|---:|---|---:|---:|"]
    last = ""
    for row in found:
        repeated = not row.what
        lines.append(
            _line(
                (
                    "" if row.benchmark == last else f"**{row.benchmark}**",
                    row.what,
                    "" if repeated else _spread(row.value, row.unit),
                    "" if repeated or not row.rate else f"{1 / row.value.median:,.0f} {row.rate}",
                    "" if repeated or row.p50 is None else _shown(row.p50, "s"),
                    "" if repeated or row.p99 is None else _shown(row.p99, "s"),
                    row.against,
                    "" if row.theirs is None else _shown(row.theirs.median, row.unit),
                    "" if row.ratio is None else _times(row.ratio),
                )
            )
        )
        last = row.benchmark
    return "\n".join(lines)


RESULTS = "## Results"


def heading(facts: Mapping[str, str], seconds: float) -> str:
    """On what and when it was measured, in one paragraph."""
    said = " · ".join(f"{key} {value}" for key, value in facts.items())
    return "\n".join(wrap(f"{said[:1].upper()}{said[1:]}. {seconds:.0f} s for the whole run.", 120))


def published(page: str, facts: Mapping[str, str], seconds: float, found: Sequence[Row]) -> str:
    """The page with the table, and on what it was measured, in place of what stands under :data:`RESULTS`.

    Raises:
        ValueError: the page has no such heading.
    """
    before, mark, after = page.partition(f"{RESULTS}\n")
    if not mark:
        raise ValueError(f"The page has no heading {RESULTS!r} to put the table under.")
    rest = after.partition("\n## ")
    return f"{before}{mark}\n{heading(facts, seconds)}\n\n{markdown(found)}\n{rest[1]}{rest[2]}"


def document(facts: Mapping[str, str], found: Sequence[Row]) -> dict[str, Any]:
    """Everything, for ``--json``: seconds and bytes, nothing rounded."""
    return {"machine": dict(facts), "rows": [asdict(row) for row in found]}


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(value: Spread, unit: str) -> str:
    shown = _shown(value.median, unit)
    if value.least == value.most:
        return shown
    return f"{shown} ({_shown(value.least, unit)}–{_shown(value.most, unit)})"


def _times(value: Spread) -> str:
    if value.least == value.most:
        return f"×{_digits(value.median)}"
    return f"×{_digits(value.median)} ({_digits(value.least)}–{_digits(value.most)})"


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}


def _shown(value: float, unit: str) -> str:
    scales = _SCALES.get(unit)
    if scales is None:
        return f"{_digits(value)} {unit}".rstrip()
    factor, name = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{_digits(value / factor)} {name}"
