"""No isolation means no run: where none can be had, nothing is run."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from blackboard.errors import IsolationUnavailable
from wrapper.isolation import Job, ProcessIsolation


async def test_a_zygote_that_cannot_start_means_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mark = tmp_path / "ran"
    job = Job.of(f"open({str(mark)!r}, 'w')\ndef handler(): return 1")
    subject = ProcessIsolation(preload_strands=False, preload=["no_such_module"], parked=1)
    with pytest.raises(IsolationUnavailable, match="no_such_module"):
        await subject.run(job)
    assert os.listdir(tmp_path) == []  # neither the mark nor a directory of the zygote
    assert subject.zygote_pid is None
    await subject.close()


async def test_a_module_that_starts_a_thread_may_not_be_preloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing in the standard library starts a thread when imported, so a module that does is put on the zygote's path.
    monkeypatch.setattr("wrapper.isolation.zygote_link._ROOT", str(tmp_path))
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    subject = ProcessIsolation(preload_strands=False, preload=["starts_a_thread"], parked=1)
    with pytest.raises(IsolationUnavailable, match="started a thread"):
        await subject.start()
    await subject.close()


async def test_a_missing_interpreter_is_an_isolation_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    subject = ProcessIsolation(preload_strands=False, parked=1)
    with pytest.raises(IsolationUnavailable, match="could not be started"):
        await subject.start()
    await subject.close()


async def test_a_profile_that_cannot_be_applied_refuses_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessIsolation, "label", "walls-that-do-not-exist")
    subject = ProcessIsolation(preload_strands=False, parked=0)
    with pytest.raises(IsolationUnavailable, match="unknown profile"):
        await subject.run(Job.of("def handler(): return 1"))
    await subject.close()
