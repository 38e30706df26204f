"""A local AWS that boto3 in this process finds, and waiting for what is done there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from arbiter.testing import AwsStub


@contextmanager
def led_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsStub]:
    with AwsStub() as stub:
        for name, value in stub.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield stub


async def came(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)
