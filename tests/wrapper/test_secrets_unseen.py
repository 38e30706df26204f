"""G10: the value of a secret is nowhere in the process of the code that uses it, looked at from outside, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.types import Status
from registry import Grants, Manifest
from wrapper.addresses import networks
from wrapper.broker import AttemptBroker, Outside
from wrapper.isolation import Job, ProcessIsolation
from wrapper.secrets import Secrets

SOURCE = """
from wrapper import sdk

def handler(url):
    with open("kept", "w") as file:
        file.write("written-" + "by-the-code")
    answer = sdk.fetch(url + "?k={{secret:KEY}}", headers={"Authorization": "Bearer {{secret:KEY}}"})
    print(answer.content)
    held = "-".join(["granted", "and", "held"])
    sdk.call("look", None)
    said = answer.json()
    return [held, [said["path"], said["headers"]["Authorization"]]]
"""
WITHOUT_FILES = SOURCE.replace(
    '    with open("kept", "w") as file:\n        file.write("written-" + "by-the-code")\n', ""
)


def below(pid: int) -> list[int]:
    """A process and all that come from it."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(word) for word in file.read().split()]
    return [pid, *(each for child in children for each in below(child))]


def memory(pid: int) -> Iterator[bytes]:
    """Every byte of a process, and whatever it was given when it started."""
    with open(f"/proc/{pid}/maps") as file:
        lines = [line.split() for line in file]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in lines:
            start, end = (int(part, 16) for part in line[0].split("-"))
            if "r" in line[1] and not line[-1].startswith("[v"):
                try:
                    file.seek(start)
                    yield file.read(end - start)
                except OSError:
                    pass  # reserved and never touched
    for name in ("environ", "cmdline"):
        with open(f"/proc/{pid}/{name}", "rb") as file:
            yield file.read()


def files(pid: int) -> Iterator[bytes]:
    """What it can read of its own: open files, and its scratch."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue  # a socket, or gone
        try:
            yield os.pread(fd, 1 << 20, 0)
        except OSError:
            pass
        finally:
            os.close(fd)
    cwd = f"/proc/{pid}/cwd"
    if os.path.isfile(f"{cwd}/kept"):
        for name in os.listdir(cwd):
            with open(f"{cwd}/{name}", "rb") as file:
                yield file.read()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_g10_a_secret_is_in_no_byte_of_the_process_that_uses_it(
    backend: type[ProcessIsolation], echo: tuple[str, list[dict[str, str]]]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may look into the memory of another identity")
    host, _ = echo
    value = "v4lue-" + base64.b64encode(os.urandom(18)).decode() + "/+="
    codings = [value, quote(value, safe=""), base64.b64encode(value.encode()).decode().rstrip("=")]
    wanted = [each.encode() for each in (*codings, *(base64.b64encode(f"Bearer {value}".encode()).decode()[:20],))]
    seen: dict[str, int] = dict.fromkeys(("value", "held", "printed", "written"), 0)
    manifest = Manifest(
        name="uses", description="uses", input_schema={"type": "object"},
        grants=Grants(http_hosts=(host,), secrets=(f"KEY@{host}",)),
    )  # fmt: skip

    async with backend(preload_strands=False, parked=1) as isolation:
        zygote = isolation.zygote_pid
        assert zygote is not None

        def look() -> None:
            for pid in below(zygote):
                for part in (*memory(pid), *files(pid)):
                    seen["value"] += sum(part.count(each) for each in wanted)
                    seen["held"] += part.count(b"granted-and-held")
                for part in files(pid):
                    seen["printed"] += part.count(b"[secret:KEY]")
                    seen["written"] += part.count(b"written-by-the-code")

        outside = Outside(Secrets({"KEY": value}), networks(["127.0.0.1"]))
        granted = AttemptBroker(manifest, None, outside, taint=("person",))

        async def broker(method: str, args: JsonValue) -> JsonValue:
            if method == "look":
                await asyncio.to_thread(look)
                return None
            return await granted(method, args)

        scratch = backend.label != "zygote-lsm"
        job = Job.of(SOURCE if scratch else WITHOUT_FILES, input={"url": f"http://{host}/x"})
        outcome = await isolation.run(job, broker)
    assert outcome.status is Status.SUCCEEDED, outcome
    assert outcome.value == ["granted-and-held", ["/x?k=[secret:KEY]", "Bearer [secret:KEY]"]]
    assert seen["held"] > 0, "the memory of the code was looked at"
    assert seen["printed"] > 0, "so were its open files"
    assert seen["written"] > 0 or not scratch, "and its scratch"
    assert seen["value"] == 0
