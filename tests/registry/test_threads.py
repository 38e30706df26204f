"""Functions that do not return, and what goes on beside them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from strands import tool  # pyright: ignore[reportUnknownVariableType]

from arbiter import capability
from registry.declare import Capability
from registry.threads import MOST_LEFT, StillRunning, Unstoppable

SAID = ContextVar("SAID", default="nothing")


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def given_up(calls: Unstoppable, let_go: threading.Event, times: int) -> None:
    """Give up calls that go on."""
    begun = threading.Semaphore(0)

    def hangs() -> None:
        begun.release()
        let_go.wait(60)

    for _ in range(times):
        call = asyncio.ensure_future(calls.run(hangs))
        await asyncio.to_thread(begun.acquire, timeout=60)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call


async def begins(calls: Unstoppable) -> None:
    """Wait until another one is begun."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(StillRunning):
                assert await calls.run(lambda: 1) == 1
                return
            await asyncio.sleep(0)


async def test_what_hangs_takes_no_thread_of_the_loop(let_go: threading.Event) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await given_up(Unstoppable(), let_go, 4)
    assert await asyncio.to_thread(lambda: 3) == 3
    assert await Unstoppable().run(lambda: 4) == 4


async def test_after_some_that_go_on_no_other_is_begun_until_one_returned(let_go: threading.Event) -> None:
    calls = Unstoppable()
    await given_up(calls, let_go, MOST_LEFT)
    with pytest.raises(StillRunning, match=f"{MOST_LEFT} earlier calls"):
        await calls.run(lambda: 1)
    assert await Unstoppable().run(lambda: 1) == 1, "another function's"
    let_go.set()
    await begins(calls)


async def test_one_that_ended_before_it_was_given_up_counts_for_nothing() -> None:
    calls = Unstoppable()
    for _ in range(2 * MOST_LEFT):
        ended = threading.Event()
        call = asyncio.ensure_future(calls.run(ended.set))
        await asyncio.sleep(0)
        ended.wait(60)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await begins(calls)


async def test_a_thread_is_used_again_and_sees_the_context_of_its_call() -> None:
    async def one(said: str) -> tuple[str, int]:
        SAID.set(said)
        return await Unstoppable().run(lambda: (SAID.get(), threading.get_ident()))

    found = [await asyncio.create_task(one(said)) for said in ("first", "second", "third")]
    assert [said for said, _ in found] == ["first", "second", "third"]
    assert len({thread for _, thread in found}) < 3


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("no"), SystemExit(3)])
async def test_what_it_raises_is_raised(error: BaseException) -> None:
    def fails() -> None:
        raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected):
        await Unstoppable().run(fails)


def sync_tool(let_go: threading.Event) -> Capability[..., object]:
    @tool
    def hangs(seconds: int) -> str:
        """Hang.

        Args:
            seconds: how long
        """
        let_go.wait(seconds)
        return f"{threading.current_thread().daemon}"

    return capability(hangs)  # pyright: ignore


async def test_a_sync_tool_of_strands_takes_no_thread_of_the_loop_either(let_go: threading.Event) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    hanging = sync_tool(let_go)
    call = asyncio.ensure_future(hanging.invoke({"seconds": 60}))
    await asyncio.sleep(0)
    call.cancel()
    assert await asyncio.to_thread(lambda: 3) == 3
    let_go.set()
    assert (await hanging.invoke({"seconds": 0}))[0] == "True"


PROGRAM = """
import threading
from arbiter import Arbiter, Call, CapabilityLimits, ScriptedModel, capability

@capability(limits=CapabilityLimits(attempt_seconds=0.05), effects="irreversible")
def hangs() -> int:
    '''Hang for ever.'''
    threading.Event().wait()
    return 1

a = Arbiter("memory://", model=ScriptedModel(["unused"]), capabilities=[hangs], data_dir={folder!r})
print(a.run_sync(Call("hangs", {{}})).status)
"""


def test_a_program_ends_while_a_function_hangs(tmp_path: object) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(folder=str(tmp_path))], capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["timed_out"]), ended.stderr
