"""Runs and capabilities as plain records for other programs: what ``--json`` prints and the HTTP API answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arbiter.fold import RunState, Task
from arbiter.following import Following, followed, succeeded
from blackboard.budgets import UnitReport
from blackboard.types import RunSummary, Status
from registry import Registry, SignatureRefused, Version

Counts = dict[str, dict[Status, int]]
"""Content hash to status to number of tasks."""


def summary_record(run: RunSummary) -> dict[str, Any]:
    """A line of a listing, for programs."""
    return {**run.model_dump(mode="json", exclude={"id"}), "run_id": run.id}


def run_record(state: RunState, *, whole: bool = False) -> dict[str, Any]:
    """A run for programs: how it ended and what it took; with ``whole`` also rounds and tasks."""
    work = state.work
    record: dict[str, Any] = {
        "run_id": state.run_id,
        "status": state.status,
        "answer": state.answer,
        "error": state.error.model_dump(mode="json") if state.error else None,
        "seconds": state.seconds,
        "rounds": len(state.rounds),
        "tasks": sum(task.kind == "capability" for task in work),
        "fabrications": sum(task.kind == "fabrication" for task in work),
        "usage": state.usage.model_dump(mode="json"),
        "sources": [*state.taint],
        "model": next((turn.model for turn in reversed(state.rounds) if turn.model), None),
    }
    if state.call:
        record |= {"call": state.call.model_dump(mode="json"), "data": state.data}
    if whole and state.plan:
        record["plan"] = [*state.plan]
    if state.redrive_of:
        record["redrive_of"] = state.redrive_of
    if state.rerun_of:
        record["rerun_of"] = state.rerun_of.run
    if whole:
        record |= {
            "request": state.request,
            "tenant": state.tenant,
            "limits": state.limits.model_dump(mode="json"),
            "accepted_at": state.accepted_at.isoformat() if state.accepted_at else None,
            "ended_at": state.ended_at.isoformat() if state.ended_at else None,
            "paused": state.paused.model_dump(mode="json") if state.paused and state.status == "paused" else None,
            "pins": state.pins,
            "agenda": state.agenda.model_dump(mode="json") if state.agenda else None,
            "round_list": [_round_record(state, number) for number in range(len(state.rounds))],
            "task_list": [_task_record(task) for task in work],
            "step_list": [_step_record(plan, key) for plan in followed(state) for key in plan.steps],
        }
    return record


def cost_record(account: UnitReport | None) -> dict[str, Any]:
    """``cost`` of a run in millionths, where something bounds it and its account is there."""
    return {} if account is None else {"cost": {**account.model_dump(mode="json"), "left": account.left}}


def _round_record(state: RunState, number: int) -> dict[str, Any]:
    turn = state.rounds[number]
    return {
        "round": turn.number,
        "at": turn.at.isoformat(),
        "message": turn.message,
        "calls": [call.model_dump(mode="json") for call in turn.calls],
        "usage": turn.usage.model_dump(mode="json"),
        "model": turn.model,
        "attending": turn.attending,
        "considered": list(turn.considered),
        "matches": list(turn.matches),
        "sources": [*turn.taint],
    }


def _task_record(task: Task) -> dict[str, Any]:
    return {
        "task": task.id,
        "key": task.key,
        "kind": task.kind,
        "capability": task.capability,
        "version": task.version,
        "round": task.round,
        "state": task.state,
        "attempts": task.attempts,
        "after": list(task.after),
        "posted_at": task.posted_at.isoformat(),
        "ended_at": task.ended_at.isoformat() if task.ended_at else None,
        "input": task.input,
        "sources": [*task.taint],
        "completion": task.completion.model_dump(mode="json") if task.completion else None,
        "retries": [error.model_dump(mode="json") for error in task.retries],
        "stages": [stage.model_dump(mode="json") for stage in task.stages],
        "activation": task.activation,
        "asked": task.for_person and task.for_person.model_dump(mode="json", exclude={"task", "input"}),
        "awaited": task.for_outside and task.for_outside.model_dump(mode="json", exclude={"task"}),
    }


def _step_record(plan: Following, key: str) -> dict[str, Any]:
    one = plan.steps[key]
    why = one.error.message if one.standing == "failed" else one.said.why if one.said is not None else ""
    return {
        "round": plan.turn.number,
        "key": key,
        "capability": one.step.capability,
        "state": one.standing,
        "why": why,
        "after": sorted(plan.plan.waits(key) & plan.steps.keys()),
        "items": one.said.items if one.said is not None and one.said.state == "mapped" else None,
        "tasks": [task.id for task in one.tasks],
        "succeeded": sum(succeeded(task) for task in one.tasks),
        "failed": len(one.failures),
        "wait_seconds": one.step.wait_seconds,
    }


def version_record(version: Version, counts: Mapping[str, Mapping[Status, int]]) -> dict[str, Any]:
    """A line of a listing of capabilities, with how its tasks ended."""
    return {
        "name": version.name,
        "sha": version.sha,
        "state": version.state,
        "retired_by": version.retired_by or None,
        "retired_for": version.retired_for,
        "kind": version.manifest.kind,
        "effects": version.manifest.effects,
        "lane": version.manifest.action,
        "tenant": version.manifest.tenant,
        "description": version.manifest.description,
        "artifact_sha": version.artifact_sha,
        "created_at": version.created_at,
        "examined": version.exam.passed if version.exam else None,
        "outcomes": {status.value: number for status, number in counts.get(version.sha, {}).items()},
    }


async def standing_record(registry: Registry, version: Version) -> dict[str, Any] | None:
    """Who signed a version and whether that counts; None for what has no code."""
    if version.artifact_sha is None:
        return None
    refused: str | None = None
    try:
        await registry.load(version.name, version.sha)
    except SignatureRefused as error:
        refused = str(error)
    signature = version.signature
    if signature is None:
        return {"key": None, "created_at": None, "by": None, "counts": False, "refused": refused}
    key = (await registry.trust.read()).keys.get(signature.key)
    by = f"{key.note or 'trusted'}, by {key.by}" if key else None
    return {
        "key": signature.key, "created_at": signature.created_at, "by": by, "counts": refused is None, "refused": refused
    }  # fmt: skip


def by_name(outcomes: Mapping[str, int]) -> dict[str, Counts]:
    """The board's counters as name to content hash to status to number."""
    counted: dict[str, Counts] = {}
    for field, number in outcomes.items():
        name, _, rest = field.partition("|")
        sha, _, status = rest.partition("|")
        counted.setdefault(name, {}).setdefault(sha, {})[Status(status)] = number
    return counted
