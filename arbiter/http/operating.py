"""Dead letters, capabilities and approvals, budgets and quotas, the audit, and what a token opens."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.http import operating_answers as answers
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, Flag, Number, Option, gives, takes
from arbiter.http.runs import AFTER, WHERE
from arbiter.overview import CapabilityRow, overview
from arbiter.records import by_name, standing_record, version_record
from blackboard.audit import Audit
from blackboard.dead_letters import FullLetter, Letter, Where
from blackboard.errors import BadInput, UnknownRecord
from blackboard.tokens import Token
from blackboard.types import Record
from registry import Version, suspects

MOST = 1000
"""Most letters or records of one request."""
_LIMIT = Number("limit", default=50, most=MOST)
_SHA = Option("sha", "Of the version; default: the active one, else the latest.")
_EVERY = Flag("every", "Versions that are not offered as well.")
_LEVEL = Option("level", "Those named; default: all that were given a budget.", many=True)


class NamedLetters(Record):
    ids: tuple[str, ...] = Field(default=(), max_length=MOST)
    where: str | None = None
    limit: int = Field(default=100, ge=1, le=MOST)
    """With ``where``: stop after so many."""


class Redriving(NamedLetters):
    again: bool = False
    same_version: bool = False
    rerun: bool = False
    dry_run: bool = False


class VersionApproval(Record):
    sha: str | None = None
    sources: tuple[str, ...] = ()
    """Those of the listing: what is not trusted and had it made, seen by whoever approves."""


class VersionRefusal(Record):
    sha: str | None = None
    reason: str = Field(default="", max_length=1000)


# ---- dead letters ------------------------------------------------------------------------------------------------------


@gives(Answer(answers.Letters), options=(WHERE, _LIMIT, AFTER))
async def letters(asked: Asked) -> Response:
    """The latest letters that are meant, newest first."""
    where = _confined(asked.token, asked.request.query_params.get("where", ""))
    if where is None:
        return JSONResponse({"letters": [], "after": None})
    page = await asked.client.dead_letters.list(
        where, limit=_LIMIT.of(asked.request), after=asked.request.query_params.get("after")
    )
    return JSONResponse({"letters": [each.model_dump(mode="json") for each in page.letters], "after": page.after})


@gives(Answer(FullLetter))
async def letter(asked: Asked) -> Response:
    """A letter with payload, attempts and reasons."""
    id = asked.path("letter")
    await _letter(asked, id)
    dead = asked.client.dead_letters
    full = await dead.get(id)
    return JSONResponse({**full.model_dump(mode="json"), "payload": await dead.payload(full)})


@takes(Redriving, Answer(answers.AllRedriven))
async def redrive(asked: Asked, said: Redriving) -> Response:
    """Put letters back, each as a run of its own; tells of each what became of it."""
    dead, done = asked.client.dead_letters, list[dict[str, Any]]()
    for id in _named(said):
        await _letter(asked, id)
        if said.dry_run:
            done.append({"letter": id, "run_id": None, "problem": ""})
            continue
        run_id = await dead.redrive(id, same_version=said.same_version, again=said.again, rerun=said.rerun)
        done.append({"letter": id, "run_id": run_id, "problem": ""})
    where = None if said.where is None else _confined(asked.token, said.where)
    if where is not None:
        async for one in dead.redrive_where(
            where,
            same_version=said.same_version,
            again=said.again,
            rerun=said.rerun,
            limit=said.limit,
            dry_run=said.dry_run,
        ):
            done.append({"letter": one.letter.id, "run_id": one.run_id, "problem": one.problem})
    return JSONResponse({"redriven": done})


@takes(NamedLetters, Answer(answers.Discarded))
async def discard(asked: Asked, said: NamedLetters) -> Response:
    """Forget letters."""
    dead, ids = asked.client.dead_letters, _named(said)
    for id in ids:
        await _letter(asked, id)
    where = None if said.where is None else _confined(asked.token, said.where)
    if where is not None:
        ids = [each.id for each in (await dead.list(where, limit=said.limit)).letters]
    return JSONResponse({"discarded": await dead.discard(*ids, by=asked.by)})


def _named(said: NamedLetters) -> list[str]:
    if bool(said.ids) == (said.where is not None):
        raise BadInput("ids", list(said.ids), "Give ids, or where, and not both.")
    return list(said.ids)


def _confined(token: Token, text: str) -> Where | None:
    """The filter within what a token sees; None where that is nothing."""
    where = Where.parse(text)
    if token.tenant is None:
        return where
    if where.tenant and token.tenant not in where.tenant:
        return None
    return where.model_copy(update={"tenant": (token.tenant,)})


async def _letter(asked: Asked, id: str) -> Letter:
    found = await asked.client.dead_letters.header(id)
    if asked.token.tenant not in (None, found.tenant):
        raise UnknownRecord("UNKNOWN", f"no dead letter {id} on this board")
    return found


# ---- capabilities ------------------------------------------------------------------------------------------------------


@gives(Answer(answers.Capabilities), options=(_EVERY,))
async def capabilities(asked: Asked) -> Response:
    """What the board can do; with ``every`` also versions that are not offered."""
    registry, every, tenant = asked.client.registry, _EVERY.of(asked.request), asked.token.tenant
    counts = by_name(await asked.board.outcomes())
    known = {(row.name, row.sha): row for row in await overview(registry, tenant, every=every)}
    if every:
        found = [each for name in {name for name, _ in known} for each in await registry.versions(name)]
    else:
        found = [*await registry.list(tenant), *(each.version for each in await registry.trials())]
    listed = [
        {
            **version_record(version, counts.get(version.name, {})),
            **_fared(known.get((version.name, version.sha))),
            "input_schema": dict(version.manifest.input_schema),
        }
        for version in sorted(found, key=lambda version: (version.name, version.created_at))
        if version.visible_to(tenant)
    ]
    return JSONResponse({"capabilities": listed})


def _fared(row: CapabilityRow | None) -> dict[str, Any]:
    """How a version fares; nothing where it came between two reads."""
    if row is None:
        return {}
    said = row.model_dump(mode="json", include={"health", "why", "calls", "success", "seconds", "tokens"})
    return {"version_count": row.versions, **said}


@gives(Answer(answers.Capability), options=(_SHA,))
async def capability(asked: Asked) -> Response:
    """One capability: manifest, versions, how its canary stands, exam record, signature, code."""
    registry, name = asked.client.registry, asked.path("name")
    versions = await registry.versions(name)
    if not versions[-1].visible_to(asked.token.tenant):
        raise UnknownRecord("UNKNOWN", f"there is no capability {name!r}")
    sha = asked.request.query_params.get("sha")
    version = next((each for each in versions if each.state == "active"), versions[-1])
    if sha is not None:
        version = _version(versions, name, sha)
    counts = await registry.outcomes(name)
    trial = next((each for each in await registry.trials() if each.version.name == name), None)
    return JSONResponse(
        {
            **version_record(version, counts),
            "manifest": version.manifest.model_dump(mode="json"),
            "exam": version.exam.model_dump(mode="json") if version.exam else None,
            "signature": await standing_record(registry, version),
            "versions": [version_record(each, counts) for each in versions],
            "trial": trial
            and {"sha": trial.version.sha, "share": trial.share, "missing": trial.missing, "said": str(trial)},
            "source": await registry.source(version) if version.artifact_sha is not None else None,
        }
    )


def _version(versions: list[Version], name: str, sha: str) -> Version:
    found = [each for each in versions if each.sha == sha]
    if not found:
        raise UnknownRecord("UNKNOWN", f"{name} has no version {sha!r}")
    return found[0]


@gives(Answer(answers.WaitingVersions))
async def approvals(asked: Asked) -> Response:
    """What waits for a person to approve its grants."""
    found = [each for each in await asked.client.registry.waiting() if _owned(asked.token, each)]
    waiting = [
        {
            **version_record(version, {}),
            "grants": version.manifest.grants.model_dump(mode="json"),
            "sources": [*suspects(version.manifest)],
        }
        for version in found
    ]
    return JSONResponse({"waiting": waiting})


@takes(VersionApproval, Answer(answers.Version))
async def approve(asked: Asked, said: VersionApproval) -> Response:
    """Approve the grants of a version: it is signed with this process's key, and offered."""
    name = asked.path("name")
    await _own(asked, name)
    version = await asked.client.registry.approve(name, said.sha, sources=said.sources, by=asked.by)
    return JSONResponse(version_record(version, {}))


