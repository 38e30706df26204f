"""The command eval matching: how well capabilities are found in corpora, and how well it is known that none fits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from arbiter import encoding
from arbiter._drawing import risk_coverage
from arbiter.cli import OK, output
from blackboard import strict_json
from blackboard.errors import BadInput
from registry.matching import LexicalMatcher, Matcher, calibration, corpora, evaluation

_COLUMNS = ("nDCG@10", "hit@1", "recall@1", "recall@5", "recall@10", "MRR")
_NEEDED = 2
"""How many of them a narrow terminal shows as well."""
_WORDS, _SERVED, _MEANINGS, _BOTH, _BM25 = "matcher", "matcher, served", "dense", "hybrid", "BM25"
_WRITTEN = "matcher, with examples"


def matching(arguments: argparse.Namespace) -> int:
    """Measure the matcher on the corpora of a folder, beside BM25 and the fusion of both."""
    target = Path(arguments.picture) if arguments.picture else None
    if target is not None and not target.parent.is_dir():
        raise BadInput("--picture", arguments.picture, "Name a file in a folder that exists.")
    if arguments.sha256 and not arguments.encoder:
        raise BadInput("--sha256", arguments.sha256, "Name the folder of the weights with --encoder.")
    model = calibration.shipped()
    if arguments.calibration:
        model = _read(arguments.calibration)
    if arguments.sha256 and "#" in arguments.encoder:
        raise BadInput("--sha256", arguments.sha256, "The encoder's name has a hash already; leave one of them out.")
    name = f"{arguments.encoder}#{arguments.sha256}" if arguments.sha256 else encoding.named(arguments.encoder)
    dense = _dense(name) if name else None
    reports: list[evaluation.Report] = []
    for corpus in corpora.read(Path(arguments.folder)):
        reports.append(_measured(corpus, arguments, model, dense))
        if arguments.json:
            output.line(reports[-1].record())
        else:
            _print(reports[-1])
    if arguments.refit:
        seen = [case for report in reports for case in report.cases]
        fitted = calibration.fit([case[:2] for case in seen], counts=[case.weight for case in seen])
        Path(arguments.refit).write_text(fitted.model_dump_json() + "\n", "utf-8")
        output.note(f"{arguments.refit}: fitted on {fitted.cases:,} cases")
    if target is not None:
        curves = {report.corpus: report.abstention[_WORDS]["purged"].curve for report in reports}
        target.write_text(risk_coverage(curves), "utf-8")
        output.note(f"{target}: risk by coverage")
    return OK


def _measured(
    corpus: corpora.Corpus,
    arguments: argparse.Namespace,
    model: calibration.Calibration,
    dense: Callable[[], dict[str, Matcher]] | None,
) -> evaluation.Report:
    """What the matchers come to on one corpus: each as it is, and after what was served or written for its capabilities."""
    for said in corpus.odd:
        output.note(f"{corpus.name}: {said}")
    later: dict[str, corpora.Corpus] = {}
    matchers: dict[str, Matcher] = {_WORDS: LexicalMatcher()}
    small: list[Callable[[], Matcher]] = [LexicalMatcher]
    fusions = {"RRF": (_WORDS, _BM25)}
    if arguments.served:
        corpus, later[_SERVED] = corpora.learned(corpus, arguments.served, arguments.seed)
    if corpus.examples:
        later[_WRITTEN] = corpus.illustrated()
    matchers |= {name: LexicalMatcher() for name in later}
    if dense is not None:
        matchers |= dense()
        small.append(lambda: dense()[_BOTH])
        fusions["RRF of dense"] = (_MEANINGS, _BM25)
        both = {name.replace(_WORDS, _BOTH, 1): grown for name, grown in later.items()}
        matchers |= {name: dense()[_BOTH] for name in both}
        later |= both
    say = _progress()
    report = evaluation.evaluate(
        corpus, matchers, limit=arguments.limit, seed=arguments.seed, say=say, calibration=model,
        fusions=fusions, small=small if arguments.refit else (), later=later, fitted=(_WORDS, _BOTH),
    )  # fmt: skip
    say("")
    return report


class _Kept:
    """Vectors of this run, so that no text is encoded twice. A :class:`~registry.matching.hybrid.VectorStore`."""

    def __init__(self) -> None:
        self._vectors: dict[tuple[str, str], bytes] = {}

    def get(self, identity: str, hashes: Sequence[str]) -> list[bytes | None]:
        return [self._vectors.get((identity, each)) for each in hashes]

    def put(self, identity: str, vectors: Sequence[tuple[str, bytes]]) -> None:
        self._vectors.update({(identity, each): vector for each, vector in vectors})


def _dense(name: str) -> Callable[[], dict[str, Matcher]]:
    """Makes empty matchers by meaning and by both, with an encoder.

    Raises:
        BadInput: see :func:`arbiter.encoding.encoder`.
    """
    from registry.matching.hybrid import HybridMatcher

    encoder, kept = encoding.encoder(name), _Kept()
    everything = sys.maxsize
    return lambda: {
        _MEANINGS: HybridMatcher(encoder, kept, at_once=everything, words=0),
        _BOTH: HybridMatcher(encoder, kept, at_once=everything),
    }


def _read(path: str) -> calibration.Calibration:
    try:
        return calibration.Calibration.model_validate(strict_json.loads(Path(path).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput("--calibration", path, f"Give a file that --refit wrote; {error}.") from None


def _progress() -> Callable[[str], None]:
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _print(report: evaluation.Report) -> None:
    console = output.console()
    console.print(Text(f"{report.corpus}: {report.capabilities:,} capabilities, {report.queries:,} needs", "bold"))
    text, number = {"whole": True}, {"whole": True, "justify": "right"}
    more = {**number, "spare": True}
    head: list[tuple[str, dict[str, Any]]] = [
        ("RANKING", text), *((name, number if at < _NEEDED else more) for at, name in enumerate(_COLUMNS)),
    ]  # fmt: skip
    rows: list[list[str | Text]] = []
    for name, ranking in report.rankings.items():
        cells = [ranking.values[column] for column in _COLUMNS]
        rows.append([name, *(f"{value:.3f} ({low:.2f}-{high:.2f})" for value, low, high in cells)])
    output.print_table(head, rows)
    head = [
        ("NOTHING FITS", text), ("AUROC", number), ("RIGHT", number), ("BEST F1", more), ("CALIBRATION ERROR", more),
        ("USED, RIGHT", more), ("ASKED, RIGHT", more), ("FABRICATED, RIGHT", more), ("COST", number),
    ]  # fmt: skip
    rows = []
    for name, kinds in report.abstention.items():
        for kind, each in kinds.items():
            numbers = [f"{number:.3f}" for number in (each.auroc, each.right, each.best_f1, each.error)]
            bands = [f"{band.share:.2f}, {band.right:.2f}" for band in (each.used, each.asked, each.fabricated)]
            rows.append([f"{kind}, {name}", *numbers, *bands, f"{each.cost:.3f}"])
    output.print_table(head, rows)
    if report.composing:
        head = [("SEVERAL NEEDED", text), *((name, number) for name in ("NEEDS", "COMPOSED", "RIGHT", "COST"))]
        rows = [
            [name, f"{each.needs:,}", f"{each.composed:.3f}", f"{each.right:.3f}", f"{each.cost:.3f}"]
            for name, each in report.composing.items()
        ]
        output.print_table(head, rows)
