"""The page of guarantees names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_the_page_names_exists_and_every_guarantee_is_on_it() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named - there == set()
    assert re.findall(r"\*\*(G\d+)", page) == [f"G{n}" for n in range(1, 13)]
