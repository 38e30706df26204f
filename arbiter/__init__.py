"""Arbiter: plan a request against a registry of capabilities, fabricate what is missing, run it, answer.

Everything a program needs is here; the other four packages are the rooms behind it. Names are loaded on first use, so
that importing this package costs almost nothing.

What enters: requests (text, JSON objects, CloudEvents, calls, inquiries) and capabilities.
What leaves: typed events and a ``RunResult``.
This room may import all others: ``blackboard``, ``registry``, ``wrapper``, ``fabricator``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arbiter.answering import Answered
    from arbiter.calls import Call
    from arbiter.choosing import Choosing
    from arbiter.inquiry import Inquiry, Posting
    from arbiter.recalling import Recalling
    from arbiter.result import RunFailed, RunResult
    from arbiter.sdk import Arbiter
    from arbiter.volunteering import Bid, Missing, OpenRequest
    from blackboard import events
    from blackboard.approval import Approval, ApprovalPolicy
    from blackboard.budgets import Budget, BudgetExhausted
    from blackboard.confirm import Confirm
    from blackboard.entries import Entries
    from blackboard.entry import Entry
    from blackboard.errors import (
        ArbiterError,
        BadInput,
        BoardFull,
        Conflict,
        EngineUnavailable,
        IsolationUnavailable,
        MissingExtra,
        ModelUnavailable,
        QuotaExceeded,
        Stale,
        Unconfirmed,
        UnknownRecord,
    )
    from blackboard.events import Author, Link
    from blackboard.quotas import Quota
    from blackboard.retention import Retention
    from blackboard.standing import Standing
    from blackboard.subscriptions import Gap, Subscription
    from blackboard.taint import TaintPolicy
    from blackboard.triggers import AgendaTerms, Query, Trigger
    from blackboard.types import Completion, Failure, Limits, RetryPolicy, RetryRule, Status, Usage
    from blackboard.webhooks import Webhook
    from registry import Capability, CapabilityLimits, Example, Grants, Manifest, TopicGrants, capability
    from wrapper.context import TaskContext, current_task
    from wrapper.failing import Permanent, RetryLater
    from wrapper.later import Later
    from wrapper.models import RecordedModel, ScriptedModel
    from wrapper.peers.a2a import A2aPeer
    from wrapper.peers.dynamodb import DynamoPeer
    from wrapper.peers.mcp import McpPeer
    from wrapper.prices import Price, Prices

_HOMES = {
    "A2aPeer": "wrapper.peers.a2a",
    "AgendaTerms": "blackboard.triggers",
    "Approval": "blackboard.approval",
    "ApprovalPolicy": "blackboard.approval",
    "Arbiter": "arbiter.sdk",
    "ArbiterError": "blackboard.errors",
    "Author": "blackboard.events",
    "BadInput": "blackboard.errors",
    "BoardFull": "blackboard.errors",
    "Answered": "arbiter.answering",
    "Bid": "arbiter.volunteering",
    "Budget": "blackboard.budgets",
    "BudgetExhausted": "blackboard.budgets",
    "Call": "arbiter.calls",
    "Capability": "registry",
    "CapabilityLimits": "registry",
    "Choosing": "arbiter.choosing",
    "Recalling": "arbiter.recalling",
    "Completion": "blackboard.types",
    "Confirm": "blackboard.confirm",
    "Conflict": "blackboard.errors",
    "EngineUnavailable": "blackboard.errors",
    "Entries": "blackboard.entries",
    "Entry": "blackboard.entry",
    "Example": "registry",
    "Failure": "blackboard.types",
    "Gap": "blackboard.subscriptions",
    "Grants": "registry",
    "Inquiry": "arbiter.inquiry",
    "IsolationUnavailable": "blackboard.errors",
    "Later": "wrapper.later",
    "Limits": "blackboard.types",
    "Link": "blackboard.events",
    "Manifest": "registry",
    "Missing": "arbiter.volunteering",
    "MissingExtra": "blackboard.errors",
    "DynamoPeer": "wrapper.peers.dynamodb",
    "McpPeer": "wrapper.peers.mcp",
    "ModelUnavailable": "blackboard.errors",
    "OpenRequest": "arbiter.volunteering",
    "Permanent": "wrapper.failing",
    "Posting": "arbiter.inquiry",
    "Price": "wrapper.prices",
    "Prices": "wrapper.prices",
    "Query": "blackboard.triggers",
    "Quota": "blackboard.quotas",
    "QuotaExceeded": "blackboard.errors",
    "RecordedModel": "wrapper.models",
    "Retention": "blackboard.retention",
    "RetryLater": "wrapper.failing",
    "RetryPolicy": "blackboard.types",
    "RetryRule": "blackboard.types",
    "RunFailed": "arbiter.result",
    "RunResult": "arbiter.result",
    "ScriptedModel": "wrapper.models",
    "Stale": "blackboard.errors",
    "Standing": "blackboard.standing",
    "Status": "blackboard.types",
    "Subscription": "blackboard.subscriptions",
    "TaintPolicy": "blackboard.taint",
    "TaskContext": "wrapper.context",
    "TopicGrants": "registry",
    "Trigger": "blackboard.triggers",
    "Unconfirmed": "blackboard.errors",
    "UnknownRecord": "blackboard.errors",
    "Usage": "blackboard.types",
    "Webhook": "blackboard.webhooks",
    "capability": "registry",
    "current_task": "wrapper.context",
}

__all__ = [
    "A2aPeer",
    "AgendaTerms",
    "Answered",
    "Approval",
    "ApprovalPolicy",
    "Arbiter",
    "ArbiterError",
    "Author",
    "BadInput",
    "Bid",
    "BoardFull",
    "Budget",
    "BudgetExhausted",
    "Call",
    "Capability",
    "CapabilityLimits",
    "Choosing",
    "Completion",
    "Confirm",
    "Conflict",
    "DynamoPeer",
    "EngineUnavailable",
    "Entries",
    "Entry",
    "Example",
    "Failure",
    "Gap",
    "Grants",
    "Inquiry",
    "IsolationUnavailable",
    "Later",
    "Limits",
    "Link",
    "Manifest",
    "McpPeer",
    "Missing",
    "MissingExtra",
    "ModelUnavailable",
    "OpenRequest",
    "Permanent",
    "Posting",
    "Price",
    "Prices",
    "Query",
    "Quota",
    "QuotaExceeded",
    "Recalling",
    "RecordedModel",
    "Retention",
    "RetryLater",
    "RetryPolicy",
    "RetryRule",
    "RunFailed",
    "RunResult",
    "ScriptedModel",
    "Stale",
    "Standing",
    "Status",
    "Subscription",
    "TaintPolicy",
    "TaskContext",
    "TopicGrants",
    "Trigger",
    "Unconfirmed",
    "UnknownRecord",
    "Usage",
    "Webhook",
    "capability",
    "current_task",
    "events",
]


def __getattr__(name: str) -> Any:
    if name == "events":
        return import_module("blackboard.events")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'arbiter' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
