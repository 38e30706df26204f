"""Every way a run can end has its own word, with evidence. Real processes throughout."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.errors import BadInput
from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, Outcome, ProcessIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""The isolation stays for the whole module, as it does in a program: what one of its children did harms no other."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def isolation(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    async with request.param(preload_strands=False, parked=1) as running:
        yield running


async def call(
    isolation: ProcessIsolation, source: str, limits: JobLimits | None = None, **input: JsonValue
) -> Outcome:
    return await isolation.run(Job.of(textwrap.dedent(source), input=input, limits=limits))


def failure(outcome: Outcome, type: str, status: Status = Status.FAILED) -> dict[str, JsonValue]:
    assert outcome.error is not None, outcome
    assert (outcome.error.type, outcome.status) == (type, status), outcome
    assert outcome.value is None
    return outcome.error.evidence


async def test_a_handler_returns_its_value_and_what_it_printed(isolation: ProcessIsolation) -> None:
    outcome = await call(
        isolation,
        """
        import sys
        def handler(items, factor=2):
            print("seen", len(items))
            print("careful", file=sys.stderr)
            return {"total": sum(items) * factor, "pair": (1, None), "ü": True}
        """,
        items=[1, 2],
    )
    assert outcome == Outcome(
        Status.SUCCEEDED,
        {"total": 6, "pair": [1, None], "ü": True},
        None,
        "seen 2\n",
        "careful\n",
        outcome.seconds,
        isolation.label,
    )
    assert 0 < outcome.seconds < 5


async def test_an_async_handler_is_awaited(isolation: ProcessIsolation) -> None:
    source = "import asyncio\nasync def handler(n):\n    await asyncio.sleep(0)\n    return n + 1\n"
    assert (await call(isolation, source, n=1)).value == 2


async def test_a_syntax_error_names_its_line(isolation: ProcessIsolation) -> None:
    evidence = failure(await call(isolation, "x = 1\ndef handler(:\n    pass\n"), "syntax_error")
    assert evidence["line"] == 2
    assert "handler(:" in str(evidence["text"])


async def test_text_that_is_no_python_at_all_is_a_syntax_error(isolation: ProcessIsolation) -> None:
    failure(await call(isolation, "x = 1\0"), "syntax_error")
    failure(await call(isolation, "(" * 100_000), "syntax_error")
    failure(await isolation.run(Job.of("x = '\ud800'")), "syntax_error")


async def test_a_coding_cookie_changes_nothing(isolation: ProcessIsolation) -> None:
    outcome = await call(isolation, "# -*- coding: utf-7 -*-\ndef handler():\n    return '+AAo-é'\n")
    assert outcome.value == "+AAo-é"


@pytest.mark.parametrize(
    ("line", "exception"),
    [("import no_such_module_at_all", "ModuleNotFoundError"), ("1 / 0", "ZeroDivisionError")],
)
async def test_whatever_an_import_raises_is_an_import_error(
    isolation: ProcessIsolation, line: str, exception: str
) -> None:
    evidence = failure(await call(isolation, f"\n{line}\ndef handler(): ..."), "import_error")
    assert evidence["exception"] == exception
    assert evidence["line"] == 2
    assert evidence.get("module") == ("no_such_module_at_all" if "import" in line else None)


@pytest.mark.parametrize("source", ["def handle(): ...", "handler = 3"])
async def test_a_module_without_a_callable_handler_is_told_so(isolation: ProcessIsolation, source: str) -> None:
    failure(await call(isolation, source), "missing_handler")


async def test_input_that_does_not_fit_names_missing_and_unexpected(isolation: ProcessIsolation) -> None:
    source = """
    def handler(a, b, *, c=1):
        open("ran", "w")
    """
    evidence = failure(await call(isolation, source, a=1, d=2), "signature_mismatch")
    assert evidence["missing"] == ["b"]
    assert evidence["unexpected"] == ["d"]
    assert evidence["signature"] == "handler(a, b, *, c=1)"


async def test_a_type_error_inside_the_handler_is_not_a_signature_mismatch(isolation: ProcessIsolation) -> None:
    evidence = failure(await call(isolation, "def handler(a):\n    return len(a)\n", a=1), "handler_error")
    assert evidence["exception"] == "TypeError"


async def test_an_exception_carries_lines_of_the_code_and_tails_of_the_output(isolation: ProcessIsolation) -> None:
    outcome = await call(
        isolation,
        """
        def deeper(x):
            raise ValueError("no order " + x)

        def handler(x):
            print("before")
            return deeper(x)
        """,
        x="77",
    )
    evidence = failure(outcome, "handler_error")
    assert outcome.error is not None
    assert outcome.error.message == "ValueError: no order 77"
    assert evidence["frames"] == [
        {"line": 7, "function": "handler", "code": "return deeper(x)"},
        {"line": 3, "function": "deeper", "code": 'raise ValueError("no order " + x)'},
    ]
    assert evidence["line"] == 3
    assert evidence["stdout_tail"] == "before\n"
    assert not any("hotload" in str(line) for line in str(evidence["traceback"]).splitlines())


async def test_exceptions_that_defend_themselves_are_still_reported(isolation: ProcessIsolation) -> None:
    source = """
    class Nasty(BaseException):
        def __str__(self): raise RuntimeError("no")
    def handler():
        raise Nasty("\\ud800")
    """
    assert failure(await call(isolation, source), "handler_error")["exception"] == "Nasty"
    recursion = "def handler():\n    return handler()\n"
    assert failure(await call(isolation, recursion), "handler_error")["exception"] == "RecursionError"


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(4)", 4), ("sys.exit()", 0), ("os._exit(5)", 5), ("os._exit(0)", 0)]
)
@pytest.mark.parametrize("where", ["import", "handler"])
async def test_leaving_the_process_is_never_a_success(
    isolation: ProcessIsolation, end: str, code: int, where: str
) -> None:
    body = f"{end}\ndef handler(): ..." if where == "import" else f"def handler():\n    {end}"
    assert failure(await call(isolation, f"import os, sys\n{body}"), "exited")["exit_code"] == code


async def test_a_segmentation_fault_names_the_signal_and_the_line(isolation: ProcessIsolation) -> None:
    outcome = await call(isolation, "import ctypes\ndef handler():\n    ctypes.string_at(0)\n")
    evidence = failure(outcome, "crashed")
    assert evidence["signal_name"] == "SIGSEGV"
    assert "line 3 in handler" in outcome.stderr


async def test_a_run_that_takes_too_long_is_killed_on_time(isolation: ProcessIsolation) -> None:
    source = "def handler():\n    print('started', end='')\n    while True: pass\n"
    for seconds in (0.2, 2.0, 20.0):
        outcome = await call(isolation, source, JobLimits(wall_seconds=seconds, cpu_seconds=100))
        evidence = failure(outcome, "timeout", Status.TIMED_OUT)
        assert seconds <= outcome.seconds < seconds + 30
        if evidence["stdout_tail"]:  # else it came to nothing in its time, on a busy machine
            break
    assert evidence["stdout_tail"] == "started"


async def test_the_deadline_covers_import_and_encoding(isolation: ProcessIsolation) -> None:
    limits = JobLimits(wall_seconds=0.2)
    failure(await call(isolation, "while True: pass\n", limits), "timeout", Status.TIMED_OUT)
    slow = """
    class Slow(dict):
        def items(self):
            while True: pass
    def handler(): return Slow(a=1)
    """
    failure(await call(isolation, slow, limits), "timeout", Status.TIMED_OUT)


async def test_processor_time_is_limited_apart_from_wall_time(isolation: ProcessIsolation) -> None:
    outcome = await call(isolation, "def handler():\n    while True: pass\n", JobLimits(cpu_seconds=1))
    assert failure(outcome, "timeout", Status.TIMED_OUT)["limit"] == "cpu_seconds"


async def test_code_that_ignores_the_signal_of_the_processor_limit_is_killed_a_second_later(
    isolation: ProcessIsolation,
) -> None:
    source = """
    import signal
    def handler():
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while True: pass
    """
    outcome = await call(isolation, source, JobLimits(cpu_seconds=1))
    assert failure(outcome, "timeout", Status.TIMED_OUT)["limit"] == "cpu_seconds"


async def test_memory_beyond_the_limit_is_refused_to_the_code(isolation: ProcessIsolation) -> None:
    outcome = await call(
        isolation, "def handler():\n    return len(bytearray(300 << 20))", JobLimits(memory_bytes=64 << 20)
    )
    evidence = failure(outcome, "handler_error")
    assert (evidence["exception"], evidence["limit"]) == ("MemoryError", "memory_bytes")
    assert "64 MiB; use less, or raise limits.memory_mb" in str(outcome.error)
    assert (await call(isolation, "def handler():\n    return len(bytearray(30 << 20))")).value == 30 << 20


async def test_a_file_beyond_the_limit_is_refused_to_the_code(isolation: ProcessIsolation) -> None:
    source = "def handler():\n    open('big', 'wb').write(b'x' * 2_000_000)\n"
    evidence = failure(await call(isolation, source, JobLimits(file_bytes=1_000_000)), "handler_error")
    # Where there is no directory to write to, there is no file to begin with.
    assert evidence["exception"] == ("PermissionError" if isolation.label == "zygote-lsm" else "OSError")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("{1, 2}", "$"),
        ("{'a': [1, float('nan')]}", "$.a[1]"),
        ("[float('inf')]", "$[0]"),
        ("{'a': {1: 2}}", "$.a"),
        ("{'a': b'x'}", "$.a"),
        ("'\\ud800'", "$"),
        ("handler", "$"),
        ("10 ** 5000", "$"),
        ("nested()", "$" + "[0]" * 64),
    ],
)
async def test_what_is_not_json_is_refused_with_its_place(isolation: ProcessIsolation, value: str, path: str) -> None:
    source = f"""
