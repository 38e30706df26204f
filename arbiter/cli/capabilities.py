"""The commands about capabilities: the table, and one of them in full."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from arbiter import encoding, narration
from arbiter.cli import OK, options, output
from arbiter.display import percent
from arbiter.overview import CapabilityRow, overview
from arbiter.records import Counts, by_name, standing_record, version_record
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.types import Status
from registry import LexicalMatcher, Registry, Signer, Version, suspects
from registry.matching.duplicates import contradictions

_STYLES = {"failing": "red", "away": "yellow", "unsigned": "yellow"}


async def listing(arguments: argparse.Namespace) -> int:
    """List what the board can do."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog, board.outcomes, spent=board.spent, ended=board.ended)
        rows = await overview(registry, arguments.tenant, every=arguments.all)
        counts = by_name(await board.outcomes())
        known = (
            {}
            if not arguments.json
            else {(row.name, row.sha): await registry.resolve(row.name, row.sha) for row in rows}
        )
        unreadable = dict(registry.unreadable)
    if arguments.json:
        for row in rows:
            version = known[row.name, row.sha]
            output.line({**version_record(version, counts.get(row.name, {})), **_did(row)})
    elif rows:
        right = {"justify": "right"}
        head: list[tuple[str, dict[str, Any]]] = [
            ("NAME", {"whole": True}), ("VERSION", {"whole": True}), ("STATE", {}), ("KIND", {"spare": True}),
            ("EFFECTS", {"spare": True}), ("CALLS", right), ("SUCCESS", right), ("TAKES", right), ("HEALTH", {}),
            ("DESCRIPTION", {"spare": True}),
        ]  # fmt: skip
        output.print_table(head, [_row(row) for row in rows])
        for row in rows:
            if row.state == "canary":
                output.note(f"{row.name} {row.sha[:12]}: {row.why}")
    else:
        output.note("no capabilities on this board")
    for name, why in unreadable.items():
        output.note(f"warning: {name} is not offered: {narration.one_line(why, 300)}")
    return OK


async def search(arguments: argparse.Namespace) -> int:
    """Say which capabilities fit a need, how well, why, and what the matcher would do."""
    async with await Board.open(**options.place(arguments)) as board:
        matcher = await encoding.matcher(board, arguments.encoder, arguments.namespace, arguments.board)
        matcher = matcher if matcher is not None else LexicalMatcher()
        registry = Registry(board.catalog, board.outcomes, matcher, spent=board.spent)
        async with output.progress(lambda: f"reading what there is: {len(matcher):,} capabilities"):
            if not arguments.need.strip():
                raise BadInput("need", arguments.need, "Say in words what is to be done.")
            decision, found = await registry.find(
                arguments.need, k=arguments.limit, tenant=arguments.tenant, goal=arguments.goal
            )
    if arguments.json:
        matches = [{"name": each.name, "score": each.score, "reasons": list(each.reasons)} for each in found]
        output.line({"found": matches, "decision": decision.model_dump(mode="json")})
        return OK
    rows: list[list[str | Text]] = [
        [f"{each.score:.3f}", each.name, "; ".join(each.reasons),
         narration.one_line(each.version.manifest.description, 200)]
        for each in found
    ]  # fmt: skip
    head: list[tuple[str, dict[str, Any]]] = [
        ("SCORE", {"justify": "right"}), ("NAME", {"whole": True}), ("WHY", {"min_width": 20}), ("DESCRIPTION", {}),
    ]  # fmt: skip
    if rows:
        output.print_table(head, rows)
    for said in decision.left_out:
        output.note(f"left out: {narration.one_line(said, 300)}")
    chosen = f" {', '.join(decision.chosen)}" if decision.chosen else ""
    why = f": {decision.doubts}" if decision.doubts else ""
    output.note(f"the matcher would {decision.outcome}{chosen} (p {decision.probability:.2f}){why}")
    return OK