@takes(VersionRefusal, Answer(answers.Version))
async def refuse(asked: Asked, said: VersionRefusal) -> Response:
    """Refuse the grants of a version: it never runs."""
    name = asked.path("name")
    await _own(asked, name)
    version = await asked.client.registry.refuse(name, said.sha, reason=said.reason, by=asked.by)
    return JSONResponse(version_record(version, {}))


def _owned(token: Token, version: Version) -> bool:
    # What every tenant may use is not one tenant's to approve.
    return token.tenant in (None, version.manifest.tenant)


async def _own(asked: Asked, name: str) -> None:
    if not _owned(asked.token, (await asked.client.registry.versions(name))[-1]):
        raise UnknownRecord("UNKNOWN", f"no version of {name} waits for approval")


# ---- limits, audit, token ------------------------------------------------------------------------------------------------


@gives(Answer(answers.Budgets), options=(_LEVEL,))
async def budgets(asked: Asked) -> Response:
    """What levels may spend, have spent and hold: those named, else all that were given a budget."""
    found = await asked.client.budgets(*asked.request.query_params.getlist("level"))
    tenant = asked.token.tenant
    mine = (f"tenant:{tenant}", f"tenant:{tenant}/day")
    return JSONResponse(
        {"budgets": [each.model_dump(mode="json") for each in found if tenant is None or each.level in mine]}
    )


@gives(Answer(answers.Quotas))
async def quotas(asked: Asked) -> Response:
    """Quotas with what is in use."""
    found, tenant = await asked.client.quotas.report(), asked.token.tenant
    return JSONResponse(
        {
            "quotas": [
                {**one.quota.model_dump(mode="json"), "used": one.model_dump(mode="json", exclude={"quota"})}
                for one in found
                if tenant is None or one.quota.subject == f"tenant:{tenant}"
            ]
        }
    )


@gives(Answer(answers.AuditRecords), options=(WHERE, _LIMIT, AFTER))
async def audit(asked: Asked) -> Response:
    """The latest records of the audit that are meant, newest first."""
    page = await Audit(asked.board).list(
        asked.request.query_params.get("where", ""),
        limit=_LIMIT.of(asked.request),
        after=asked.request.query_params.get("after"),
    )
    return JSONResponse({"entries": [each.model_dump(mode="json") for each in page.entries], "after": page.after})


@gives(Answer(answers.TokenState))
async def token(asked: Asked) -> Response:
    """What the token that was shown opens, and until when."""
    said = asked.token.model_dump(mode="json", include={"id", "name", "scopes", "tenant", "expires_at"})
    board = asked.board
    return JSONResponse({**said, "by": asked.by, "board": f"{board.namespace}/{board.name}"})
