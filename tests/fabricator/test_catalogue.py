"""The tool catalogue is read, never imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fabricator import catalogue

FETCH = '''"""Fetch things.

More words.
"""
import requests
from strands import tool

raise RuntimeError("imported")


@tool
def fetch(url: str) -> str:
    """Fetch one page."""
    return requests.get(url).text


@tool(name="x")
async def fetch_all(urls: list) -> str:
    return ""
'''
SPEC = """import subprocess

TOOL_SPEC = {"name": "run_it", "description": "Run it."}
"""


def test_installed_community_tools_are_listed_with_what_they_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "strands_tools"
    package.mkdir()
    for name, text in (("__init__", ""), ("fetching", FETCH), ("running", SPEC), ("broken", "def (")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue.catalogue.cache_clear()
    try:
        found = [each for each in catalogue.catalogue() if each.package == catalogue.COMMUNITY]
    finally:
        catalogue.catalogue.cache_clear()

    assert [(each.name, each.summary, each.reaches) for each in found] == [
        ("fetch", "Fetch one page.", ("network",)),
        ("fetch_all", "Fetch things.", ("network",)),
        ("run_it", "Run it.", ("shell",)),
    ]
    assert "strands_tools.fetching" not in sys.modules


def test_the_tools_of_strands_itself_are_listed() -> None:
    found = {each.name: each for each in catalogue.catalogue() if each.package == catalogue.VENDED}
    assert {"shell", "http_request", "notebook", "sleep", "swarm"} <= set(found)
    assert found["notebook"].usable
    assert not found["http_request"].usable