def nested():
    top = []
    for _ in range(100_000): top = [top]
    return top
def handler(): return {value}
"""
    assert failure(await call(isolation, source), "not_json")["path"] == path


async def test_a_value_that_contains_itself_is_not_json(isolation: ProcessIsolation) -> None:
    failure(await call(isolation, "def handler():\n    x = []\n    x.append(x)\n    return x"), "not_json")


async def test_a_result_of_ten_megabytes_is_too_large_and_says_how_large(isolation: ProcessIsolation) -> None:
    evidence = failure(await call(isolation, "def handler(): return 'x' * 10_000_000"), "result_too_large")
    assert evidence["bytes"] == 10_000_002
    assert evidence["limit"] == 8 << 20
    small = await call(isolation, "def handler(): return 'x' * 100", JobLimits(result_bytes=100))
    failure(small, "result_too_large")
    assert len(str((await call(isolation, "def handler(): return 'x' * 8_000_000")).value)) == 8_000_000


async def test_ten_megabytes_of_binary_output_neither_block_nor_fail_the_run(isolation: ProcessIsolation) -> None:
    source = """
    import sys
    def handler():
        for _ in range(160):
            sys.stdout.buffer.write(bytes(range(256)) * 256)
        sys.stdout.write("\\ud800 tail")
        return "done"
    """
    outcome = await call(isolation, source, JobLimits(log_bytes=100_000))
    assert outcome.value == "done"
    assert 50_000 < len(outcome.stdout) < 110_000
    assert "truncated" in outcome.stdout


async def test_raw_output_past_python_is_bounded_too(isolation: ProcessIsolation) -> None:
    source = """
    import os
    def handler():
        for _ in range(100):
            os.write(1, b"x" * 1_000_000)
    """
    outcome = await call(isolation, source, JobLimits(log_bytes=1000, file_bytes=2_000_000))
    assert failure(outcome, "handler_error")["exception"] == "OSError"
    assert len(outcome.stdout) < 2000
    assert "dropped" in outcome.stdout


async def test_source_that_is_not_what_was_registered_is_never_sent(isolation: ProcessIsolation) -> None:
    job = Job("def handler(): return 1", "0" * 64, "changed")
    evidence = failure(await isolation.run(job), "hash_mismatch")
    assert evidence["expected"] == "0" * 64
    assert isolation.parked <= 1


async def test_cancelling_ends_a_running_handler_and_reports_it_stopped(isolation: ProcessIsolation) -> None:
    cancelled = asyncio.Event()
    # The call to the broker tells that the handler runs; no guess about timing.
    source = "from wrapper import sdk\nimport time\ndef handler():\n    sdk.call('started', None)\n    time.sleep(60)\n"

    async def broker(method: str, args: JsonValue) -> JsonValue:
        cancelled.set()
        return None

    outcome = await isolation.run(Job.of(source), broker, cancelled)
    evidence = failure(outcome, "cancelled", Status.CANCELLED)
    assert evidence["stopped"] is True
    assert evidence["ended_by"] == "SIGTERM"
    assert outcome.seconds < 50


async def test_cancelling_kills_code_that_ignores_the_request_to_stop(isolation: ProcessIsolation) -> None:
    cancelled = asyncio.Event()
    source = """
