"""One exception tree, rooted at :class:`ArbiterError`. Messages name the field, the value and the remedy."""

from __future__ import annotations


class ArbiterError(Exception):
    """Root of every error this distribution raises on purpose."""


class BadInput(ArbiterError, ValueError):
    """Input refused at the edge; nothing was written.

    Args:
        field: what was wrong, as the caller knows it (``request``, ``limits.rounds``, ``url``).
        value: the offending value; shortened in the message.
        remedy: what to do instead, as a sentence.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field}: {shown} was refused. {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


class Oversized(BadInput):
    """Refused because of its size alone."""


class Unfitting(BadInput):
    """Refused because it does not fit the schema of the topic it was to be written on, or nothing is there that could tell."""


class Compacted(BadInput):
    """A position before the first one that can still be read: what happened there was compacted.

    Args:
        position: what was asked for.
        readable_from: the first position that can be read.
    """

    def __init__(self, field: str, position: object, readable_from: str) -> None:
        super().__init__(
            field, position, f"What happened before {readable_from} was compacted; that is the first readable position."
        )
        self.readable_from = readable_from


class EngineUnavailable(ArbiterError):
    """The board's Redis cannot be reached, started, or is too old. The message says which and what to do."""


class BoardFull(ArbiterError):
    """The board's Redis has no memory left for a growing write; nothing was written. Ending work still has room."""


class ScriptRefused(ArbiterError):
    """A board script refused a call before its first write; ``code`` is the script's word for why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Fenced(ScriptRefused):
    """The caller no longer holds the task: a later claim, a deadline or a cancellation took it. Stop working on it."""


class UnknownRecord(ScriptRefused):
    """No such run or task on this board."""


class Conflict(ScriptRefused):
    """The same idempotency key was used before with different content."""


class Stale(ScriptRefused):
    """A conditional write named a version of a topic or of an entry that is not the current one. Read again and decide anew."""


class LeaseLost(Stale):
    """The lease on an entry lapsed, was given back, or is another's: the entry may be with somebody else. Take it again."""


class QuotaExceeded(ScriptRefused):
    """The board or a tenant has as much as its quota admits. Nothing was written; try again in ``retry_after_seconds``."""

    def __init__(self, code: str, detail: str) -> None:
        self.subject, ms, words = detail.split(" ", 2)
        self.retry_after_seconds = int(ms) / 1000
        super().__init__(
            code, f"{self.subject} {words}. Try again in {self.retry_after_seconds:g} s, or give it a larger quota."
        )


class Unconfirmed(ArbiterError):
    """A durable transition was written, and not enough replicas said in time that they have it.

    Repeat the call as it was, with the same key: it has no second effect and is confirmed as soon as they have it.
    """


class BlobError(ArbiterError):
    """A large value that was stored apart cannot be had. ``code`` is the type of the failure that a task gets."""

    code = "blob"
    retryable = False


class BlobMissing(BlobError):
    """The store has no such value (any more)."""

    code = "blob_missing"


class BlobDamaged(BlobError):
    """What the store has is not what was stored: the hash does not match."""

    code = "blob_damaged"


class BlobUnavailable(BlobError):
    """The store cannot be reached or refuses. Another attempt may succeed."""

    code = "blob_unavailable"
    retryable = True


class MissingExtra(ArbiterError):
    """An optional dependency is not installed; the message carries the install command."""


class ModelUnavailable(ArbiterError):
    """A model string could not be turned into a working model, or the provider refused for good."""


class IsolationUnavailable(ArbiterError):
    """The isolation generated code must run in cannot be had here, so the code was not run."""
