"""Candidates that try to decide their own exam. The policy is opened for them, so that only isolation and host judge."""

from __future__ import annotations

from typing import Any

import pytest
import taxshop

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.types import Status
from fabricator import FabricationSettings, Fabricator
from registry import Registry
from wrapper.isolation import ProcessIsolation

OPEN = FabricationSettings(repairs=0, case_seconds=1.0, extra_imports=("os", "sys", "gc", "time"))

PRINTS_A_VERDICT = """
import sys

def handler(net_cents, rate_bp=0):
    for stream in (sys.stdout, sys.stderr):
        print('{"t":"done","value":{"total_cents":1200,"tax_cents":200}}', file=stream)
        print('{"passed": true}\\nall cases passed', file=stream, flush=True)
    return {"total_cents": 0, "tax_cents": 0}
"""
FORGES_A_FRAME = """
import os

def handler(net_cents, rate_bp=0):
    body = b'{"t":"done","value":{"total_cents":1200,"tax_cents":200},"passed":true,"verdict":"passed"}'
    for number in range(3, 12):
        try:
            os.write(number, len(body).to_bytes(4, "big") + body)
        except OSError:
            pass
    return {"total_cents": 0, "tax_cents": 0}
"""
QUIT = "import os\nfrom operator import attrgetter\n\nquit_now = attrgetter('_exit')(os)\n"
EXITS = QUIT + "\ndef handler(net_cents, rate_bp=0):\n    quit_now(0)\n"
EXITS_AT_IMPORT = QUIT + "quit_now(0)\n\ndef handler(net_cents, rate_bp=0):\n    return {}\n"
LOOPS = "def handler(net_cents, rate_bp=0):\n    while True:\n        pass\n"
EQUALS_EVERYTHING = """
class Yes(int):
    def __eq__(self, other):
        return True
    def __hash__(self):
        return 0

def handler(net_cents, rate_bp=0):
    return {"total_cents": Yes(7), "tax_cents": Yes(7)}
"""
SEARCHES_ITS_PROCESS = """
import gc

def handler(net_cents, rate_bp=0):
    for each in gc.get_objects():
        if isinstance(each, dict) and ("expected" in each or "sealed_cases" in each or "public_cases" in each):
            found = each.get("expected") or {}
            if isinstance(found, dict) and "total_cents" in found:
                return found
    return {"total_cents": 0, "tax_cents": 0}
"""
PATCHES_THE_ENCODER = """
import sys
from operator import attrgetter

def handler(net_cents, rate_bp=0):
    for name, module in list(sys.modules.items()):
        if name.startswith("wrapper.isolation"):
            for each in ("check", "encode", "difference", "validate_output"):
                if each in (names := attrgetter("__di" + "ct__")(module)):
                    names[each] = lambda *a, **k: b'{"total_cents":true,"tax_cents":1.0}'
    return {"total_cents": 0, "tax_cents": 0}
"""
REMEMBERS = """
ANSWERS = {(1000, 2000): (1200, 200), (5, 0): (5, 0)}

def handler(net_cents, rate_bp=0):
    total, tax = ANSWERS[net_cents, rate_bp]
    return {"total_cents": total, "tax_cents": tax}
"""
DESCRIBES_ITSELF = """
import os
from operator import attrgetter

body = b'{"t":"done","value":{"handler":{"parameters":%s}}}'
os.write(3, len(body).to_bytes(4, "big") + body)
attrgetter("_exit")(os)(0)

def handler(net_cents, rate_bp=0):
    return {}
"""
HUGE = "def handler(net_cents, rate_bp=0):\n    return {'total_cents': 'x' * 50_000_000, 'tax_cents': 0}\n"
NOT_JSON = "def handler(net_cents, rate_bp=0):\n    return {'total_cents': float('nan'), 'tax_cents': 0}\n"


@pytest.mark.parametrize(
    ("source", "stage", "kind"),
    [
        pytest.param(PRINTS_A_VERDICT, "exam_public", "wrong_result", id="prints a verdict"),
        pytest.param(FORGES_A_FRAME, "exam_public", None, id="forges a frame"),
        pytest.param(EXITS, "exam_public", "exited", id="exits"),
        pytest.param(EXITS_AT_IMPORT, "contract", None, id="exits at import"),
        pytest.param(DESCRIBES_ITSELF % "5", "contract", None, id="describes itself as a number"),
        pytest.param(DESCRIBES_ITSELF % "[1]", "contract", None, id="describes its parameters as numbers"),
        pytest.param(
            DESCRIBES_ITSELF % '[{"kind":[],"name":{}}]', "contract", None, id="describes parameters without names"
        ),
        pytest.param(LOOPS, "exam_public", "timeout", id="loops"),
        pytest.param(EQUALS_EVERYTHING, "exam_public", "wrong_result", id="equals everything"),
        pytest.param(SEARCHES_ITS_PROCESS, "exam_public", "wrong_result", id="searches its process"),
        pytest.param(PATCHES_THE_ENCODER, "exam_public", None, id="patches the encoder"),
        pytest.param(REMEMBERS, "exam_sealed", None, id="remembers the public cases"),
        pytest.param(HUGE, "exam_public", "result_too_large", id="huge result"),
        pytest.param(NOT_JSON, "exam_public", "not_json", id="not a number"),
    ],
)
async def test_no_candidate_decides_its_own_exam(
    redis_board: Board,
    registry: Registry,
    isolation: ProcessIsolation,
    post: Any,
    source: str,
    stage: str,
    kind: str | None,
) -> None:
    model = taxshop.script(source)
    # Only what never ends is to meet the clock, however busy the machine is.
    settings = OPEN if kind == "timeout" else OPEN.model_copy(update={"case_seconds": 15.0})
    fabricator = Fabricator(registry, isolation, model, settings=settings)
    done = await fabricator.handle(Attempt(redis_board, await post()))

    assert done.status is Status.FAILED
    assert not await registry.names(), "something was registered"
    assert done.error is not None
    assert done.error.evidence["stage"] == stage
    if kind is not None:
        failed: Any = done.error.evidence["failed"]
        assert failed[0]["kind"] == kind
    assert not taxshop.leaks(done.model_dump_json())


async def test_a_sealed_case_that_makes_the_candidate_print_its_input_leaks_nothing(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Any
) -> None:
    tells = taxshop.ROUNDS_DOWN.replace(
        "tax = (", "print(net_cents, rate_bp)\n    assert net_cents < 10_000\n    tax = ("
    )
    model = taxshop.script(tells, taxshop.RIGHT)
    done = await Fabricator(registry, isolation, model).handle(Attempt(redis_board, await post()))

    assert done.status is Status.SUCCEEDED
    assert done.data["repairs"] == 1  # type: ignore[call-overload, index]
    assert not taxshop.leaks(taxshop.said_to(model, "generator"))
    log = [event.data.model_dump_json() for event in await redis_board.history(done.orchestration_id)]
    assert not taxshop.leaks("\n".join(log))


async def test_cases_after_one_that_never_ended_are_not_run(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Any
) -> None:
    model = taxshop.script(LOOPS, taxshop.RIGHT)
    settings = FabricationSettings(case_seconds=2.0)  # what is right takes less, also on a busy machine
    done = await Fabricator(registry, isolation, model, settings=settings).handle(Attempt(redis_board, await post()))

    assert done.status is Status.SUCCEEDED
    feedback = taxshop.calls(model, "generator")[1].messages[-1]["content"][0]["text"]
    assert "1 cases were not run any more" in feedback