from wrapper import sdk
import signal
def handler():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sdk.call('started', None)
    while True: pass
"""

    async def broker(method: str, args: JsonValue) -> JsonValue:
        cancelled.set()
        return None

    evidence = failure(await isolation.run(Job.of(source), broker, cancelled), "cancelled", Status.CANCELLED)
    assert (evidence["ended_by"], evidence["stopped"]) == ("SIGKILL", True)


async def test_a_run_cancelled_before_it_starts_runs_nothing(isolation: ProcessIsolation) -> None:
    cancelled = asyncio.Event()
    cancelled.set()
    outcome = await isolation.run(Job.of("def handler(): return 1"), None, cancelled)
    failure(outcome, "cancelled", Status.CANCELLED)
    assert outcome.seconds == 0


async def test_two_versions_of_one_module_do_not_see_each_other(isolation: ProcessIsolation) -> None:
    source = """
import sys, builtins
seen = [name for name in sys.modules if name.startswith("arb_cap_")]
marks = hasattr(builtins, "left_behind")
builtins.left_behind = True
sys.modules["shared_name"] = sys
def handler(): return [VERSION, seen == [__name__], marks, "shared_name" in sys.modules]
"""
    one, two = Job.of(source.replace("VERSION", "1")), Job.of(source.replace("VERSION", "2"))
    results = [await isolation.run(job) for job in (one, two, one)]
    assert [each.value for each in results] == [[1, True, False, True], [2, True, False, True], [1, True, False, True]]
    name = await isolation.run(Job.of("def handler(): return __name__"))
    assert name.value == f"arb_cap_{Job.of('def handler(): return __name__').sha256[:32]}"


async def test_a_child_sees_no_environment_of_the_host_and_only_its_own_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-host")
    leaked = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    source = """
