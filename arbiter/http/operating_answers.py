"""What operators are answered, as models; see :mod:`arbiter.http.answers`."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from arbiter.http.answers import flat
from blackboard import audit
from blackboard.approvals import Waiting
from blackboard.budgets import LevelReport
from blackboard.catalog_records import Behalf
from blackboard.dead_letters import Letter
from blackboard.permits import Permit
from blackboard.quotas import Quota, QuotaReport
from blackboard.tokens import Token
from blackboard.types import Record
from registry import ExamRecord, Grants, Manifest


class Letters(Record):
    letters: list[Letter]
    after: str | None


class Redriven(Record):
    letter: str
    run_id: str | None
    problem: str


class AllRedriven(Record):
    redriven: list[Redriven]


class Discarded(Record):
    discarded: int


class Version(Record):
    name: str
    sha: str
    state: str
    retired_by: str | None
    retired_for: Behalf | None
    kind: str
    effects: str
    lane: str
    tenant: str | None
    description: str
    artifact_sha: str | None
    created_at: float
    examined: bool | None
    outcomes: dict[str, int]


class Offered(Version):
    version_count: int | None = None
    health: str | None = None
    why: str = ""
    calls: int | None = None
    success: float | None = None
    seconds: float | None = None
    tokens: float | None = None
    input_schema: dict[str, JsonValue]


class Capabilities(Record):
    capabilities: list[Offered]


class SignatureState(Record):
    key: str | None
    created_at: float | None
    by: str | None
    counts: bool
    refused: str | None


class Tried(Record):
    """How a canary stands."""

    sha: str
    share: float
    missing: int | None
    said: str


class Capability(Version):
    manifest: Manifest
    exam: ExamRecord | None
    signature: SignatureState | None
    versions: list[Version]
    trial: Tried | None
    source: str | None


class WaitingVersion(Version):
    grants: Grants
    sources: list[str]


class WaitingVersions(Record):
    waiting: list[WaitingVersion]


class WaitingTasks(Record):
    waiting: list[Waiting]


class TaskArguments(Record):
    arguments: JsonValue


class TaskState(Record):
    task_id: str
    state: Literal["approved", "refused", "answered"]


class CallbackTaken(Record):
    task_id: str
    status: Literal["succeeded", "failed"]


class CallbackDue(Record):
    due_seconds: float | None


class Permits(Record):
    waiting: list[Permit]


class Budgets(Record):
    budgets: list[LevelReport]


class QuotaUse(flat(QuotaReport, without=("quota",))):
    pass


class QuotaState(flat(Quota, used=(QuotaUse, ...))):
    pass


class Quotas(Record):
    quotas: list[QuotaState]


class AuditRecord(flat(audit.Entry)):
    pass


class AuditRecords(Record):
    entries: list[AuditRecord]
    after: str | None


class TokenState(flat(Token, without=("created_at", "revoked_at", "by"), by=(str, ...), board=(str, ...))):
    pass