async def duplicates(arguments: argparse.Namespace) -> int:
    """List capabilities that are nearly the same, and manifests that contradict themselves."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog)
        said = ["reading what there is"]

        def told(done: int, of: int) -> None:
            said[0] = f"{done:,} of {of:,} capabilities compared"

        async with output.progress(lambda: said[0]):
            groups = await registry.clusters(least=arguments.least, told=told)
        odd = {version.name: contradictions(version.manifest) for version in await registry.list()}
    for names, likeness in groups:
        if arguments.json:
            output.line({"names": list(names), "likeness": round(likeness, 4)})
        else:
            output.console().print(Text(f"{likeness:.2f} the same: {', '.join(names)}"), soft_wrap=True)
    for name, said in odd.items():
        for each in said:
            if arguments.json:
                output.line({"name": name, "contradiction": each})
            else:
                output.console().print(Text(f"{name}: {narration.one_line(each, 300)}"), soft_wrap=True)
    if not groups and not any(odd.values()):
        output.note("no two capabilities are nearly the same, and none contradicts itself")
    return OK


async def show(arguments: argparse.Namespace) -> int:
    """Show one capability: manifest, versions, exam record, code."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog, board.outcomes, spent=board.spent)
        versions = await registry.versions(arguments.name)
        version = _chosen(versions, arguments.sha)
        counts = await registry.outcomes(arguments.name)
        source = await registry.source(version) if version.artifact_sha is not None else None
        standing = await standing_record(registry, version)
        served = await registry.lessons(version.name)
        written = await registry.example_needs(version.name) if version.state == "active" else None
    if arguments.json:
        output.line(
            {
                **version_record(version, counts),
                "manifest": version.manifest.model_dump(mode="json"),
                "exam": version.exam.model_dump(mode="json") if version.exam else None,
                "signature": standing,
                "versions": [version_record(each, counts) for each in versions],
                "served": {tenant: list(needs) for tenant, needs in sorted(served.items())},
                "example_needs": written._asdict() if written else None,
                "source": source,
            }
        )
        return OK
    console = output.console()
    _print(console, version, versions, counts, source, standing)
    if served:
        console.print(Text("\nNeeds it served", "bold"))
    for tenant, needs in sorted(served.items()):
        for need in needs:
            console.print(Text(f"{tenant}: {narration.one_line(need, 400)}"), soft_wrap=True)
    if written:
        by = f"written by {narration.one_line(written.model, 100)} on {narration.moment(written.at)}, not served"
        console.print(Text.assemble(("\nExample needs", "bold"), f", {by}"))
        for need in written.needs or ["none that could be used"]:
            console.print(Text(narration.one_line(need, 200)), soft_wrap=True)
    return OK


async def sign(arguments: argparse.Namespace) -> int:
    """Vouch for a version with this user's key."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog, signer=functools.partial(Signer.find, None, arguments.data_dir))
        version = _chosen(await registry.versions(arguments.name), arguments.sha)
        signed = await registry.sign(version.name, version.sha)
    if warning := _suspected(version):
        output.note(f"warning: {version.name} {version.sha[:12]}{warning}")
    key = signed.signature.key if signed.signature else ""
    output.note(f"{version.name} {version.sha[:12]} is signed with key {key}")
    return OK


async def approve(arguments: argparse.Namespace) -> int:
    """Approve the grants of a version that waits for it."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog, signer=functools.partial(Signer.find, None, arguments.data_dir))
        sha = None if arguments.sha is None else _chosen(await registry.versions(arguments.name), arguments.sha).sha
        version = await registry.approve(arguments.name, sha, sources=arguments.source)
    output.note(f"{version.name} {version.sha[:12]} is offered from now on, with {_asked(version)}")
    return OK


async def refuse(arguments: argparse.Namespace) -> int:
    """Refuse the grants of a version that waits for approval."""
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog)
        sha = None if arguments.sha is None else _chosen(await registry.versions(arguments.name), arguments.sha).sha
        version = await registry.refuse(arguments.name, sha, reason=arguments.reason)
    output.note(f"{version.name} {version.sha[:12]} is refused: it never runs")
    return OK


async def waiting(arguments: argparse.Namespace) -> int:
    """List what waits for approval of its grants."""
    async with await Board.open(**options.place(arguments)) as board:
        found = await Registry(board.catalog).waiting()
    for version in found:
        if arguments.json:
            grants = version.manifest.grants.model_dump(mode="json")
            output.line({**version_record(version, {}), "grants": grants, "sources": [*suspects(version.manifest)]})
        else:
            line = f"{version.name} {version.sha[:12]} asks for {_asked(version)}{_suspected(version)}"
            output.console().print(Text(narration.one_line(line, 500)), soft_wrap=True)
    if not found and not arguments.json:
        output.note("nothing waits for approval")
    return OK


def _asked(version: Version) -> str:
    grants = version.manifest.grants.model_dump(mode="json", exclude_defaults=True)
    return narration.one_line(json.dumps(grants, ensure_ascii=False), 400)


def _suspected(version: Version) -> str:
    found = suspects(version.manifest)
    return f"; content from {narration.sources(found)}, which is not trusted, asked for it" if found else ""


async def activate(arguments: argparse.Namespace) -> int:
    """Offer a version in place of the one that is active."""
    share = arguments.canary
    if share is None:
        return await _moved(arguments, Registry.activate, "is offered from now on")
    tried = functools.partial(Registry.activate, canary=share)
    return await _moved(arguments, tried, f"is used by {share:.3g} of the runs that begin to use it")


