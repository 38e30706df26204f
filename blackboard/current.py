"""The claim that the current asyncio task, or thread started by it, works for: for logs, metrics and traces."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blackboard.claims import Claim

claim: ContextVar[Claim | None] = ContextVar("arbiter_claim", default=None)
"""Set by the worker at the beginning of an attempt; None outside of one."""
