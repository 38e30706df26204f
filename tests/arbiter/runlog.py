"""Event logs for tests of displays: a whole run, and any beginning of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from blackboard import events
from blackboard.events import Event

START = 1_760_000_000_000
RUN = "r0199d3a1b2c3d4e5f6a7b8c"


class Log:
    """Builds events in the form in which the board stores them."""

    def __init__(self, run_id: str = RUN) -> None:
        self.run_id, self.events, self.ms = run_id, list[Event](), START
        self._n = 0

    def add(self, kind: str, subject: str, data: Any, *, after_ms: int = 10) -> Log:
        self.ms += after_ms
        self._n += 1
        fields = {
            "type": kind,
            "subject": self.run_id if not subject else f"{self.run_id}/{subject}",
            "id": f"{subject}:{self._n}",
            "data": json.dumps({"taint": ["person"], **data} if isinstance(data, dict) else data),
        }
        self.events.append(events.parse(f"{self.ms}-{self._n}", fields, self.run_id, "/arbiter/arbiter/main"))
        return self

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def accepted(self, request: JsonValue) -> Log:
        return self.add("run.accepted", "", {"request": request, "tenant": "default", "limits": {}})

    def posted(self, key: str, capability: str, *, kind: str = "capability", after: tuple[str, ...] = (),
               input: JsonValue = None) -> Log:  # fmt: skip
        number, _, name = key.partition(".")
        round_number = int(number.lstrip("s"))
        return self.add(
            "task.posted", key,
            {"task": f"{self.run_id}/{key}", "kind": kind, "capability": capability, "lane": "generic",
             "tool_use_id": "t1", "key": name or key, "round": round_number,
             "after": [f"{self.run_id}/{a}" for a in after],
             "state": "blocked" if after else "ready", "deadline_ms": 0, "input": input},
            after_ms=1,
        )  # fmt: skip

    def step(self, number: int) -> Log:
        return self.posted(f"s{number}", "arbiter", kind="step")

    def claimed(self, key: str, capability: str = "x", *, attempt: int = 1, kind: str = "capability") -> Log:
        return self.add(
            "task.claimed", key,
            {"attempt": attempt, "worker": "w@host:1:aa", "fence": "1", "capability": capability, "kind": kind,
             "key": key},
            after_ms=3,
        )  # fmt: skip

    def completed(self, key: str, node: str, status: str = "succeeded", *, error: JsonValue = None, data: JsonValue = 1,
                  attempts: int = 1, after_ms: int = 120) -> Log:  # fmt: skip
        return self.add(
            "task.completed", key,
            {"orchestration_id": self.run_id, "tool_use_id": "t1", "node": node, "status": status, "data": data,
             "error": error, "attempts": attempts, "worker": "w@host:1:aa", "isolation": "process",
             "usage": {"seconds": 0.1}},
            after_ms=after_ms,
        )  # fmt: skip

    def retried(self, key: str, *, attempt: int = 1) -> Log:
        error = {"type": "timeout", "message": "no answer within 1 s", "retryable": True}
        return self.add("task.retried", key, {"attempt": attempt, "delay_ms": 250, "error": error}, after_ms=900)

    def stage(self, key: str, stage: str, outcome: str, *, detail: str = "", round: int = 0, took: float = 0.0) -> Log:
        data = {"stage": stage, "outcome": outcome, "detail": detail, "round": round, "seconds": took}
        return self.add("fabrication.stage", key, data, after_ms=int(took * 1000) + 1)

    def planned(self, number: int, calls: list[dict[str, Any]], *, tokens: int = 400) -> Log:
        for position, call in enumerate(calls):
            call.setdefault("tool_use_id", f"tooluse_{number}_{position}")
            call["tasks"] = [f"{self.run_id}/{name}" for name in call.get("tasks", ())]
        self.completed(f"s{number}", "arbiter", after_ms=30)
        return self.add(
            "round.planned", "",
            {"round": number, "message": {"role": "assistant", "content": []}, "calls": calls,
             "usage": {"input_tokens": tokens, "output_tokens": 50, "model_calls": 1, "estimated": True},
             "model": "scripted: the cheesecake order, no model was called"},
            after_ms=0,
        )  # fmt: skip

    def ended(self, status: str = "succeeded", answer: str | None = "Order 12345 is ready.", error: JsonValue = None,
              rounds: int = 3) -> Log:  # fmt: skip
        return self.add("run.completed", "", {"status": status, "rounds": rounds, "answer": answer, "error": error})


def order() -> Log:
    """The order of the demonstration, with one repair and one repeated attempt in it."""
    log = Log().accepted({"orderId": "12345", "customerId": "C-1234", "items": ["cheesecake", "large fries"]})
    log.step(1).claimed("s1", "arbiter", kind="step")
    log.planned(1, [{"name": "fries", "tasks": ["1.fries"]},
                    {"name": "request_capability", "tasks": ["1.fabricate_cheesecake"]},
                    {"name": "search_capabilities", "answer": {"found": []}}])  # fmt: skip
    log.posted("1.fries", "fries", input={"order_id": "12345", "size": "large"})
    log.posted("1.fabricate_cheesecake", "fabricator", kind="fabrication", input={"need": "a cheesecake"})
    log.claimed("1.fries", "fries").claimed("1.fabricate_cheesecake", "fabricator", kind="fabrication")
    log.completed("1.fries", "fries")
    for name, took, detail in (
        ("duplicate_check", 0.02, "nothing close"),
        ("specification", 0.3, "5 public, 4 sealed"),
        ("generation", 0.2, "61 lines"),
    ):
        log.stage("1.fabricate_cheesecake", name, "started")
        log.stage("1.fabricate_cheesecake", name, "passed", detail=detail, took=took)
    log.stage("1.fabricate_cheesecake", "exam", "failed", detail="case 3: 2 cakes, not 1", took=0.4)
    log.stage("1.fabricate_cheesecake", "generation", "passed", round=1, detail="64 lines", took=0.2)
    log.stage("1.fabricate_cheesecake", "exam", "passed", round=1, detail="5 of 5 public, 4 of 4 sealed", took=0.4)
    log.completed("1.fabricate_cheesecake", "fabricator")
    log.step(2).claimed("s2", "arbiter", kind="step")
    log.planned(2, [{"name": "post_plan", "tasks": ["2.recipe", "2.cake", "2.receipt"]}])
    log.posted("2.recipe", "read_recipe").posted("2.cake", "cheesecake", after=("2.recipe",))
    log.posted("2.receipt", "receipt", after=("2.cake",))
    log.claimed("2.recipe", "read_recipe").completed("2.recipe", "read_recipe")
    log.claimed("2.cake", "cheesecake").retried("2.cake").claimed("2.cake", "cheesecake", attempt=2)
    log.completed("2.cake", "cheesecake", attempts=2)
    log.claimed("2.receipt", "receipt").completed("2.receipt", "receipt")
    log.step(3).claimed("s3", "arbiter", kind="step").planned(3, [])
    return log.ended()
