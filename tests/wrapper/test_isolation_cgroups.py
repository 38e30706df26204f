"""Control groups: used where they can be made, given back, and done without, in words, where they cannot.

The files are tried on a directory that behaves like the kernel's, and the part no controller is needed for (to hold a
process, to kill all of it, to be given back) on the kernel's own, where this user may mount it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, ProcessIsolation, cgroups
from wrapper.isolation.cgroups import OWN_BYTES, Groups, NoGroups

FILES = (
    "memory.max",
    "memory.swap.max",
    "pids.max",
    "cpu.max",
    "cgroup.procs",
    "cgroup.kill",
    "cgroup.subtree_control",
)


class Tree:
    """A directory of groups: making one makes its files, and one with groups or processes in it cannot be removed."""

    def __init__(self, root: Path, controllers: str) -> None:
        self.root, self.controllers = root, controllers
        self.root.mkdir()
        self._fill(str(root))

    def _fill(self, path: str) -> None:
        for name in FILES:
            Path(path, name).touch()
        Path(path, "cgroup.controllers").write_text(self.controllers)
        Path(path, "memory.events").write_text("low 0\noom 0\noom_kill 0\n")

    def make(self, path: str) -> None:
        os.mkdir(path)
        self._fill(path)

    def remove(self, path: str) -> None:
        if any(entry.is_dir() for entry in os.scandir(path)):
            raise OSError(16, "Device or resource busy")
        shutil.rmtree(path)

    @property
    def groups(self) -> list[str]:
        return sorted(str(each.relative_to(self.root)) for each in self.root.rglob("*") if each.is_dir())


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path / "delegated", "cpuset cpu memory pids")
    monkeypatch.setattr(cgroups, "_make", made.make)
    monkeypatch.setattr(cgroups, "_remove", made.remove)
    monkeypatch.setenv(cgroups.VARIABLE, str(made.root))
    return made


def test_a_run_is_bounded_in_a_group_of_its_own_which_is_given_back(tree: Tree) -> None:
    groups = Groups.find()
    assert Path(groups.path, "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    group = groups.add(7, 4242)

    def said(name: str) -> str:
        return Path(group.path, name).read_text()

    assert group.path == f"{groups.path}/run-7"
    assert [said(name) for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cgroup.procs")] == [
        str(cgroups.PARKED_BYTES), "0", "512", "100000 100000", "4242"
    ]  # fmt: skip
    group.limit(64 << 20)
    assert said("memory.max").startswith(str((64 << 20) + OWN_BYTES))
    assert not group.starved()
    Path(group.path, "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.starved()
    group.kill()
    assert said("cgroup.kill") == "1"
    group.remove()
    groups.close()
    assert tree.groups == []


def test_controllers_that_are_not_handed_down_are_asked_for(tree: Tree) -> None:
    kept = tree.controllers

    def hands_down(path: str) -> None:
        handed = Path(os.path.dirname(path), "cgroup.subtree_control").read_text()
        os.mkdir(path)
        tree.controllers = kept if "memory" in handed or path.endswith("run-0") else ""
        tree._fill(path)  # pyright: ignore[reportPrivateUsage]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroups, "_make", hands_down)
        Groups.find()
    assert (tree.root / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


@pytest.mark.parametrize("lacks", ["cpu memory", ""])
def test_a_missing_controller_is_said_and_nothing_is_left(tree: Tree, lacks: str) -> None:
    (tree.root / "cgroup.controllers").write_text(lacks)
    tree.controllers = lacks
    with pytest.raises(NoGroups, match=r"no controller for .*pids"):
        Groups.find()
    assert tree.groups == []


@pytest.mark.parametrize(
    ("groups", "held"), [("4:memory:/\n1:cpu,cpuacct:/\n0::/\n", True), ("0::/user.slice\n", False)]
)
def test_controllers_that_version_1_holds_are_said_to_be_there(
    tree: Tree, groups: str, held: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tree.root / "cgroup.controllers").write_text("hugetlb")
    tree.controllers = "hugetlb"
    said = tmp_path / "self"
    said.write_text(groups)
    opened = open

    def looked(path: str, *rest: str) -> object:
        return opened(str(said) if path == "/proc/self/cgroup" else path, *rest)

    monkeypatch.setattr(cgroups, "open", looked, raising=False)
    with pytest.raises(NoGroups) as caught:
        Groups.find()
    assert ("version 1 holds them" in str(caught.value)) == held


def test_a_place_nobody_may_write_to_is_said(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> None:
        raise OSError(13, "Permission denied", path)

    monkeypatch.setattr(cgroups, "_make", refused)
    with pytest.raises(NoGroups, match=r"no group can be made in .*: Permission denied"):
        Groups.find()


def test_what_a_killed_process_left_is_given_back_by_the_next_one(tree: Tree) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    tree.make(f"{tree.root}/arbiter-{ended.pid}-0")
    tree.make(f"{tree.root}/arbiter-{ended.pid}-0/run-1")
    tree.make(f"{tree.root}/arbiter-{os.getpid()}-0")
    tree.make(f"{tree.root}/somebody")
    groups = Groups.find()
    assert tree.groups == sorted([f"arbiter-{os.getpid()}-0", os.path.basename(groups.path), "somebody"])


async def test_runs_are_put_into_groups_before_they_have_code_and_leave_none(tree: Tree) -> None:
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        assert isolation.layers[-1] == "control groups"
        source = "import os\ndef handler():\n    return os.getpid()\n"
        limits = JobLimits(memory_bytes=100 << 20)
        seen: list[str] = []
        original = cgroups.Group.kill

        def kill(group: cgroups.Group) -> None:
            seen.extend(Path(group.path, name).read_text() for name in ("cgroup.procs", "memory.max"))
            original(group)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cgroups.Group, "kill", kill)
            outcome = await isolation.run(Job.of(source, limits=limits))
        assert outcome.status is Status.SUCCEEDED
        assert seen[:2] == [str(outcome.value), str((100 << 20) + OWN_BYTES)]
    assert tree.groups == []


async def test_a_run_killed_for_its_memory_is_told_apart(tree: Tree) -> None:
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:

        async def killed(method: str, pid: JsonValue) -> JsonValue:
            """What the kernel does, once the code runs: a child that dies before is none of its limit's."""
            (group,) = [each.parent for each in tree.root.rglob("cgroup.procs") if each.read_text() == str(pid)]
            assert (group / "memory.max").read_text().startswith(str((1 << 30) + OWN_BYTES))
            (group / "memory.events").write_text("oom_kill 1\n")
            os.kill(int(str(pid)), signal.SIGKILL)
            return None

        source = "from wrapper import sdk\nimport os\ndef handler():\n    sdk.call('x', os.getpid())\n"
        outcome = await isolation.run(Job.of(source), killed)
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.evidence["limit"]) == ("crashed", "memory_bytes")
    assert "1024 MiB" in outcome.error.message
    assert not outcome.error.retryable