import os, sys, tempfile
def handler():
    path = os.path.realpath(os.getcwd())
    return {
        "environ": dict(os.environ), "initial": open("/proc/self/environ", "rb").read().decode("latin1"),
        "parent": open(f"/proc/{os.getppid()}/environ", "rb").read().decode("latin1"),
        "fds": [n for n in range(2000) if os.path.exists(f"/proc/self/fd/{n}")],
        "cwd": path, "empty": os.listdir("."), "home": os.environ["HOME"], "temp": tempfile.gettempdir(),
        "mode": oct(os.stat(".").st_mode & 0o777), "session": os.getsid(0) == os.getpid(), "argv": sys.argv,
        "path": [p for p in sys.path if p in ("", ".")], "stdin": sys.stdin.read() if sys.stdin else "",
    }
"""
    try:
        async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
            value = (await isolation.run(Job.of(source))).value
    finally:
        os.close(leaked)
    assert isinstance(value, dict)
    assert "s3cr3t" not in str(value)
    assert set(value["environ"]) == {"PATH", "HOME", "TMPDIR", "LANG", "AWS_EC2_METADATA_DISABLED"}  # type: ignore[arg-type]
    assert value["fds"] == [0, 1, 2, 3]
    assert value["cwd"] == value["home"] == value["temp"]
    assert not os.access(str(value["cwd"]), os.F_OK)
    assert (value["empty"], value["mode"], value["session"], value["path"]) == ([], "0o700", True, [])


async def test_input_that_is_not_json_and_limits_out_of_range_are_refused_at_the_edge(
    isolation: ProcessIsolation,
) -> None:
    with pytest.raises(BadInput, match=r"job\.input\.x"):
        await call(isolation, "def handler(x): ...", x=float("nan"))
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match=r"limits\.wall_seconds"):
            JobLimits(wall_seconds=wrong)
    failure(await call(isolation, "def handler(x): ...", x="y" * 5_000_000), "limit")


async def test_many_runs_at_once_keep_their_own_results(isolation: ProcessIsolation) -> None:
    source = "import time\ndef handler(n):\n    time.sleep(0.05)\n    print(n)\n    return n\n"
    outcomes = await asyncio.gather(*(call(isolation, source, n=n) for n in range(24)))
    assert [each.value for each in outcomes] == list(range(24))
    assert [each.stdout for each in outcomes] == [f"{n}\n" for n in range(24)]
