"""The documentation is true: its code runs, its commands do what is shown, its links lead somewhere, its tables match."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import CodeType, ModuleType

import doc_pages
import jsonschema
import pytest
from doc_pages import README, ROOT, Block, pages

from blackboard import events
from blackboard.agenda import Agenda
from blackboard.approval import Terms
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.engine import stop_local
from blackboard.entries import Entries
from blackboard.erasure import erase
from blackboard.triggers import AgendaTerms, Declared, Trigger
from blackboard.types import Failure, Limits, Status, TaskSpec

LANGUAGES = {"python", "console", "json", "toml", "text"}
"""What a page's code blocks may be; ``sh`` stands in the README only, for what makes a new environment."""
PYTHON_SECONDS = 150.0

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)


# ---- code --------------------------------------------------------------------------------------------------------------


@every_page
def test_every_block_says_what_it_is(page: Path) -> None:
    allowed = LANGUAGES | ({"sh"} if page == README else set())
    found = [f"{block} is {block.language or 'of no language'}" for block in doc_pages.blocks(page)]
    wrong = [said for said, block in zip(found, doc_pages.blocks(page), strict=True) if block.language not in allowed]
    assert not wrong, f"use one of {', '.join(sorted(allowed))}: {wrong}"


@every_page
@pytest.mark.timeout(400)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runnable = [block for block in doc_pages.blocks(page) if block.language in ("python", "console", "json")]
    environment = doc_pages.clean_environment(tmp_path)
    for name in [*doc_pages.secrets()]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where the types a page defines are looked up
    try:
        with asyncio.Runner() as runner:
            for block in runnable:
                if block.file:
                    (tmp_path / block.file).write_text(block.text, encoding="utf-8")
                elif block.language == "python":
                    _python(block, module, runner)
                elif block.language == "console":
                    _console(block, tmp_path, environment, warm=page != README)
                else:
                    json.loads(block.text)
    finally:
        stop_local(tmp_path / "data")


def _python(block: Block, module: ModuleType, runner: asyncio.Runner) -> None:
    padded = "\n" * block.line + block.text  # so that a traceback names the page's own lines
    code: CodeType = compile(padded, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, module.__dict__)
        return

    async def awaited() -> None:
        async with asyncio.timeout(PYTHON_SECONDS):
            await eval(code, module.__dict__)

    runner.run(awaited())


def _console(block: Block, folder: Path, environment: dict[str, str], *, warm: bool = False) -> None:
    listed = doc_pages.commands(block)
    for one, (code, output) in zip(listed, doc_pages.run(listed, folder, environment, warm=warm), strict=True):
        assert code == one.code, f"{block}: $ {one.words}\nexits {code}, not {one.code}:\n{output}"
        lost = doc_pages.missing(one.shown, output)
        assert lost is None, f"{block}: $ {one.words}\ndoes not show {lost!r}:\n{output}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$ echo one two\none ... two\n$ false  # exits 1\n", None),
        ("$ echo one\ntwo\n", "does not show 'two'"),
        ("$ printf 'b\\na\\n'\na\nb\n", "does not show 'b'"),
        ("$ false\n", "exits 1, not 0"),
        ("$ true  # exits 2\n", "exits 0, not 2"),
        ("$ exit 3\n", "the shell stopped early"),
        ("nothing is run\n", "stands above the first command"),
    ],
)
def test_a_console_block_that_is_not_true_is_noticed(text: str, said: str | None, tmp_path: Path) -> None:
    block = Block(README, 1, "console", text)
    if said is None:
        _console(block, tmp_path, doc_pages.clean_environment(tmp_path))
    else:
        with pytest.raises(AssertionError, match=said):
            _console(block, tmp_path, doc_pages.clean_environment(tmp_path))


# ---- the two commands of the README --------------------------------------------------------------------------------------


def _readme_commands() -> list[str]:
    return [block.text.strip() for block in doc_pages.blocks(README) if block.language == "sh"]


