"""The pages of the documentation as data: their code blocks, links and headings, and how a console block is run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import warm_cli
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
WARM = Path(__file__).with_name("warm_arbiter.py")
CONSOLE_SECONDS = 150.0

_EXITS = re.compile(r"\s+# exits (\d+)$")
_CUT = re.compile(r"\.\.\.|…")
_MARK = "@@exit"


@dataclass(frozen=True)
class Block:
    """One fenced code block. ``line`` is that of its fence, counted from 1; one with a ``file`` is the content of it."""

    page: Path
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a console block, the exit code it must have, and the lines its output must hold, in order."""

    words: str
    code: int
    shown: tuple[str, ...]


def pages() -> list[Path]:
    """The README and every page in ``docs``."""
    return [README, *sorted((ROOT / "docs").glob("*.md"))]


@cache
def _tokens(page: Path) -> Sequence[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """The page's code blocks, in order; an indented one counts as one without a language."""
    found: list[Block] = []
    for token in _tokens(page):
        if token.type in ("fence", "code_block"):
            start = token.map[0] + 1 if token.map else 0
            language, _, file = token.info.strip().partition(" ")
            found.append(Block(page, start, language, token.content, file))
    return found


def links(page: Path) -> list[str]:
    """Where the page's links and images lead, as written."""
    found: list[str] = []
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else None
            target = child.attrGet("src") if child.type == "image" else target
            if isinstance(target, str):
                found.append(target)
    return found


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to the page's headings."""
    found: list[str] = []
    tokens = _tokens(page)
    for opened, inline in pairwise(tokens):
        if opened.type == "heading_open":
            text = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with ``$``, and what is shown below each."""
    found: list[tuple[str, int, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            exits = _EXITS.search(line)
            found.append((_EXITS.sub("", line[2:]), int(exits[1]) if exits else 0, []))
        elif line.startswith("> ") and found and not found[-1][2]:
            words, code, shown = found[-1]
            found[-1] = (f"{words}\n{line[2:]}", code, shown)
        elif line.strip():
            assert found, f"{block}: {line!r} stands above the first command"
            found[-1][2].append(line)
    assert found, f"{block}: a console block needs a line that begins with '$ '"
    return [Command(words, code, tuple(shown)) for words, code, shown in found]


def run(
    listed: Sequence[Command], folder: Path, environment: dict[str, str], *, warm: bool = False
) -> list[tuple[int, str]]:
    """Run commands in one shell; exit code and output (both streams, as on a terminal) of each.

    Args:
        warm: have ``arbiter`` done by a process that has it imported already.
    """
    channel = [warm_cli.channel().fileno()] if warm else []
    place = folder / ".warm"
    if warm:
        place.mkdir(exist_ok=True)
        (place / "arbiter").write_text(f"#!{sys.executable} -IS\n{WARM.read_text('utf-8')}")
        (place / "arbiter").chmod(0o700)
        path = os.pathsep.join([str(place), environment["PATH"]])
        environment = {**environment, "PATH": path, "ARBITER_TEST_WARM": str(channel[0])}
    script = "".join(f'{one.words}\nprintf "\\n{_MARK} %d\\n" $?\n' for one in listed)
    with open(folder / ".console", "w+b") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=channel,
        )
        try:
            shell.wait(CONSOLE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            for running in place.glob("[0-9]*"):  # a daemon that lives on would start its server anew
                running.unlink()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(running.name), signal.SIGKILL)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    parts = re.split(rf"\n{_MARK} (\d+)\n", text)
    ended = [(int(code), said) for said, code in zip(parts[::2], parts[1::2], strict=False)]
    assert len(ended) == len(listed), f"the shell stopped early:\n{text}"
    return ended


def missing(shown: Sequence[str], output: str) -> str | None:
    """The first line that is shown on the page and did not come, in order; ``...`` stands for anything."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in shown:
        parts = [" ".join(part.split()) for part in _CUT.split(line)]
        if any(parts) and not any(_holds(said, parts) for said in lines):
            return line
    return None


def _holds(line: str, parts: Sequence[str]) -> bool:
    at = 0
    for part in parts:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def clean_environment(folder: Path) -> dict[str, str]:
    """A newcomer's environment: this interpreter's programs, a data folder of its own, no credentials."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(folder),
        "ARBITER_DATA_DIR": str(folder / "data"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LANG": "C.UTF-8",
    }


def secrets() -> Iterator[str]:
    """Names of environment variables that a newcomer does not have."""
    for name in os.environ:
        if name.startswith(("ARBITER_", "AWS_", "ANTHROPIC_", "OPENAI_", "OLLAMA_")):
            yield name
