"""The public test kit: put your own capabilities through crashes, lost replies and time, on real servers.

    async with harness(capabilities=[price], model=model) as h:
        report = await h.crash_matrix("What do 12 boxes cost?")
        assert report.ok, report

Nothing in production imports this package. Names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arbiter.testing.aws import AwsStub
    from arbiter.testing.bench import Harness, Report, harness
    from arbiter.testing.clock import Clock
    from arbiter.testing.injection import BOUNDARIES, Fault
    from blackboard.invariants import faults
    from blackboard.testing import RedisServer
    from wrapper.models import RecordedModel, ScriptedModel
    from wrapper.testing import BedrockStub

_HOMES = {
    "AwsStub": "arbiter.testing.aws",
    "BOUNDARIES": "arbiter.testing.injection",
    "BedrockStub": "wrapper.testing",
    "Clock": "arbiter.testing.clock",
    "Fault": "arbiter.testing.injection",
    "Harness": "arbiter.testing.bench",
    "RecordedModel": "wrapper.models",
    "RedisServer": "blackboard.testing",
    "Report": "arbiter.testing.bench",
    "ScriptedModel": "wrapper.models",
    "faults": "blackboard.invariants",
    "harness": "arbiter.testing.bench",
}

__all__ = [
    "BOUNDARIES",
    "AwsStub",
    "BedrockStub",
    "Clock",
    "Fault",
    "Harness",
    "RecordedModel",
    "RedisServer",
    "Report",
    "ScriptedModel",
    "faults",
    "harness",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'arbiter.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
