"""Grants end to end: real isolated code asks for a request, a file, an output; this side decides, and ends who asks too much."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from arbiter_support import arbiter

from arbiter import Arbiter, Call, Grants, Manifest, Status, capability
from blackboard.audit import Audit, Entry
from blackboard.blobs import Blob
from blackboard.errors import EngineUnavailable
from blackboard.testing import RedisServer
from blackboard.types import Completion

ANY: dict[str, Any] = {"type": "object"}
SECRET = "a-very-secret-value"

FETCHES = """
import gc, re, sys
from wrapper import sdk

# Written so that the value itself stands nowhere in this source.
WANTED = re.compile(b"a-very-[s]ecret-[v]alue|YS12ZXJ5[L]XNlY3JldC12YWx1ZQ")
CONTROL = re.compile(b"granted-[a]nd-seen")

def memory():
    '''Every byte of this process, where that can be read; else what the collector knows.'''
    try:
        with open("/proc/self/maps") as file:
            lines = [line.split() for line in file]
        with open("/proc/self/mem", "rb", buffering=0) as file:
            for line in lines:
                start, end = (int(part, 16) for part in line[0].split("-"))
                if "r" in line[1] and end - start < 1 << 28 and not line[-1].startswith("[v"):
                    try:
                        file.seek(start)
                        yield file.read(end - start)
                    except OSError:
                        pass
    except OSError:
        for each in gc.get_objects():
            yield repr(each).encode("utf-8", "replace")

def handler(url):
    answer = sdk.fetch(url + "?k={{secret:KEY}}", headers={"Authorization": "Bearer {{secret:KEY}}"})
    print(answer.content, answer.headers, file=sys.stderr)
    kept = ["granted", "and", "seen"]
    kept.append("-".join(kept))
    found, control = 0, 0
    for part in memory():
        found += len(WANTED.findall(part))
        control += len(CONTROL.findall(part))
    return {"json": answer.json(), "found": found, "looked": control > 0}
