"""Which ready-made Strands tools are there, and what does each of them reach?

Read from the installed packages' syntax trees; nothing is imported, because importing a tool may start processes, ask
for consent on the terminal, or fail for want of an extra. What a tool reaches is told by what it imports and calls, so
the tags are a lower bound.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

VENDED = "strands.vended_tools"
COMMUNITY = "strands_tools"

_REACHES = {
    "subprocess": "shell", "pty": "shell", "pexpect": "shell", "os.system": "shell",
    "exec": "code", "eval": "code", "compile": "code", "importlib": "code",
    "requests": "network", "httpx": "network", "aiohttp": "network", "urllib": "network", "socket": "network",
    "slack_sdk": "network", "slack_bolt": "network", "tavily": "network", "feedparser": "network", "mcp": "network",
    "a2a": "network", "playwright": "network", "pymongo": "network", "elasticsearch": "network", "mem0": "network",
    "boto3": "aws", "botocore": "aws", "bedrock_agentcore": "aws",
    "open": "files", "pathlib": "files", "shutil": "files",
    "input": "person", "prompt_toolkit": "person",
    "pyautogui": "desktop",
    "strands.Agent": "model", "Agent": "model",
}  # fmt: skip

_KNOWN = {
    "shell": "shell", "bash": "shell", "python_repl": "code", "file_editor": "files", "http_request": "network",
    "web_fetch": "network", "mcp_router": "network", "a2a_client": "network", "handoff_to_user": "person",
    "subagent": "model", "swarm": "model", "notebook": "", "sleep": "", "stop": "",
    "editor": "files", "file_read": "files", "file_write": "files", "environment": "secrets", "load_tool": "code",
    "cron": "shell", "use_computer": "desktop", "browser": "network", "use_aws": "aws", "use_llm": "model",
    "use_agent": "model", "graph": "model", "workflow": "model", "think": "model", "batch": "model",
    "speak": "shell", "diagram": "shell", "code_interpreter": "aws", "journal": "files", "image_reader": "files",
}  # fmt: skip


class Tool(NamedTuple):
    """One tool of an installed package."""

    package: str
    name: str
    summary: str
    reaches: tuple[str, ...]
    """Any of shell, code, network, aws, files, secrets, person, desktop, model; empty when nothing was found."""

    @property
    def usable(self) -> bool:
        """Whether generated code may use it: it reaches nothing, or only the granted model."""
        return set(self.reaches) <= {"model"}


@cache
def catalogue() -> tuple[Tool, ...]:
    """Every tool of the installed packages, by package and name."""
    return tuple(sorted([*_vended(), *_community()]))


def _vended() -> Iterator[Tool]:
    found = importlib.util.find_spec("strands")
    for root in (found.submodule_search_locations or ()) if found else ():
        for folder in Path(root, "vended_tools").glob("[a-z]*/"):
            main = folder / f"{folder.name}.py"
            if main.is_file() and (tree := _parsed(main)) is not None:
                yield Tool(VENDED, folder.name, _summary(tree), _reaches(folder.name, tree))


def _community() -> Iterator[Tool]:
    found = importlib.util.find_spec(COMMUNITY)
    for root in (found.submodule_search_locations or ()) if found else ():
        for file in Path(root).glob("[a-z]*.py"):
            tree = _parsed(file)
            if tree is None:
                continue
            for name, summary in _tools(tree):
                yield Tool(COMMUNITY, name, summary or _summary(tree), _reaches(file.stem, tree))


def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _tools(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any("tool" in ast.unparse(each).split("(")[0].split(".") for each in node.decorator_list):
                yield node.name, _first_line(ast.get_docstring(node))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TOOL_SPEC":
            try:
                spec: object = ast.literal_eval(node.value)
            except ValueError:
                continue
            if isinstance(spec, dict) and isinstance(spec.get("name"), str):  # pyright: ignore
                yield spec["name"], _first_line(str(spec.get("description", "")))  # pyright: ignore


def _summary(tree: ast.Module) -> str:
    return _first_line(ast.get_docstring(tree))


def _first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())[:120]


def _reaches(name: str, tree: ast.Module) -> tuple[str, ...]:
    if name in _KNOWN:
        return (_KNOWN[name],) if _KNOWN[name] else ()
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(node.module or "").split(".")[0]]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
        found.update(_REACHES[each] for each in names if each in _REACHES)
    return tuple(sorted(found))
