"""G10, the other half: what honest code needs works inside, in the isolation the attacks run in."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import BoxedIsolation, Isolation, Job, JobLimits, Outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boxed() -> AsyncIterator[Isolation]:
    async with BoxedIsolation(preload_strands=True, parked=2) as isolation:
        yield isolation


async def model(method: str, args: JsonValue) -> JsonValue:
    """A model that uses the tool it is given, then says what the tool said."""
    assert method == "model.invoke"
    assert isinstance(args, dict)
    messages = args["messages"]
    assert isinstance(messages, list)
    content: JsonValue = [{"text": f"done after {len(messages)} messages"}]
    stop = "end_turn"
    if args["tool_specs"] and len(messages) == 1:
        content = [{"toolUse": {"name": "double", "toolUseId": "t1", "input": {"number": 21}}}]
        stop = "tool_use"
    usage: JsonValue = {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4}
    return {"message": {"role": "assistant", "content": content}, "stopReason": stop, "usage": usage}


async def run(isolation: Isolation, source: str, input: Mapping[str, JsonValue] | None = None) -> Outcome:
    job = Job.of(textwrap.dedent(source), input=input, limits=JobLimits(wall_seconds=100), grants=("model.invoke",))
    outcome = await isolation.run(job, model)
    assert outcome.status is Status.SUCCEEDED, (outcome.error, outcome.stderr)
    return outcome


CONTROLS: dict[str, tuple[str, JsonValue]] = {
    "an_event_loop_with_tasks_threads_and_timeouts": (
        """
        import asyncio, time
        async def slow(n):
            await asyncio.sleep(0.001)
            return n
        async def handler():
            queue = asyncio.Queue()
            await queue.put(await asyncio.to_thread(time.strftime, "%Y", time.gmtime(0)))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(slow(n)) for n in range(5)]
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(5)
            except TimeoutError:
                return [await queue.get(), [each.result() for each in tasks]]
        """,
        ["1970", [0, 1, 2, 3, 4]],
    ),
    "an_event_loop_of_its_own_with_streams_in_memory": (
        """
        import asyncio
        def handler():
            async def main():
                reader = asyncio.StreamReader()
                reader.feed_data(b"line\\nrest")
                reader.feed_eof()
                loop = asyncio.get_running_loop()
                loop.call_soon_threadsafe(lambda: None)
                return [(await reader.readline()).decode(), (await reader.read()).decode()]
            return asyncio.run(main())
        """,
        ["line\n", "rest"],
    ),
    "threads_locks_and_executors": (
        """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        def handler():
            total, lock, barrier = 0, threading.Lock(), threading.Barrier(8)
            def add():
                nonlocal total
                barrier.wait()
                for _ in range(1000):
                    with lock: total += 1
            threads = [threading.Thread(target=add) for _ in range(8)]
            for each in threads: each.start()
            for each in threads: each.join()
            with ThreadPoolExecutor(20) as pool:
                return [total, sum(pool.map(lambda n: n * n, range(100)))]
        """,
        [8000, 328350],
    ),
    "temporary_files_and_folders": (
        """
        import os, shutil, tempfile
        from pathlib import Path
        def handler():
            with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+") as named:
                path = Path(folder, "a", "ü.txt")
                path.parent.mkdir()
                path.write_text("x" * 100_000)
                path.rename(path.with_suffix(".md"))
                shutil.make_archive(folder + "/packed", "zip", path.parent)
                named.write("again"); named.flush(); named.seek(0)
                spooled = tempfile.SpooledTemporaryFile(max_size=10)
                spooled.write(b"more than ten bytes")
                os.symlink("a", folder + "/link")
                linked = Path(folder, "link", "ü.md").read_text()
                return [len(linked), named.read(), Path(folder, "packed.zip").exists()]
        """,
        [100_000, "again", True],
    ),
    "files_in_the_working_folder": (
        """
        import csv, json, os, sqlite3
        def handler():
            with open("rows.csv", "w", newline="") as file: csv.writer(file).writerows([[1, "a"], [2, "b"]])
            with open("rows.csv", newline="") as file: rows = list(csv.reader(file))
            base = sqlite3.connect("data.sqlite")
            base.execute("create table t (a, b)")
            base.executemany("insert into t values (?, ?)", rows)
            base.commit()
            with open("log.txt", "a+") as file: file.write("x"); file.truncate(0)
            os.remove("rows.csv")
            return [base.execute("select count(*), max(b) from t").fetchone(), sorted(os.listdir("."))]
        """,
        [[2, "b"], ["data.sqlite", "log.txt"]],
    ),
    "two_hundred_megabytes_of_memory": (
        """
        def handler():
            held = [bytearray(b"x") * (10 << 20) for _ in range(20)]
            return sum(len(each) for each in held)
        """,
        200 << 20,
    ),
    "a_result_of_a_megabyte": ("def handler(): return 'ü' * (1 << 19)", "ü" * (1 << 19)),
    "unicode_everywhere": (
        """
        import unicodedata
        def handler(größe="Straße"):
            print("нормально 🦊")
            return {größe: [unicodedata.name("🦊"), "e\\u0301", unicodedata.normalize("NFC", "e\\u0301"), "\\x00"]}
        """,
        {"Straße": ["FOX FACE", "e\u0301", "é", "\x00"]},
    ),
    "dates_and_time_zones": (
        """
        from datetime import datetime, timedelta, timezone
        from zoneinfo import ZoneInfo
        import time
        def handler():
            there = datetime(2024, 7, 1, 12, tzinfo=timezone.utc).astimezone(ZoneInfo("Europe/Berlin"))
            return [there.isoformat(), str(timedelta(hours=1)), time.time() > 1e9, datetime.now().year > 2000]
        """,
        ["2024-07-01T14:00:00+02:00", "1:00:00", True, True],
    ),
    "numbers_and_statistics": (
        """
        import decimal, fractions, math, random, statistics
        def handler():
            random.seed(7)
            a = [random.random() for _ in range(3)]
            random.seed(7)
            return [str(decimal.Decimal("0.1") * 3), str(fractions.Fraction(1, 3) + 1), math.comb(10, 3),
                    statistics.median([3, 1, 2]), a == [random.random() for _ in range(3)], 2 ** 200 % 97]
        """,
        ["0.3", "4/3", 120, 2, True, pow(2, 200, 97)],
    ),
    "text_hashes_and_secrets": (
        """
        import base64, hashlib, hmac, html, json, re, secrets, string, textwrap, urllib.parse, uuid, zlib
        import xml.etree.ElementTree as tree
        def handler():
            return [re.sub(r"(\\w+)@(\\w+)", r"\\2 at \\1", "me@home"), json.loads(json.dumps({"a": [1, None]}))["a"],
                    hashlib.sha256(b"x").hexdigest()[:8], hmac.new(b"k", b"x", "sha256").hexdigest()[:4],
                    len(secrets.token_hex(8)), len(str(uuid.uuid4())), zlib.decompress(zlib.compress(b"x" * 99)).decode()[:2],
                    urllib.parse.urlsplit("https://a.b/c?d=e").netloc, html.unescape("&lt;"),
                    tree.fromstring("<a><b>t</b></a>").find("b").text,
                    textwrap.shorten("a long line", 8), base64.b64encode(b"x").decode()]
        """,
        ["home at me", [1, None], "2d711642", "c38e", 16, 36, "xx", "a.b", "<", "t", "a [...]", "eA=="],
    ),
    "dataclasses_enums_protocols_and_generics": (
        """
        import enum, functools, itertools, typing
        from dataclasses import asdict, dataclass, field
        class Color(enum.StrEnum): RED = "red"
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, item: T): self.item = item
        @dataclass(frozen=True, slots=True)
        class Row:
            n: int
            tags: list[str] = field(default_factory=list)
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        def handler():
            match Row(3, ["a"]):
                case Row(n=n, tags=[first]):
                    return [asdict(Row(1)), Color.RED, Box(2).item, n, first, fib(60), list(itertools.pairwise("abc"))]
        """,
        [{"n": 1, "tags": []}, "red", 2, 3, "a", 1548008755920, [["a", "b"], ["b", "c"]]],
    ),
    "pydantic_models": (
        """
        from pydantic import BaseModel, Field, ValidationError
        class Order(BaseModel):
            id: int
            items: list[str] = Field(min_length=1)
        def handler():
            try:
                Order(id="x", items=[])
            except ValidationError as error:
                return [Order.model_validate_json('{"id": 3, "items": ["a"]}').model_dump(), error.error_count()]
        """,
        [{"id": 3, "items": ["a"]}, 2],
    ),
    "logging_warnings_and_tracebacks": (
        """
        import io, logging, traceback, warnings
        def handler():
            stream = io.StringIO()
            logging.basicConfig(stream=stream, level="INFO", force=True, format="%(levelname)s %(message)s")
            logging.getLogger("mine").info("here %s", 1)
            try:
                {}["missing"]
            except KeyError:
                shown = traceback.format_exc()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("careful")
            return [stream.getvalue(), '{}["missing"]' in shown, str(caught[0].message)]
        """,
        ["INFO here 1\n", True, "careful"],
    ),
    "generators_contexts_and_exception_groups": (
        """
        import contextlib, contextvars
        variable = contextvars.ContextVar("v", default=0)
        def counting():
            got = 0
            while True: got += (yield got)
        @contextlib.contextmanager
        def setting(value):
            token = variable.set(value)
            try: yield
            finally: variable.reset(token)
        def handler():
            counter = counting(); next(counter); counter.send(2)
            caught = []
            try:
                raise ExceptionGroup("all", [ValueError("a"), TypeError("b")])
            except* ValueError as group: caught += [str(each) for each in group.exceptions]
            except* TypeError as group: caught += [str(each) for each in group.exceptions]
            with setting(5): inside = variable.get()
            return [counter.send(3), caught, inside, variable.get()]
        """,
        [5, ["a", "b"], 5, 0],
    ),
    "signals_and_timers_of_its_own": (
        """
        import signal, time
        def handler():
            got = []
            signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            deadline = time.monotonic() + 5
            while not got and time.monotonic() < deadline: time.sleep(0.005)
            return len(got)
        """,
        1,
    ),
    "clocks_and_advice_of_its_own": (
        """
        import mmap, time
        def handler():
            clocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID)
            area = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            area.write(b"x" * (1 << 16))
            area.madvise(mmap.MADV_DONTNEED)
            time.sleep(0.001)
            return [all(time.clock_gettime(each) > 0 and time.clock_getres(each) > 0 for each in clocks), area[0]]
        """,
        [True, 0],
    ),
    "memory_maps_pipes_and_selectors": (
        """
        import mmap, os, selectors, socket
        def handler():
            reading, writing = os.pipe()
            os.write(writing, b"x")
            with selectors.DefaultSelector() as selector:
                selector.register(reading, selectors.EVENT_READ)
                ready = len(selector.select(1))
            left, right = socket.socketpair()
            left.sendall(b"over")
            with open("mapped", "wb+") as file:
                file.write(b"\\0" * 8192); file.flush()
                with mmap.mmap(file.fileno(), 8192) as area:
                    area[0:2] = b"ok"
                    return [ready, right.recv(10).decode(), area[0:2].decode()]
        """,
        [1, "over", "ok"],
    ),
    "a_deep_but_finite_recursion": (
        """
        def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
        def handler():
            try:
                depth(10 ** 6)
            except RecursionError:
                return depth(500)
        """,
        500,
    ),
    "a_strands_tool": (
        """
        from strands import tool
        @tool
        def double(number: int) -> int:
            \"\"\"Twice a number.

            Args:
                number: any.
            \"\"\"
            return 2 * number
        def handler():
            return [double(number=4), double.tool_spec["name"]]
        """,
        [8, "double"],
    ),
    "a_strands_agent_with_a_tool_over_the_brokered_model": (
        """
        from strands import Agent, tool
        from strands.models import BedrockModel
        seen = []
        @tool
        def double(number: int) -> int:
            \"\"\"Twice a number.

            Args:
                number: any.
            \"\"\"
            seen.append(number)
            return 2 * number
        def handler():
            agent = Agent(model=BedrockModel(model_id="any"), tools=[double], callback_handler=None)
            return [str(agent("double 21")).strip(), seen]
        """,
        ["done after 3 messages", [21]],
    ),
    "an_agent_of_the_sdk_in_an_event_loop": (
        """
        from strands import Agent
        from wrapper import sdk
        async def handler():
            result = await Agent(model=sdk.model(), callback_handler=None).invoke_async("hello")
            return str(result).strip()
        """,
        "done after 1 messages",
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
async def test_g10_inside_it_can_have(boxed: Isolation, name: str) -> None:
    source, expected = CONTROLS[name]
    assert (await run(boxed, source)).value == expected


async def test_g10_inside_it_can_compute_with_arrays(boxed: Isolation) -> None:
    pytest.importorskip("numpy")
    source = "import numpy\ndef handler(): return float((numpy.eye(200) @ numpy.ones(200)).sum())\n"
    assert (await run(boxed, source)).value == 200.0


async def test_g10_a_failure_inside_says_where_it_was(boxed: Isolation) -> None:
    outcome = await boxed.run(
        Job.of("import sys\ndef handler():\n    print('near', file=sys.stderr)\n    return 1 / 0\n")
    )
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.evidence["line"], outcome.stderr) == ("handler_error", 4, "near\n")
