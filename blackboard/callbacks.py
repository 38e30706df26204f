"""Attempts that are ended from outside: by whoever holds a token that the handler has handed out.

A token is made while the attempt is held, so that it can be given away before the handler says that it waits, and an answer
that comes at once counts at once. The board keeps the SHA-256 of it and no more. It names its task and is good for one
attempt, and for one outcome: after a retry, a timeout or a cancellation it opens nothing, and says so. A waiting task has no
lease and no worker; time stands still for it and for its run, and the sweep ends the attempt where nothing comes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import JsonValue

from blackboard import _script, claims, retries
from blackboard.claims import Claim
from blackboard.errors import BadInput, UnknownRecord
from blackboard.payloads import fingerprint
from blackboard.redaction import cleaned_completion
from blackboard.taint import merged, read
from blackboard.types import Completion, Failure, Status
from blackboard.working import Working, told

MOST_SECONDS = 30 * 86_400.0
"""How long a task may wait for an answer from outside."""
LEAST_SECONDS = 1.0
"""Shortest time between two signs of life."""
TIMEOUT, SILENT, FAILED = "callback_timeout", "callback_silent", "callback_failed"
"""Types of the failures: no answer in time, no sign of life, and what whoever holds the token says."""
MOST_ERROR = 100
"""Characters of the name of an error that somebody reports."""
MOST_CAUSE = 4_000
_TOKEN = re.compile(r"arbcb\.([A-Za-z0-9_-]{1,1000})\.[A-Za-z0-9_-]{43}")


class Called(NamedTuple):
    """The attempt that a token was made for, as far as it can still be told."""

    claim: Claim
    """With the fence that the token stands for, and what is known of the task now."""
    open: bool
    """Whether the attempt seems to wait for its outcome; the script that ends it decides."""
    repeatable: bool


class CallingBack(Working):
    """The operations about attempts that are ended from outside."""

    async def open_callback(
        self, claim: Claim, *, sources: Iterable[str], version: str | None = None, repeatable: bool = False
    ) -> str:
        """A token that ends this attempt for whoever holds it, from now on.

        Args:
            sources: where what comes with it comes from, beside the task's own.
            version: of the capability; the task keeps to it from here on.
            repeatable: whether another attempt may follow one that failed outside, where no retry rule says it.

        Raises:
            Fenced: the task is no longer held by this claim.
        """
        place = base64.urlsafe_b64encode(claim.task_id.encode()).decode().rstrip("=")
        token = f"arbcb.{place}.{secrets.token_urlsafe(32)}"
        await self._call(
            "callback_open", self.shard_of(claim.run_id), (), claim.run_id, claim.task_id, claim.fence, _hash(token),
            version or "", json.dumps(merged(claim.taint, sources)), int(repeatable),
        )  # fmt: skip
        return token

    async def wait_for_callback(
        self, claim: Claim, seconds: float, heartbeat_seconds: float | None, *, sources: Iterable[str], repeatable: bool
    ) -> None:
        """Let a task wait for whoever holds its token; it is no longer held afterwards.

        Where the answer has come already, nothing is left to do.

        Args:
            seconds: how long at the most.
            heartbeat_seconds: longest time without a sign of life; None asks for none.
            sources, repeatable: as for :meth:`open_callback`.

        Raises:
            Fenced: the task is no longer held by this claim.
        """
        rules = {
            name: retries.for_script(retries.ruling(claim.retry, Failure(type=kind, message="", retryable=repeatable)))
            for name, kind in (("late", TIMEOUT), ("silent", SILENT))
        }
        await self._call(
            "callback_wait", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, retries.ms(seconds),
            "" if heartbeat_seconds is None else retries.ms(heartbeat_seconds),
            json.dumps(rules), json.dumps(merged(claim.taint, sources)),
        )  # fmt: skip

    async def called(self, token: str) -> Called:
        """The attempt a token was made for.

        Raises:
            UnknownRecord: there is none on this board; the message does not repeat the token.
        """
        match, header = _TOKEN.fullmatch(token), None
        task_id = _decoded(match[1]) if match else ""
        if task_id:
            shard = self.shard_of(task_id.partition("/")[0])
            raw = await self._read(lambda: self.client.hget(shard.tasks, task_id))
            header: dict[str, Any] | None = json.loads(raw) if raw else None
        shown, found = _hash(token), None
        for one in header.get("tk", ()) if header else ():
            # Of all of them, and in constant time each.
            found = one if hmac.compare_digest(shown, one["h"]) else found
        if header is None or found is None:
            raise UnknownRecord(
                "UNKNOWN", "nothing on this board waits for this token; show all of it, as it was given"
            )
        claim = claims.parse([task_id, json.dumps(header), "null", ""], header.get("owner", ""))
        open = claim.fence == found["f"] and header["state"] in ("claimed", "waiting") and "d" not in found
        return Called(replace(claim, fence=found["f"], taint=read(found.get("s"))), open, "again" in found)

    async def complete_callback(self, called: Called, output: JsonValue, *, by: str) -> None:
        """End an attempt with a result.

        Args:
            output: fits the capability's schema already.
            by: who shows the token.

        Raises:
            Unfitting: it does not fit the schema of the topic it would stand on; the attempt goes on.
            BadInput, Oversized: it is not JSON, or too large; the same.
            BlobUnavailable: it is large, and the store of large values cannot be used; the same.
            Conflict: the attempt has another outcome already.
            ScriptRefused: ``OVER``, it was ended otherwise; the message says how.
        """
        completion = called.claim.completion(Status.SUCCEEDED, output)
        await self._end(called, completion, by, {"status": "succeeded", "output": output})

    async def fail_callback(self, called: Called, error: str, cause: str, *, by: str) -> None:
        """End an attempt with a failure; another follows where the task's retry policy says so.

        Args:
            error: a name for what went wrong, by which retry rules may know it.
            cause: the same in words.
            by: who shows the token.

        Raises:
            BadInput: a name or a cause that is empty or too long.
            Conflict, ScriptRefused: as for :meth:`complete_callback`.
        """
        if not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{MOST_ERROR}}}", error):
            raise BadInput("error", error, f"Use 1 to {MOST_ERROR} letters, digits, '.', '_' or '-'.")
        if len(cause) > MOST_CAUSE:
            raise BadInput("cause", f"{len(cause)} characters", f"Use at most {MOST_CAUSE:,}.")
        failure = Failure(
            type=FAILED, message=f"{error}: {cause}" if cause else error, retryable=called.repeatable, names=(error,)
        )
        completion = called.claim.completion(Status.FAILED, error=failure)
        await self._end(called, completion, by, {"status": "failed", "error": error, "cause": cause})

    async def beat_callback(self, called: Called, *, by: str) -> float | None:
        """Say that what a task waits for goes on.

        Returns:
            In how many seconds the next sign of life, or the answer, is due at the latest; None before the task waits.

        Raises:
            ScriptRefused: ``OVER`` or ``CONFLICT``, the attempt is over.
        """
        ms = await self._said(called.claim, by, "", "alive", *[""] * 7)
        return int(ms) / 1000 or None

    async def _end(self, called: Called, completion: Completion, by: str, outcome: JsonValue) -> None:
        claim, said, status = called.claim, fingerprint(outcome), completion.status.value
        if not called.open:  # it is told why, and nothing is stored
            await self._said(claim, by, said, status, *[""] * 7)
            return
        completion = cleaned_completion(completion)
        again: list[str | int] = [""] * 5
        if completion.error is not None:
            ruling = retries.ruling(claim.retry, completion.error)
            if ruling.again:
                ceiling = ruling.ceiling(retries.failures(ruling, claim.attempt, claim.failures))
                age = ruling.max_age_seconds
                again = [
                    int(self.random.uniform(0, ceiling) * 1000), completion.error.model_dump_json(), ruling.key,
                    ruling.max_attempts, "" if age is None else retries.ms(age),
                ]  # fmt: skip
        body, data = await self._written(claim, completion)
        await self._ending(
            claim, completion, data,
            lambda *entry: self._said(claim, by, said, status, body, told(completion), *again, *entry),
        )  # fmt: skip

    async def _said(self, claim: Claim, by: str, said: str, status: str, *rest: str | int) -> str:
        code, words = await self._call(
            "callback_said", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, by, said, status, *rest, confirm=self.confirm,
        )  # fmt: skip
        if code:
            raise _script.typed(code, words)
        return str(words)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _decoded(place: str) -> str:
    try:
        return base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