"""


async def ended(a: Arbiter, source: str, grants: Grants, **given: Any) -> Completion:
    """How one attempt at code with grants ended."""
    name = "c" + hashlib.sha256(source.encode()).hexdigest()[:10]
    manifest = Manifest(name=name, description="one", input_schema=ANY, grants=grants)
    await a.registry.register(manifest, source=source)
    result = await a.run(Call(name, given), timeout=60)
    (task,) = result.state.work
    assert task.completion is not None
    return task.completion


async def test_g10_a_granted_request_is_made_and_the_secret_is_nowhere_the_code_can_see(
    redis_server: RedisServer, echo: tuple[str, list[dict[str, str]]]
) -> None:
    host, seen = echo
    options = {"secrets": {"KEY": SECRET}, "private_addresses": ["127.0.0.1"]}
    async with arbiter(redis_server.url, ["unused"], **options) as (a, _):
        grants = Grants(http_hosts=(host,), secrets=(f"KEY@{host}",))
        done = await ended(a, FETCHES, grants, url=f"http://{host}/x")
        history = json.dumps([event.model_dump(mode="json") for event in await a.board.history(done.orchestration_id)])
    assert done.status is Status.SUCCEEDED, done
    assert seen[0]["authorization"] == f"Bearer {SECRET}"
    assert done.data["json"]["headers"]["Authorization"] == "Bearer [secret:KEY]"
    assert (done.data["found"], done.data["looked"]) == (0, True)
    assert SECRET not in history
    assert base64.b64encode(SECRET.encode()).decode() not in history


EXCESSES: dict[str, tuple[str, str]] = {
    "a_host": ("sdk.fetch('http://other.example/')", "other.example"),
    "a_method": ("sdk.fetch('http://HOST/', method='POST')", "POST"),
    "a_secret": ("sdk.fetch('http://HOST/', headers={'X': '{{secret:ROOT}}'})", "ROOT"),
    "a_file": ("sdk.open_input('shadow')", "shadow"),
    "a_path": ("sdk.open_input('/etc/shadow')", "/etc/shadow"),
    "a_model": ("sdk.call('model.invoke', {'messages': []})", "model"),
    "a_broker": ("sdk.call('board.write', {'topic': 'x'})", "board.write"),
}


@pytest.mark.parametrize("what", EXCESSES)
async def test_g10_asking_for_more_than_was_granted_ends_the_run_as_refused(
    redis_server: RedisServer, echo: tuple[str, list[dict[str, str]]], what: str
) -> None:
    """Whatever the code does about the answer: it is killed, and the version answers for it."""
    host, seen = echo
    asks, word = EXCESSES[what]
    source = (
        "import signal, time\nfrom wrapper import sdk\n\n"
        "def handler():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    try:\n"
        f"        {asks.replace('HOST', host)}\n"
        "    except sdk.CallError:\n"
        "        pass\n"
        "    try:\n"
        f"        sdk.fetch('http://{host}/after')\n"
        "    except sdk.CallError:\n"
        "        pass\n"
        "    time.sleep(100)\n"
        "    return 'went on'\n"
    )
    async with arbiter(redis_server.url, ["unused"], private_addresses=["127.0.0.1"]) as (a, _):
        done = await ended(a, source, Grants(http_hosts=(host,)))
        outcomes = await a.registry.outcomes(done.node)
    assert (done.status, done.error and done.error.type, done.data) == (Status.REFUSED, "grant", None)
    assert word in str(done.error)
    assert done.usage.seconds < 60
    assert done.version is not None
    assert outcomes == {done.version: {Status.REFUSED: 1}}
    assert seen == [], "what it asks for afterwards is not done either"


async def test_g10_a_private_address_is_refused_and_the_code_goes_on(
    redis_server: RedisServer, echo: tuple[str, list[dict[str, str]]]
) -> None:
    host, seen = echo
    source = (
        "from wrapper import sdk\n\ndef handler(url):\n"
        "    try:\n        sdk.fetch(url)\n    except sdk.CallError as error:\n        return error.type\n"
    )
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants(http_hosts=(host,)), url=f"http://{host}/")
    assert (done.status, done.data) == (Status.SUCCEEDED, "denied")
    assert seen == []


async def test_granted_files_are_read_by_handle_and_outputs_are_kept_with_the_run(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 12_000
    (tmp_path / "rates.bin").write_bytes(content)
    source = (
        "import hashlib\nfrom wrapper import sdk\n\n"
        "def handler():\n"
        "    content = sdk.open_input('rates')\n"
        "    kept = sdk.write_output('copy.bin', content)\n"
        "    return {'sha': hashlib.sha256(content).hexdigest(), 'kept': kept, 'empty': sdk.write_output('none', b'')}\n"
    )
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants(files=(f"rates={tmp_path}/rates.bin",)))
        assert done.status is Status.SUCCEEDED, done
        digest = hashlib.sha256(content).hexdigest()
        assert (done.data["sha"], done.data["kept"]["sha256"], done.data["kept"]["bytes"]) == (
            digest,
            digest,
            len(content),
        )
        stored = await a.board.load(done.orchestration_id, Blob(done.data["kept"]["stored"]))
        assert isinstance(stored, dict)
        assert base64.b64decode(str(stored["base64"])) == content
        assert done.data["empty"]["bytes"] == 0


async def test_files_that_cannot_be_given_are_told_by_their_handle(redis_server: RedisServer, tmp_path: Path) -> None:
    import os

    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 17 << 20)
    os.mkfifo(tmp_path / "pipe")
    source = (
        "from wrapper import sdk\n\ndef handler(names):\n    said = []\n    for name in names:\n"
        "        try:\n            sdk.open_input(name)\n        except sdk.CallError as error:\n"
        "            said.append(str(error))\n    return said\n"
    )
    names = ["large", "pipe", "none", "folder", "wrapper"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrapper").symlink_to("/proc/self/environ")
    grants = Grants(files=tuple(f"{name}={tmp_path}/{name}" for name in names))
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await asyncio.wait_for(ended(a, source, grants, names=names), 60)
    assert done.status is Status.SUCCEEDED, done
    for said, word in zip(done.data, ("larger", "regular", "No such file", "regular", "regular"), strict=True):
        assert word in said
        assert str(tmp_path) not in said, "the code knows handles, not paths"


async def test_outputs_are_bounded(redis_server: RedisServer) -> None:
    source = (
        "from wrapper import sdk\n\ndef handler():\n    sdk.write_output('a', b'x' * (5 << 20))\n"
        "    try:\n        sdk.write_output('b', b'x' * (5 << 20))\n    except sdk.CallError as error:\n"
        "        return error.type\n"
    )
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants())
    assert (done.status, done.data) == (Status.SUCCEEDED, "limit")


async def test_the_name_of_an_output_is_no_way_out_of_a_folder_and_their_number_is_bounded(
    redis_server: RedisServer,
) -> None:
    source = (
        "from wrapper import sdk\n\ndef tried(name):\n    try:\n        sdk.write_output(name, b'x')\n"
        "        return 'kept'\n    except sdk.CallError as error:\n        return error.type\n"
        "def handler():\n"
        "    bad = ['../x', 'a/../../x', '/etc/passwd', 'a//b', 'a/', '.', 'a\\\\..\\\\x', 'a\\0b']\n"
        "    bad += ['a\\nb', '', 'x' * 5000, '\\u202e']\n"
        "    said = {tried(name) for name in bad}\n"
        "    return [sorted(said), tried('reports/a.csv'), sorted({tried(str(n)) for n in range(100)})]\n"
    )
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants())
    assert (done.status, done.data) == (Status.SUCCEEDED, [["bad_request"], "kept", ["kept", "limit"]])


# ---- on record ---------------------------------------------------------------------------------------------------------

TWICE = """
from wrapper import sdk