async def test_a_group_in_which_something_is_still_dying_is_given_back_all_the_same(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [0]

    def busy_at_first(path: str) -> None:
        if "run-" in path and "run-0" not in path and refused[0] < 3:
            refused[0] += 1
            raise OSError(16, "Device or resource busy")
        tree.remove(path)

    monkeypatch.setattr(cgroups, "_remove", busy_at_first)
    async with ProcessIsolation(preload_strands=False, parked=0) as isolation:
        assert (await isolation.run(Job.of("def handler():\n    return 1\n"))).value == 1
    assert refused[0] == 3
    assert tree.groups == []


async def test_without_groups_runs_go_on_and_the_layers_say_why(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cgroups.VARIABLE, str(tree.root / "not-there"))
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        outcome = await isolation.run(Job.of("def handler():\n    return 1\n"))
        assert outcome.value == 1
        assert isolation.layers[-1].startswith("no control groups (no group can be made in")


async def test_a_group_that_fails_later_is_done_without_loudly(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with ProcessIsolation(preload_strands=False, parked=0) as isolation:
        monkeypatch.setattr(tree, "make", lambda path: (_ for _ in ()).throw(OSError(28, "No space left")))  # type: ignore[misc]
        monkeypatch.setattr(cgroups, "_make", tree.make)
        outcome = await isolation.run(Job.of("def handler():\n    return 1\n"))
        assert outcome.value == 1
        assert "no control groups" in isolation.layers[-1]
    assert "into no control groups any more" in caplog.text


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[str]:
    """The kernel's own groups, in a directory."""
    place = tmp_path / "groups"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount")
    if subprocess.run([mount, "-t", "cgroup2", "none", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("control groups of version 2 cannot be mounted here")
    inside = place / f"arbiter-test-{os.getpid()}"
    try:
        inside.mkdir()
        yield str(inside)
    finally:
        for _ in range(100):
            try:
                inside.rmdir()
                break
            except OSError:
                signal.sigtimedwait([], 0.02)
        subprocess.run(["umount", str(place)], check=False)


needs_controllers = pytest.mark.skipif(
    not os.path.isdir(os.environ.get(cgroups.VARIABLE, "")),
    reason=f"{cgroups.VARIABLE} names no group of this machine to make groups in",
)
"""For machines whose version 2 has the controllers: a systemd service with ``Delegate=yes``, or a virtual machine."""
FORKS = """
import os, time
def handler(most, each):
    for made in range(most):
        try:
            if os.fork() == 0:
                held = bytearray(b"x") * each
                time.sleep(100)
        except OSError:
            return made
    while os.waitpid(-1, 0)[1] != 9: pass
    return "one was killed"
"""


@needs_controllers
async def test_the_kernel_counts_all_processes_of_a_run_together_and_nothing_is_left_of_them() -> None:
    """By the backend that keeps code from nothing else, since the others let it make no process."""
    delegated = os.environ[cgroups.VARIABLE]
    roomy = JobLimits(memory_bytes=512 << 20, wall_seconds=110, cpu_seconds=100)
    narrow = JobLimits(memory_bytes=64 << 20, wall_seconds=110, cpu_seconds=100)
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        assert isolation.layers[-1] == "control groups"
        many = await isolation.run(Job.of(FORKS, input={"most": 600, "each": 0}, limits=roomy))
        assert isinstance(many.value, int), many
        assert 500 < many.value < cgroups.THREADS
        large = await isolation.run(Job.of(FORKS, input={"most": 12, "each": 40 << 20}, limits=narrow))
        assert large.value == "one was killed" or (large.error is not None and large.error.evidence["limit"]), large
    assert [each for each in os.listdir(delegated) if each.startswith("arbiter-")] == []


@needs_controllers
@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_backend_runs_in_the_kernels_groups(backend: type[ProcessIsolation]) -> None:
    async with backend(preload_strands=False, parked=1) as isolation:
        assert isolation.layers[-1] == "control groups"
        assert (await isolation.run(Job.of("def handler():\n    return 1\n"))).value == 1


def test_the_kernels_groups_hold_a_process_kill_all_of_it_and_are_given_back(mounted: str) -> None:
    groups = Groups.find(mounted, ())
    process = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)
    group = groups.add(1, process.pid)
    if not os.path.exists(f"{group.path}/cgroup.kill"):
        process.kill()
        pytest.skip("this kernel cannot kill a group")
    second = subprocess.Popen(["sleep", "60"])
    Path(group.path, "cgroup.procs").write_text(str(second.pid))
    group.kill()
    assert (process.wait(10), second.wait(10)) == (-9, -9)
    group.remove()
    groups.close()
    assert [each.name for each in os.scandir(mounted) if each.is_dir()] == []
