"""The command eval matching: how well capabilities are found in corpora, and how well it is known that none fits."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from arbiter._drawing import risk_coverage
from arbiter.cli import OK, output
from blackboard.errors import BadInput
from registry.matching import LexicalMatcher, calibration, evaluation

_COLUMNS = ("nDCG@10", "hit@1", "recall@1", "recall@5", "recall@10", "MRR")


def matching(arguments: argparse.Namespace) -> int:
    """Measure the matcher on the corpora of a folder, beside BM25 and the fusion of both."""
    target = Path(arguments.picture) if arguments.picture else None
    if target is not None and not target.parent.is_dir():
        raise BadInput("--picture", arguments.picture, "Name a file in a folder that exists.")
    model = calibration.shipped()
    if arguments.calibration:
        model = _read(arguments.calibration)
    reports: list[evaluation.Report] = []
    for corpus in evaluation.read(Path(arguments.folder)):
        say = _progress()
        report = evaluation.evaluate(
            corpus, LexicalMatcher(), limit=arguments.limit, seed=arguments.seed, say=say, calibration=model,
            small=LexicalMatcher if arguments.refit else None,
        )  # fmt: skip
        say("")
        reports.append(report)
        if arguments.json:
            output.line(report.record())
        else:
            _print(report)
    if arguments.refit:
        fitted = calibration.fit([case for report in reports for case in report.cases])
        Path(arguments.refit).write_text(fitted.model_dump_json() + "\n", "utf-8")
        output.note(f"{arguments.refit}: fitted on {fitted.cases:,} cases")
    if target is not None:
        curves = {report.corpus: report.abstention["purged"].curve for report in reports}
        target.write_text(risk_coverage(curves), "utf-8")
        output.note(f"{target}: risk by coverage")
    return OK


def _read(path: str) -> calibration.Calibration:
    try:
        return calibration.Calibration.model_validate(json.loads(Path(path).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput("--calibration", path, f"Give a file that --refit wrote; {error}.") from None


def _progress() -> Callable[[str], None]:
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _print(report: evaluation.Report) -> None:
    console = output.console()
    console.print(Text(f"{report.corpus}: {report.capabilities:,} capabilities, {report.queries:,} needs", "bold"))
    right: dict[str, Any] = {"justify": "right"}
    head: list[tuple[str, dict[str, Any]]] = [("RANKING", {}), *((name, right) for name in _COLUMNS)]
    rows: list[list[str | Text]] = []
    for name, ranking in report.rankings.items():
        cells = [ranking.values[column] for column in _COLUMNS]
        rows.append([name, *(f"{value:.3f} ({low:.2f}-{high:.2f})" for value, low, high in cells)])
    console.print(output.table(head, rows))
    head = [("NOTHING FITS", {})]
    named = ("AUROC", "RIGHT", "BEST F1", "CALIBRATION ERROR", "USED", "ASKED", "FABRICATED", "COST")
    head += [(name, right) for name in named]
    rows = []
    for kind, each in report.abstention.items():
        numbers = [each.auroc, each.right, each.best_f1, each.error, *each.by_price.values()]
        rows.append([kind, *(f"{number:.3f}" for number in numbers)])
    console.print(output.table(head, rows))