def handler(url, path):
    for _ in range(3):
        sdk.fetch(url, headers={"Authorization": "Bearer {{secret:KEY}}"})
    sdk.fetch(url)
    return len(sdk.open_input("rates"))
"""


async def records(a: Arbiter, where: str = "kind=secret.*,grants.*") -> list[Entry]:
    return list(reversed((await Audit(a.board).list(where)).entries))


async def test_what_an_attempt_used_of_its_grants_is_on_record_folded_and_without_values(
    redis_server: RedisServer, echo: tuple[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    host, seen = echo
    (tmp_path / "rates.csv").write_text("EUR,1\n")
    options = {"secrets": {"KEY": SECRET}, "private_addresses": ["127.0.0.1"]}
    async with arbiter(redis_server.url, ["unused"], **options) as (a, _):
        grants = Grants(http_hosts=(host,), secrets=(f"KEY@{host}",), files=(f"rates={tmp_path / 'rates.csv'}",))
        done = await ended(a, TWICE, grants, url=f"http://{host}/x", path="x")
        found = await records(a)
    assert done.status is Status.SUCCEEDED, done
    assert len(seen) == 4
    task, about = f"{done.orchestration_id}/0.call", {"attempt": 1, "capability": done.node}
    assert [(each.kind, each.subject, each.by) for each in found] == [
        ("secret.used", task, done.worker), ("grants.used", task, done.worker),
    ]  # fmt: skip
    assert found[0].detail == {**about, "handle": "KEY", "host": "127.0.0.1"}
    assert found[1].detail == {**about, "http": {host: 4}, "secrets": {"KEY@127.0.0.1": 3}, "files": {"rates": 1}}
    assert SECRET not in str(found)


async def test_asking_for_more_is_on_record(redis_server: RedisServer) -> None:
    source = "from wrapper import sdk\n\ndef handler():\n    sdk.fetch('http://other.example/')\n"
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants(http_hosts=("one.example",)))
        (entry,) = await records(a)
    assert done.status is Status.REFUSED
    assert (entry.kind, entry.by) == ("grants.exceeded", done.worker)
    assert "other.example" in entry.reason


async def test_a_secret_does_not_leave_unless_that_is_on_record(
    redis_server: RedisServer, echo: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: Any, **__: Any) -> None:
        raise EngineUnavailable("Redis did not answer.")

    host, seen = echo
    options = {"secrets": {"KEY": SECRET}, "private_addresses": ["127.0.0.1"]}
    async with arbiter(redis_server.url, ["unused"], **options) as (a, _):
        monkeypatch.setattr(Audit, "note", unreachable)
        done = await ended(a, FETCHES, Grants(http_hosts=(host,), secrets=(f"KEY@{host}",)), url=f"http://{host}/x")
    assert seen == []
    assert done.status is Status.FAILED
    assert "cannot be put on record" in (done.error.message if done.error else "")


async def test_a_secret_in_the_error_of_a_programs_own_function_is_not_stored(redis_server: RedisServer) -> None:
    @capability
    def calls(url: str) -> None:
        """Fail like a client that tells what it sent."""
        raise RuntimeError(f"401 for {url}?key={quote(SECRET, safe='')} with Basic {coded}")

    coded = base64.b64encode(f"user:{SECRET}".encode()).decode()
    async with arbiter(redis_server.url, ["unused"], capabilities=[calls], secrets={"KEY": SECRET}) as (a, _):
        result = await a.run(Call("calls", {"url": "https://x.example"}))
        history = json.dumps([event.model_dump(mode="json") for event in await a.board.history(result.run_id)])
    assert result.error is not None
    assert result.error.message.count("[secret:KEY]") == 2
    for form in (SECRET, quote(SECRET, safe=""), coded):
        assert form not in history
