"""Which backend is used is proven by deed: the strongest that holds, none that does not, and never a weaker one unsaid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backends import needs_landlock, needs_namespaces

from blackboard.errors import BadInput, IsolationUnavailable
from blackboard.types import Status
from wrapper.isolation import BoxedIsolation, ConfinedIsolation, Job, ProcessIsolation, detection
from wrapper.isolation.canary import Proof, prove

_HERE = str(Path(__file__).parent)
_PROGRAM = """
import asyncio, json, logging, sys
logging.basicConfig(level=logging.WARNING)
from blackboard.errors import IsolationUnavailable
from wrapper.isolation import Job
from wrapper.isolation.detection import find

async def main():
    try:
        isolation, rejected = await find(preload_strands=False, parked=1)
    except IsolationUnavailable as error:
        print(json.dumps({"refused": str(error)}))
        return
    async with isolation:
        outcome = await isolation.run(Job.of("def handler(a): return a + 1", input={"a": 1}))
        print(json.dumps({
            "label": outcome.isolation, "value": outcome.value, "rejected": [str(each) for each in rejected],
        }))

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was found out before."""
    monkeypatch.setattr(detection, "_proven", set())
    monkeypatch.setattr(detection, "_refusal", [])
    monkeypatch.delenv(detection.VARIABLE, raising=False)


def on_a_machine_without(*what: str, env: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    command = [sys.executable, f"{_HERE}/backends.py", ",".join(what), sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def layers_off(backend: type[ProcessIsolation], *layers: str) -> ProcessIsolation:
    return backend(preload_strands=False, parked=1, _without=layers)


@needs_namespaces
async def test_where_namespaces_can_be_had_the_box_is_used() -> None:
    isolation, rejected = await detection.find(preload_strands=False, parked=1)
    async with isolation:
        assert (isolation.label, rejected) == ("zygote-ns", [])
        assert "namespaces made directly" in isolation.layers
        assert (await isolation.run(Job.of("def handler(): return 1"))).isolation == "zygote-ns"


@needs_namespaces
async def test_the_proof_is_made_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Proof] = []

    async def counted(isolation: ProcessIsolation) -> Proof:
        made.append(await prove(isolation))
        return made[-1]

    monkeypatch.setattr(detection, "prove", counted)
    for _ in range(2):
        isolation, _ = await detection.find(preload_strands=False, parked=1)
        await isolation.close()
    assert len(made) == 1


@needs_landlock
def test_where_namespaces_are_refused_the_next_one_is_used_and_said() -> None:
    found, logged = on_a_machine_without("namespaces")
    assert (found["label"], found["value"]) == ("zygote-lsm", 2)
    assert found["rejected"][0].startswith("zygote-ns: ")
    assert "unshare" in found["rejected"][0]
    assert "isolation is zygote-lsm" in logged


def test_where_nothing_can_be_had_generated_code_is_refused_with_what_each_lacked() -> None:
    found, _ = on_a_machine_without("namespaces", "landlock")
    assert "generated code is not run" in found["refused"]
    for way in ("zygote-ns: ", "zygote-ns by bwrap: ", "zygote-lsm: "):
        assert way in found["refused"]
    assert "no Landlock" in found["refused"]


@pytest.mark.parametrize("system", ["darwin", "win32"])
async def test_g10_where_there_is_no_linux_generated_code_is_refused(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no backend for other systems, and none is made up: the docs say which way is left."""
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(IsolationUnavailable, match=f"zygote-ns: .*this is {system}.*zygote-lsm: .*this is {system}"):
        await detection.find(preload_strands=False, parked=1)


@needs_namespaces
def test_without_landlock_the_box_alone_holds() -> None:
    found, _ = on_a_machine_without("landlock")
    assert found["label"] == "zygote-ns"


def test_a_backend_that_was_named_is_not_replaced_by_a_weaker_one() -> None:
    found, _ = on_a_machine_without("namespaces", env={"ARBITER_ISOLATION": "zygote-ns"})
    assert "zygote-lsm" not in found["refused"]


def test_what_is_no_sandbox_is_used_where_it_was_named_and_said_loudly() -> None:
    found, logged = on_a_machine_without("namespaces", "landlock", env={"ARBITER_ISOLATION": "process"})
    assert found["label"] == "process"
    assert "NOT kept from this user's files" in logged


@pytest.mark.parametrize(
    ("backend", "layers", "act"),
    [
        pytest.param(BoxedIsolation, ["seccomp"], "fork", marks=needs_namespaces),
        pytest.param(BoxedIsolation, ["seccomp"], "keep memory in a nameless file", marks=needs_namespaces),
        pytest.param(BoxedIsolation, ["seccomp"], "use io_uring", marks=needs_namespaces),
        pytest.param(BoxedIsolation, ["limits"], "exceed its memory", marks=needs_namespaces),
        pytest.param(ConfinedIsolation, ["landlock"], "read a file beside the box", marks=needs_landlock),
        pytest.param(ConfinedIsolation, ["landlock"], "write outside", marks=needs_landlock),
        pytest.param(ConfinedIsolation, ["landlock"], "read /etc/passwd", marks=needs_landlock),
        pytest.param(ConfinedIsolation, ["seccomp"], "send by UDP", marks=needs_landlock),
        pytest.param(ConfinedIsolation, ["seccomp"], "connect to a socket file", marks=needs_landlock),
    ],
)
async def test_the_canary_finds_what_a_missing_layer_lets_through(
    backend: type[ProcessIsolation], layers: list[str], act: str
) -> None:
    async with layers_off(backend, *layers) as isolation:
        proof = await prove(isolation)
    assert act in proof.done, proof
    assert not proof.passed


async def test_a_backend_whose_canary_got_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaking(ProcessIsolation):
        label = way = "leaking"

    monkeypatch.setattr(detection, "_CANDIDATES", (Leaking,))

    async def leaking(_: ProcessIsolation) -> Proof:
        return Proof(("read a file beside the box",))

    async def started(_: ProcessIsolation) -> None: ...

    monkeypatch.setattr(detection, "prove", leaking)
    monkeypatch.setattr(Leaking, "start", started)
    with pytest.raises(IsolationUnavailable, match="leaking: code in it could read a file beside the box"):
        await detection.find()
    monkeypatch.setattr(detection, "_CANDIDATES", ())
    with pytest.raises(IsolationUnavailable, match="leaking"):
        await detection.find()  # a queue of refused tasks does not try it all again each time


@pytest.mark.parametrize("name", ["none", "inprocess", "Zygote-NS"])
async def test_an_isolation_that_does_not_exist_is_refused_with_those_that_do(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match=r"isolation.*zygote-ns, zygote-lsm, seatbelt, process"):
        await detection.find(name)
    monkeypatch.setenv(detection.VARIABLE, name)
    with pytest.raises(BadInput, match=r"ARBITER_ISOLATION.*zygote-ns, zygote-lsm, seatbelt, process"):
        await detection.find()


async def test_the_proof_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    isolation, _ = await detection.find(preload_strands=False, parked=1)
    async with isolation:
        outcome = await isolation.run(Job.of("def handler(): return 1"))
        assert outcome.status is Status.SUCCEEDED
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= before + 1
