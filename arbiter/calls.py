"""Direct calls: one capability, durably, without a model. Checked against the registry before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

from pydantic import JsonValue

from blackboard.board import Board
from blackboard.errors import BadInput, UnknownRecord
from blackboard.taint import PERSON, Taint
from blackboard.types import Limits, RetryPolicy
from registry import Registry, Version, validate_input


@dataclass(frozen=True, slots=True)
class Call:
    """A request that needs no planning: ``await a.run(Call("price", {"item": "box", "quantity": 12}))``.

    Args:
        capability: name of what is called.
        input: as its input schema says.
        version: content hash of the version to call. Default: the one that is active when the call is submitted, or its canary,
            for that one's share of the calls.
        priority: 0 to 9 among the waiting tasks of the tenant; higher first.
        retry: when a failed attempt is repeated. Default: what the manifest says.
    """

    capability: str
    input: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    version: str | None = None
    priority: int = 5
    retry: RetryPolicy | None = None


async def submit(
    board: Board,
    registry: Registry,
    call: Call,
    *,
    tenant: str,
    idempotency_key: str | None,
    limits: Limits,
    redrive_of: str | None = None,
    durable: bool = False,
    taint: Taint = (PERSON,),
) -> str:
    """Accept a call as a run.

    The version is settled here. A key that was used before for the same call finds its run even if the capability has
    changed or is gone meanwhile.

    Raises:
        BadInput: no such capability or version for this tenant, or an input that does not fit its schema.
        Conflict: the key belongs to a different request.
    """
    given = cast(JsonValue, dict(call.input) if isinstance(cast(object, call.input), Mapping) else call.input)
    try:
        version = await _checked(registry, call, given, tenant, idempotency_key or uuid4().hex)
    except BadInput:
        if idempotency_key is None:
            raise
        known = await board.known_call(
            call.capability, given, asked_version=call.version, tenant=tenant, idempotency_key=idempotency_key
        )
        if known is None:
            raise
        return known
    manifest = version.manifest
    return await board.submit_call(
        call.capability, given, lane=manifest.action, version=version.sha, asked_version=call.version, tenant=tenant,
        idempotency_key=idempotency_key, limits=limits, priority=call.priority, retry=call.retry or manifest.retry,
        attempt_seconds=manifest.limits.attempt_seconds, redrive_of=redrive_of, durable=durable,
        taint=taint,
    )  # fmt: skip


async def _checked(registry: Registry, call: Call, given: JsonValue, tenant: str, key: str) -> Version:
    name = call.capability
    try:
        version = await registry.resolve(name, call.version)
    except UnknownRecord as error:
        said = error.detail if error.detail.endswith((".", "?")) else f"{error.detail}."
        raise BadInput("call.capability", name, f"{said[:1].upper()}{said[1:]}") from None
    if not version.visible_to(tenant):
        raise BadInput("call.capability", name, f"There is no such capability for tenant {tenant!r}.")
    if call.version is None:
        version = await registry.tried(version, key)
    found = validate_input(version.manifest, given)
    if found or not isinstance(given, dict):
        problems = "; ".join(found) or "not an object"
        raise BadInput("call.input", given, f"It does not fit the input schema of {name}: {problems}")
    return version
