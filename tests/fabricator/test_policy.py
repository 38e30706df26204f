"""The static gate, over facts that the real isolation reads from real source."""

from __future__ import annotations

import pytest

from fabricator.catalogue import Tool
from fabricator.conventions import system_prompt
from fabricator.policy import violations
from registry import Grants
from wrapper.isolation import Job, ProcessIsolation

HANDLER = "\ndef handler(x):\n    return x\n"


async def said(
    isolation: ProcessIsolation, source: str, grants: Grants | None = None, extra: tuple[str, ...] = ()
) -> str:
    outcome = await isolation.run(Job.of(source, op="inspect"))
    assert isinstance(outcome.value, dict), outcome.error
    return "\n".join(str(each) for each in violations(outcome.value, grants or Grants(), extra))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import requests", "line 1: requests needs an http grant"),
        ("from urllib.request import urlopen", "urllib.request needs an http grant"),
        ("x = 1\nimport os", "line 2: os reaches the machine, which no grant allows"),
        ("from importlib import import_module", "importlib reaches the machine"),
        ("import numpy", "line 1: numpy needs the packages grant for numpy"),
        ("import statistics, shelve, turtle", "turtle is not among the allowed modules, and no grant opens it"),
        ("from . import other", "relative import"),
        ("from math import *", "Import the names you need from math"),
        ("import boto3", "It posts no events"),
        ("import redis", "It posts no events"),
        ("from blackboard.board import Board", "It posts no events"),
        ("from wrapper import worker", "It posts no events"),
        ("import arbiter", "It posts no events"),
        ("from wrapper import sdk", "wrapper needs the model grant"),
        ("import strands", "strands needs the model grant"),
        ("from random import _os", "random._os is private"),
        ("from typing import sys", "typing.sys reaches the machine"),
        ("import random\nrandom._os.system('ls')", "random._os is private"),
        ("import typing\ntyping.sys.exit()", "typing.sys reaches the machine"),
        ("import io\nio.open('/etc/passwd')", "line 2: io.open is not allowed: reading a file needs a files grant"),
        ("from io import open", "line 1: io.open is not allowed: reading a file needs a files grant"),
        ("import asyncio\nasyncio.create_subprocess_shell('ls')", "it starts processes"),
        ("client = None\nclient.put_events([])", "return the result, the caller reports it"),
        ("().__class__", "__class__ is not allowed"),
        ("eval('1')", "eval is not allowed"),
        ("read = open", "line 1: open is not allowed: reading a file needs a files grant"),
        ("getattr(1, 'real')", "write the attribute itself"),
        ("'{0.__globals__}'.format(1)", "A text names __globals__"),
        ("naïve = 1", "'naïve' is not ASCII"),
        ("def broken(:", "It is not Python"),
        ("x = '" + "a" * 70_000 + "'", "at most 65536 are accepted"),
    ],
)
async def test_what_a_candidate_may_not_contain_is_named(
    isolation: ProcessIsolation, source: str, message: str
) -> None:
    assert message in await said(isolation, source + HANDLER)


@pytest.mark.parametrize(
    "source",
    [
        "import json, re, math, datetime\nfrom collections.abc import Iterable\nfrom decimal import Decimal",
        "from urllib.parse import urlsplit\nimport xml.etree.ElementTree as tree\nfrom urllib import parse",
        "from __future__ import annotations\nfrom dataclasses import dataclass",
        "class A:\n    def __init__(self):\n        self._x = 1\n    def __lt__(self, other):\n        return self._x < 1",
        "import re\nopened = re.compile('a').match('a')",
        "def handler(input, dir):\n    return input or dir",
        "text = 'caf\u00e9 __init__'",
    ],
)
async def test_ordinary_code_is_not_objected_to(isolation: ProcessIsolation, source: str) -> None:
    assert await said(isolation, source if "def handler" in source else source + HANDLER) == ""


async def test_the_model_grant_opens_strands_and_the_sdk_and_nothing_else(isolation: ProcessIsolation) -> None:
    source = (
        "from strands import Agent, models, tool\nfrom wrapper import sdk\nimport wrapper.sdk\n"
        "from strands.vended_tools import make_notebook\nfrom strands.vended_tools import make_shell\nimport httpx\n"
    )
    found = await said(isolation, source + HANDLER, Grants(model=True))
    assert found.splitlines() == [
        "line 5: The tool shell reaches shell, which is not granted. Take the data as a parameter.",
        "line 6: httpx needs an http grant, which this capability does not have. Take the data as a parameter.",
    ]


async def test_an_operator_may_allow_further_modules(isolation: ProcessIsolation) -> None:
    assert await said(isolation, "import numpy.linalg" + HANDLER, extra=("numpy",)) == ""


def test_the_generator_is_told_what_the_gate_enforces() -> None:
    prompt = system_prompt(extra_imports=("numpy",))
    assert prompt.startswith("You are the Fabricator")
    assert "urllib.parse" in prompt
    assert "Installed besides: numpy" in prompt
    assert "models.BedrockModel()" in prompt
    assert "Do not post events" in prompt
    assert "strands.vended_tools.shell" in prompt
    assert "[not available: reaches shell]" in prompt


def test_a_tool_is_usable_when_it_reaches_nothing_but_a_model() -> None:
    assert Tool("p", "a", "", ()).usable
    assert Tool("p", "a", "", ("model",)).usable
    assert not Tool("p", "a", "", ("model", "network")).usable


async def test_where_files_are_granted_the_refusal_says_how_to_read_them(isolation: ProcessIsolation) -> None:
    granted = Grants(files=("rates=/srv/rates.csv",))
    for source in ("open('x')", "import io\nio.open('x')", "from codecs import open"):
        assert "read what was granted with wrapper.sdk.open_input(…): rates" in await said(
            isolation, source + HANDLER, granted
        )
