"""A rerun makes no call that succeeded, and all others, whatever the plan and whatever failed (G4)."""

from __future__ import annotations

import asyncio
from typing import Any

from arbiter_support import arbiter, completions
from hypothesis import given, settings
from hypothesis import strategies as some
from plan_steps import ref, step
from rerunning_shop import ONCE, rerun

from arbiter import (
    capability,
)


@some.composite
def plans(draw: some.DrawFn) -> tuple[list[dict[str, Any]], set[str]]:
    """A plan whose calls are told apart by what they are given, and which of its steps fail at first."""
    names = [f"s{n}" for n in range(draw(some.integers(1, 7)))]
    steps: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        more: dict[str, Any] = {}
        others = draw(some.lists(some.sampled_from(names[:at]), unique=True, max_size=2)) if at else []
        given: dict[str, Any] = {"name": name, "of": [ref(other) for other in others]}
        if at and draw(some.booleans()):
            more["after"] = [draw(some.sampled_from(names[:at]))]
        kind = draw(some.sampled_from(["plain", "plain", "each", "wait", "when"]))
        if kind == "each":
            more |= {"each": "request#/items", "at_once": 2}
            given["of"] = [*given["of"], ref("item")]
        elif kind == "wait":
            more["wait_seconds"] = 0.01
        elif kind == "when":
            more["when"] = "request.items?"
        steps.append(step(name, "work", given, **more))
    return steps, draw(some.sets(some.sampled_from(names)))


@settings(max_examples=15, deadline=None)
@given(plans())
def test_g4_a_rerun_makes_no_call_that_succeeded_and_all_others(drawn: tuple[list[dict[str, Any]], set[str]]) -> None:
    plan, broken = drawn
    did, stuck = list[str](), {*broken}

    @capability(effects="writes", retry=ONCE)
    def work(name: str, of: list[Any]) -> str:
        """Do it."""
        this = f"{name}({of})"
        did.append(this)
        if name in stuck:
            raise RuntimeError("stuck")
        return this

    async def scene() -> None:
        async with arbiter("memory://", ["never"], capabilities=(work,)) as (a, _):
            first = await a.run({"items": [1, 2]}, plan=plan, timeout=60)
            succeeded = {done.data for done in completions(first).values() if done.status == "succeeded"}
            did.clear()
            stuck.clear()
            whole = await a.run({"items": [1, 2]}, plan=plan, timeout=60)
            every = {*did}
            did.clear()
            result = await rerun(a, first.run_id)
            assert (result.status, result.answer) == (whole.status, whole.answer)
            assert sorted(did) == sorted(every - succeeded)

    asyncio.run(scene())
