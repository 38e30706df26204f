"""The registry of one board: register, find, list and retire capabilities."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue, ValidationError

from blackboard.catalog import ANY, Catalog
from blackboard.catalog_records import Behalf, Change, Verdict
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from blackboard.refusing import refused
from blackboard.trigger_index import TriggerIndex
from registry.content import canonical, sha256
from registry.illustrating import Illustrating
from registry.manifest import ExamRecord, Manifest
from registry.matching import (
    LexicalMatcher,
    Matcher,
)
from registry.matching.refit import Refit
from registry.records import Lately, Outcomes
from registry.reflecting import Reflecting
from registry.signing import Signer, somebody
from registry.versions import Version
from registry.vouching import told

_log = logging.getLogger(__name__)


class Registry(Reflecting, Illustrating):
    """What a board can do.

    Args:
        catalog: the board's storage.
        outcomes: reads the counters of ended tasks; without it :meth:`outcomes` is empty.
        matcher: ranks capabilities for :meth:`shortlist`. Default: a new :class:`LexicalMatcher`.
        signer: signs the artifacts registered here, or finds the key when the first one is. Default: this user's key, see
            :meth:`registry.signing.Signer.find`.
        clock: seconds that only grow; how versions did is read again after ten of them.
        triggers: where the board keeps what its capabilities wait for; without it they wait for nothing.
        spent: reads what successful tasks took; without it only success counts.
        ended: reads how the tasks of versions ended lately; without it :meth:`reflect` finds nothing to do.
    """

    def __init__(
        self,
        catalog: Catalog,
        outcomes: Outcomes | None = None,
        matcher: Matcher | None = None,
        signer: Signer | Callable[[], Signer] = Signer.find,
        clock: Callable[[], float] = time.monotonic,
        triggers: TriggerIndex | None = None,
        spent: Outcomes | None = None,
        ended: Lately | None = None,
    ) -> None:
        super().__init__(
            catalog,
            outcomes,
            matcher if matcher is not None else LexicalMatcher(),
            signer,
            clock,
            triggers,
            spent,
            ended,
        )

    async def register(
        self,
        manifest: Manifest,
        *,
        source: str | None = None,
        exam: ExamRecord | Mapping[str, JsonValue] | None = None,
        activate: bool = True,
        expected_active: str | None = ANY,
        operation: str | None = None,
        sign: bool = True,
        by_rule: tuple[str, Mapping[str, JsonValue]] | None = None,
        canary: float | None = None,
        unasked: bool = False,
    ) -> Version:
        """Register a version, atomically; the same content is the same version however often it is registered.

        Args:
            manifest: what it does.
            source: its code; needed for an artifact and refused for anything else.
            exam: how it did in its exam. A version that failed can be kept as a draft, not activated.
            activate: offer it from now on; the version offered until now is retired.
            expected_active: refuse unless this version is the active one (None: none is). Default: do not look.
            operation: a stable identity of this call, for a caller that may be started again and must not repeat it
                (a version that was replaced in the meantime is then left alone).
            sign: vouch for it with the key of this process. Without a signature code cannot run until somebody signs.
            by_rule: the policy that lets it have its grants without a person, in words, and what it allows: an approval in
                the audit, when this makes the version active.
            canary: with ``activate``, the share of the runs that use it at first where the active version is code that did well
                lately: that one stays the active one until :meth:`reflect` finds out more. Default: it is active at once.
            unasked: it is offered as a matter of course, as by a program at each start. So it is not made active where somebody
                has decided otherwise: a person retired the version of this name that was active, or revoked it, and no other is
                active since; or a person or reflection put another version in the place of this code, or tries it.

        Returns:
            The version as it is now.

        Raises:
            BadInput: source missing, superfluous or too large; a failed exam with ``activate``; no valid exam record.
            Conflict: the name belongs to another tenant, or another version is active than expected.
            ScriptRefused: ``UNTRUSTED`` or ``REVOKED``, the signing key does not count on this board, or the version was
                revoked.
            EngineUnavailable: the server stayed unreachable; sending the call again is safe.
        """
        if manifest.kind == "artifact" and (source is None or not source.strip()):
            raise BadInput("source", source, "Give the code of the artifact.")
        if manifest.kind != "artifact" and source is not None:
            raise BadInput("source", source, f"A {manifest.kind} lives in its program; register it without source.")
        record = _exam(exam)
        if activate and record is not None and not record.passed:
            raise BadInput("activate", True, "It failed its exam; register it with activate=False or not at all.")
        sha, artifact_sha = manifest.content_hash(source), None if source is None else sha256(source)
        sharing = None
        if activate and canary is not None and artifact_sha is not None:
            sharing, expected_active = await self._sharing(manifest.name, sha, canary, expected_active, proven=True)
        exam_text = None if record is None else canonical(record.model_dump(mode="json"))
        with told():
            written = await self._catalog.register(
                name=manifest.name,
                sha=sha,
                tenant=manifest.tenant,
                manifest=manifest.text(),
                source=source,
                artifact_sha=artifact_sha,
                exam=exam_text,
                verdict=_verdict(record),
                activate=activate,
                expected_active=expected_active or "",
                operation=operation,
                signed=await self._signed(manifest, manifest.text(), sha, artifact_sha, exam_text) if sign else None,
                by_rule=None if by_rule is None else (by_rule[0], canonical(dict(by_rule[1]))),
                canary=sharing,
                unasked=unasked,
            )
        if written.changed:
            await self._warn(manifest)
        if manifest.triggers or (written.previous and written.previous != written.sha):
            await self.declare_triggers()
        version = await self.resolve(manifest.name, written.sha)
        if unasked and activate and version.state != "active":
            by = f" by {version.retired_by}" if version.retired_by else ""
            _log.warning(
                "%s is not offered, as was decided: %s is %s%s. Activate it to offer it again.",
                version.name, version.sha[:12], version.state, by,
            )  # fmt: skip
        return version

    async def activate(
        self, name: str, sha: str, *, expected_active: str | None = ANY, reason: str = "", operation: str | None = None,
        canary: float | None = None,
    ) -> Version:  # fmt: skip
        """Make a version the active one, for example to go back to an older one; the one before is retired. On record.

        Tasks of it that have failed until now are not held against it: :meth:`reflect` judges it by those that follow.

        Args:
            canary: the share of the runs that use it; the active version stays the active one until :meth:`reflect` finds out
                more. Default: all, at once; so a canary takes its place.

        Raises:
            UnknownRecord: no such version.
            BadInput: a canary, and there is no active version with code to compare it with.
            Conflict: another version is active than expected.
            ScriptRefused: code ``EXAM``, it failed its exam; ``STATE``, it is the active one and cannot be a canary.
        """
        if canary is not None:
            if (await self.resolve(name, sha)).artifact_sha is None:
                raise BadInput("canary", canary, f"{name} {sha[:12]} lives in a program; only code is tried.")
            sharing, expected = await self._sharing(name, sha, canary, expected_active, proven=False)
            try:
                await self._catalog.set_state(
                    name, sha, "canary", expected_active=expected or "", reason=reason, operation=operation,
                    decided=("tried", somebody()), canary=sharing,
                )  # fmt: skip
            except ScriptRefused as refusal:
                if refusal.code != "ALONE":
                    raise
                remedy = f"{name} has no other active version with code to compare it with."
                raise BadInput("canary", canary, remedy) from None
            return await self.resolve(name, sha)
        (ended,) = await self._lately([(name, sha)]) if self._lately is not None else [None]
        await self._catalog.set_state(
            name, sha, "active", expected_active=expected_active or "", reason=reason, operation=operation,
            decided=("activated", somebody()), forgiven=None if ended is None else ended.failed,
        )  # fmt: skip
        await self.declare_triggers()
        return await self.resolve(name, sha)

    async def examine(self, name: str, sha: str, exam: ExamRecord, *, operation: str | None = None) -> Version:
        """Attach a passed exam to a draft, which makes it ``examined``.

        Raises:
            UnknownRecord: no such version.
            ScriptRefused: ``EXAM``, it was not passed; ``STATE``, the version is no draft.
        """
        text = canonical(exam.model_dump(mode="json"))
        stored = await self._stored(name, sha)
        with told():
            await self._catalog.set_state(
                name, sha, "examined", exam=text, verdict=_verdict(exam), operation=operation,
                signed=await self._signed(self._manifest(stored), stored.manifest, sha, stored.artifact_sha, text),
            )  # fmt: skip
        return await self.resolve(name, sha)

    async def retire(
        self,
        name: str,
        sha: str | None = None,
        *,
        reason: str = "",
        operation: str | None = None,
        by: str | None = None,
        behalf: Behalf = "person",
    ) -> Version | None:
        """Stop offering a version (default: the active one, and its canary). Runs that pinned it can still use it. On record.

        Args:
            by: who retires it. Default: the user of this process.
            behalf: for whom. What a person retires, so that no version is active, is not offered again by the program or peer
                that offers it, only by :meth:`activate` or by whoever registers a version under its name on purpose.

        Returns:
            The retired version, or None when no version was active.

        Raises:
            UnknownRecord: no such capability or version; names what is close.
        """
        try:
            written = await self._catalog.set_state(
                name,
                sha,
                "retired",
                reason=reason,
                operation=operation,
                decided=("retired", somebody() if by is None else by),
                behalf=behalf,
            )
        except UnknownRecord:
            raise await self._unknown(name, sha) from None
        await self.declare_triggers()
        return await self.resolve(name, written.sha) if written.sha else None

    async def learn(self, run_id: str, tenant: str, at: float, needs: Sequence[tuple[str, str]]) -> int:
        """Keep needs that capabilities served in a run that succeeded; matching reads them, for this tenant.

        Args:
            run_id: removing this run removes them.
            tenant: whose run it was.
            at: when it ended, in seconds since the epoch, on the board's clock.
            needs: a capability's name and a need, for each.

        Returns:
            How many were news.
        """
        return await self._lessons.learn(run_id, tenant, at, needs)

    async def calibrate(self, refit: Refit | None, *, operation: str | None = None) -> bool:
        """Let every process decide by this calibration from now on, on record; None for the shipped one.

        Args:
            operation: a stable identity of this call, for a caller that may send it again.

        Returns:
            False when it was so already.
        """
        numbers = {} if refit is None else refit.model_dump(mode="json", exclude={"calibration"})
        text = None if refit is None else refit.text()
        return await self._lessons.calibrate(text, somebody(), numbers, operation=operation or "")

    async def unlearn(self, name: str | None = None, tenant: str | None = None) -> int:
        """Forget the needs a capability served, those of a tenant, or those of one for the other.

        Returns:
            How many pairs of a capability and a tenant had any.
        """
        return await self._lessons.forget(name, tenant)

    async def changes(self, after: str = "0", limit: int = 100) -> Sequence[Change]:
        """The next changes after a cursor, oldest first, for a reader that follows the registry."""
        return await self._catalog.changes(after, limit)


def _exam(exam: ExamRecord | Mapping[str, JsonValue] | None) -> ExamRecord | None:
    if exam is None or isinstance(exam, ExamRecord):
        return exam
    try:
        return ExamRecord.model_validate(exam)
    except ValidationError as error:
        raise refused(error, "exam") from None


def _verdict(exam: ExamRecord | None) -> Verdict | None:
    return None if exam is None else "passed" if exam.passed else "failed"
