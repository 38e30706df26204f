"""What code may import: the standard library and what its manifest names, by every way that takes a name."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator

import pytest
from arbiter_support import arbiter

from arbiter import Arbiter, Call, Grants, Manifest
from blackboard.testing import RedisServer
from wrapper.isolation import Job, Outcome, ProcessIsolation
from wrapper.isolation.detection import find

WAYS = (
    "import pydantic",
    "from pydantic import BaseModel",
    "import pydantic.fields as fields",
    "__import__('pydantic')",
    "import importlib; importlib.import_module('pydantic')",
    "import importlib; importlib.import_module('.fields', 'pydantic')",
    "import importlib; importlib.__import__('pydantic')",
    "exec('import pydantic')",
    "exec('import pydantic', {})",
)
"""Ways to one package. It is imported in the warm process already, so that no file has to be read."""


@pytest.fixture
async def isolation() -> AsyncIterator[ProcessIsolation]:
    isolation, _ = await find(preload_strands=True, parked=1)
    yield isolation
    await isolation.close()


async def run(isolation: ProcessIsolation, source: str, packages: tuple[str, ...] | None) -> Outcome:
    return await isolation.run(Job.of(textwrap.dedent(source), packages=packages))


async def test_g10_a_package_that_was_not_granted_cannot_be_imported(isolation: ProcessIsolation) -> None:
    for way in WAYS:
        source = f"def handler():\n    {way}\n    return 'imported'"
        granted = await run(isolation, source, ("pydantic",))
        assert granted.value == "imported", (way, granted.error)
        refused = await run(isolation, source, ())
        assert refused.error is not None, way
        assert "grants.packages = ['pydantic']" in refused.error.message, way


async def test_the_standard_library_the_sdk_and_what_packages_import_are_free(isolation: ProcessIsolation) -> None:
    source = """
        import json, email.message, xml.etree.ElementTree, sqlite3
        from wrapper import sdk
        import wrapper.sdk
        from concurrent import futures

        def handler():
            import strands.types.tools
            from strands import Agent, tool
            from strands.models import BedrockModel
            return json.loads("[1]")
    """
    outcome = await run(isolation, source, Grants().importable())
    assert outcome.value == [1], outcome.error
    for name in ("wrapper", "wrapper.isolation.channel", "blackboard.board"):
        outcome = await run(isolation, f"import {name}\ndef handler(): return 1", ())
        assert outcome.error is not None, name
        assert (outcome.error.type, outcome.error.evidence["module"]) == ("import_error", name)


async def test_g10_a_version_imports_what_its_manifest_names_and_no_more(redis_server: RedisServer) -> None:
    source = "import pydantic\ndef handler(): return pydantic.__name__"
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        await _registered(a, "bare", source, Grants())
        await _registered(a, "listed", source, Grants(packages=("pydantic",)))
        bare, listed = [await a.run(Call(name), timeout=30) for name in ("bare", "listed")]
    assert listed.data == "pydantic", listed.error
    assert bare.error is not None
    assert (bare.status, bare.error.type) == ("failed", "import_error")
    assert "grants.packages = ['pydantic']" in bare.error.message


async def _registered(a: Arbiter, name: str, source: str, grants: Grants) -> None:
    manifest = Manifest(name=name, description="Says a name.", input_schema={"type": "object"}, grants=grants)
    await a.registry.register(manifest, source=source)


@pytest.mark.parametrize(
    ("name", "said"), [("json", "standard library"), ("wrapper", "Arbiter's"), ("a.b", "top-level"), ("", "top-level")]
)
def test_what_is_no_package_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Grants(packages=(name,))


def test_a_manifest_from_before_keeps_its_hash() -> None:
    assert "packages" not in Grants().model_dump()
    assert Grants(packages=("numpy",)).model_dump()["packages"] == ("numpy",)