async def retire(arguments: argparse.Namespace) -> int:
    """Offer a version no more."""
    return await _moved(arguments, Registry.retire, "is not offered any more")


async def revoke(arguments: argparse.Namespace) -> int:
    """Let a version never run again."""
    return await _moved(arguments, Registry.revoke, "is revoked: it is not offered and never runs again")


async def _moved(arguments: argparse.Namespace, move: Callable[..., Awaitable[object]], said: str) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog, board.outcomes, triggers=board.triggers, ended=board.ended)
        version = _chosen(await registry.versions(arguments.name), arguments.sha)
        await move(registry, version.name, version.sha, reason=arguments.reason)
    output.note(f"{version.name} {version.sha[:12]} {said}")
    return OK


def _chosen(versions: list[Version], sha: str | None) -> Version:
    if sha is None:
        return next((version for version in versions if version.state == "active"), versions[-1])
    found = [version for version in versions if version.sha.startswith(sha)]
    if len(found) != 1:
        known = ", ".join(version.sha[:12] for version in versions)
        raise BadInput(
            "--sha", sha, f"{'Several versions begin' if found else 'No version begins'} like this: {known}."
        )
    return found[0]


def _print(
    console: Console,
    version: Version,
    versions: list[Version],
    counts: Counts,
    source: str | None,
    standing: dict[str, Any] | None,
) -> None:
    def heading(words: str) -> None:
        console.print(Text(f"\n{words}", "bold"))

    manifest = version.manifest
    console.print(Text.assemble((version.name, "bold"), f"  {version.sha[:12]}  {_state(version)}"))
    console.print(Text(narration.printable(manifest.description)))
    heading("Manifest")
    fields = manifest.model_dump(mode="json", exclude={"name", "description"})
    console.print(_code(json.dumps(fields, indent=2, ensure_ascii=False), "json"))
    heading("Versions")
    rows: list[list[str | Text]] = [
        [
            each.sha[:12],
            _state(each),
            narration.moment(each.created_at),
            output.exam_line(each),
            _ended(counts.get(each.sha, {})),
        ]
        for each in versions
    ]
    head: list[tuple[str, dict[str, Any]]] = [
        (name, {}) for name in ("VERSION", "STATE", "REGISTERED", "EXAM", "TASKS")
    ]
    output.print_table(head, rows)
    heading("Exam")
    exam = version.exam
    if exam is None:
        console.print(f"none: a {manifest.kind} is the program's own code" if manifest.kind != "artifact" else "none")
    else:
        examiner = narration.one_line(exam.examiner, 100) or "unknown"
        console.print(Text(f"{output.exam_line(version)}, on {narration.moment(exam.when)}, by {examiner}"))
        for said in exam.failures:
            console.print(Text(f"  {narration.one_line(said, 300)}", "red"))
    heading("Signature")
    if standing is None:
        console.print(f"none: a {manifest.kind} is the program's own code")
    elif standing["key"] is None:
        console.print("none")
    else:
        console.print(Text(f"key {standing['key']}, on {narration.moment(standing['created_at'])}"))
        if standing["by"]:
            console.print(Text(f"  {narration.one_line(standing['by'], 300)}"))
    if standing is not None and standing["refused"]:
        console.print(Text(f"  {narration.one_line(standing['refused'], 500)}", "red"))
    heading("Code")
    console.print(
        _code(source, "python") if source is not None else f"in the program that serves lane {manifest.action}"
    )


def _state(version: Version) -> str:
    by = f" by {narration.one_line(version.retired_by, 60)}" if version.retired_by else ""
    return f"{version.state}{by}"


def _code(text: str, language: str) -> Syntax:
    return Syntax(narration.printable(text), language, theme="ansi_dark", background_color="default", word_wrap=True)


def _did(row: CapabilityRow) -> dict[str, Any]:
    return row.model_dump(mode="json", include={"versions", "calls", "success", "seconds", "tokens", "health", "why"})


def _row(row: CapabilityRow) -> list[str | Text]:
    return [
        row.name,
        f"{row.sha[:12]} of {row.versions}" if row.versions > 1 else row.sha[:12],
        row.state,
        row.kind,
        row.effects,
        str(row.calls or ""),
        percent(row.success),
        narration.seconds(row.seconds) if row.seconds is not None else "",
        Text(row.health, _STYLES.get(row.health, "")),
        narration.one_line(row.description, 200),
    ]


def _ended(counts: Mapping[Status, int]) -> str:
    return ", ".join(f"{number} {status.value}" for status, number in sorted(counts.items())) or "none"