def test_the_readme_has_two_commands_that_make_an_environment_and_use_it() -> None:
    commands = _readme_commands()
    assert len(commands) == 2
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for command in commands:
        named = re.search(r"pip install .*'\.\[([a-z,]+)\]'", command)
        assert named is not None, command
        assert set(named[1].split(",")) <= set(extras), f"an extra that does not exist: {command}"


@pytest.mark.timeout(180)
def test_the_readmes_first_command_shows_the_main_job(tmp_path: Path) -> None:
    words = _readme_commands()[0].split("&&")[-1].strip().removeprefix(".venv/bin/")
    assert words == "arbiter demo"
    ended = subprocess.run(
        [*words.split()],
        cwd=tmp_path,
        env=(environment := doc_pages.clean_environment(tmp_path)),
        executable=str(Path(environment["PATH"].split(":")[0]) / "arbiter"),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    stop_local(tmp_path / "data")
    assert ended.returncode == 0, ended.stderr
    assert "Order 12345" in ended.stdout
    assert "scripted" in ended.stderr
    assert "not a real model" in ended.stderr
    (shown,) = (block.text for block in doc_pages.blocks(README) if block.language == "text")
    said = re.sub(r" in [\d.]+ s:", ":", ended.stderr)
    assert [line for line in shown.strip().splitlines() if line not in said] == [], (
        "the README shows another demonstration"
    )


def test_a_submission_is_tested_by_the_readmes_second_command() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    taken = re.search(r"^readme_command\(\) \{.*?^\}$.*?^command=.*?$", script, re.MULTILINE | re.DOTALL)
    assert taken is not None, ".ci/run takes it from the README"
    steps = re.findall(r'^bash -euo pipefail -c ("\$\{command.*?\}")', script, re.MULTILINE)
    said = subprocess.run(
        ["bash", "-c", f"{taken[0]}\nprintf '%s\\n' {' '.join(steps)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    made, tested = (step.strip() for step in said.stdout.splitlines())
    assert f"{made} && {tested}" == _readme_commands()[1]
    assert "-m pytest" in tested
    assert "-m pytest" not in made


# ---- links -------------------------------------------------------------------------------------------------------------


@every_page
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    broken: list[str] = []
    for link in doc_pages.links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in doc_pages.anchors(target)):
            broken.append(link)
    assert not broken


def test_the_readme_links_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in doc_pages.links(README)}
    assert not [page.name for page in pages()[1:] if page not in linked]


# ---- events ------------------------------------------------------------------------------------------------------------


def _generator() -> ModuleType:
    path = ROOT / "docs" / "_generate_events.py"
    spec = importlib.util.spec_from_file_location("generate_events", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_events_is_what_the_models_say() -> None:
    written = (ROOT / "docs" / "events.md").read_text("utf-8")
    assert written == _generator().page(), "it is stale: python docs/_generate_events.py"


def test_every_event_type_has_a_section_with_each_of_its_fields() -> None:
    text = (ROOT / "docs" / "events.md").read_text("utf-8")
    sections = dict(re.findall(r"^## `([a-z.]+)`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(events.TYPES)
    for kind, cls in events.TYPES.items():
        schema = _generator().data_schema(cls)
        for field in schema.get("properties", {}):
            assert f"| `{field}` |" in sections[kind], f"{kind}: {field}"


class _Listener:
    """Collects a run's events, volatile ones included."""

    def __init__(self) -> None:
        self.seen: list[events.Event] = []
        self.listens = asyncio.Event()

    async def watch(self, board: Board, run_id: str) -> None:
        async for event in board.watch(run_id):
            self.seen.append(event)
            if event.kind == "task.posted":  # the last one that was there before
                self.listens.set()


async def test_real_events_fit_the_documented_schemas_and_are_where_the_page_says(redis_board: Board) -> None:
    board, lanes, notes = redis_board, ["arbiter"], _Listener()
    run_id = await board.submit("tell of everything", agenda=AgendaTerms())
    trigger = Declared.of("waits", "v", 0, "generic", "*", Trigger(topic="a"))
    await board.triggers.write("waits", "1", [trigger])
    watching = asyncio.ensure_future(notes.watch(board, run_id))
    await asyncio.wait_for(notes.listens.wait(), 30)
    (step,) = await board.claim("w", lanes)
    tasks = [
        TaskSpec(key="a", tool_use_id="t1", capability="one", version="v", lane="generic"),
        TaskSpec(key="b", tool_use_id="t2", capability="two", lane="generic", after=("a",)),
    ]
    await board.commit_step(
        step, events.RoundPlannedData(round=1, message={"role": "assistant", "content": []}), tasks, Limits()
    )
    (claim,) = await board.claim("w", ["generic"])
    await board.release(claim)
    (claim,) = await board.claim("w", ["generic"])
    attempt = Attempt(board, claim)
    await attempt.progress("task.progressed", {"half": True})
    await attempt.progress("fabrication.stage", {"stage": "exam_public", "outcome": "passed"})
    failure = Failure(type="crashed", message="it fell", retryable=True)
    board.random.uniform = lambda a, b: 0.0  # type: ignore[method-assign]
    await board.fail(claim, claim.completion(Status.FAILED, error=failure))
    while not (found := await board.claim("w", ["generic"])):
        await board.sweep()
    await board.ask_person(found[0], {"n": 1}, Terms(60.0, "refuse", (), (), 30.0))
    await board.answer_person(found[0].task_id, "approved", by="ann", given={"n": 2}, label="person")
    found = await board.claim("w", ["generic"])
    token = await board.open_callback(found[0], sources=["callback:one"])
    await board.wait_for_callback(found[0], 60.0, 30.0, sources=["callback:one"], repeatable=False)
    await board.complete_callback(await board.called(token), {"n": 1}, by="ann")
    (second,) = await board.claim("w", ["generic"])
    entries = Entries(board, f"run:{run_id}")
    written = await entries.post("a", {"n": 1}, taint=["web"], seconds=60, task=second)
    other = await entries.post("a", 2, links=[("supports", written.id)])
    await entries.amend(written.id, 3)
    await entries.retract(other.id, "no")
    held = await entries.take("a", lease_seconds=60)
    assert held is not None
    await entries.give_back(held.id, held.fence or 0)
    await entries.take("a")
    (control,) = await board.claim("w", lanes)
    agenda = Agenda(board, run_id)
    decided = events.AgendaDecidedData(strategy="priority", strategy_version="terms")
    await agenda.block(1, by="ada", reason="not now")
    await agenda.decide(control, 1, decided, [], ends=True, facts=0, rated_all=True)
    await entries.post("a", 4, author=events.Author(kind="person", name="ann"))
    await erase(board, author="ann", scope=f"run:{run_id}")
    await board.pause_run(run_id, "a moment")
    await board.resume_run(run_id)
    await board.cancel_task(second.task_id, "not this one")
    await board.cancel_run(run_id, "enough")
    await board.complete(second, second.completion(Status.CANCELLED, error=failure))
    await asyncio.wait_for(watching, 30)

    logged = {event.kind for event in await board.history(run_id)}
    seen = {event.kind for event in notes.seen}
    page = _generator()
    of_runs = set(events.TYPES) - {events.ScopeCompacted.kind}  # the log of a run is not compacted
    assert logged == of_runs - set(page.FEED_ONLY)
    assert seen == of_runs
    for event in notes.seen:
        jsonschema.validate(event.model_dump(mode="json")["data"], page.data_schema(type(event)))
        assert event.subject == run_id or event.subject.startswith(f"{run_id}/")
        assert event.id.startswith(f"{event.subject}:")
    assert len({event.id for event in notes.seen}) == len(notes.seen)
