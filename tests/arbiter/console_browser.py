"""A real browser that looks at the console, where this machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
GOING = """to => {
  document.getElementById("main").dataset.ready = "";
  if (location.hash === to) dispatchEvent(new HashChangeEvent("hashchange")); else location.hash = to;
}"""
PATIENCE_MS = 60_000
"""A loaded machine is slow, not wrong."""


def found() -> str:
    """The path of a browser; skips the tests where there is none, or nothing to steer it with."""
    pytest.importorskip("playwright", reason="the page is tested where playwright is installed: pip install playwright")
    path = os.environ.get("ARBITER_BROWSER") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip("the page is tested where Chromium is installed, or ARBITER_BROWSER names it")
    return path


@asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    """A started browser."""
    path = found()
    from playwright.async_api import async_playwright

    async with async_playwright() as steering:
        started = await steering.chromium.launch(executable_path=path, args=[*FLAGS])
        try:
            yield started
        finally:
            await started.close()


class Tab:
    """A page of the console in a context of its own: no cookies, no storage of others."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base = page, base
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    async def sign_in(self, token: str, view: str = "runs") -> None:
        await self.page.goto(f"{self.base}/console#/{view}")
        await self.page.get_by_label("Token").fill(token)
        await self.page.keyboard.press("Enter")
        await self.ready()

    async def go(self, view: str) -> None:
        await self.page.evaluate(GOING, f"#/{view}")
        await self.ready()

    async def ready(self) -> None:
        await self.page.wait_for_selector("#top:not([hidden]) ~ main[data-ready=true]")

    async def text(self) -> str:
        return str(await self.page.inner_text("body"))


@asynccontextmanager
async def tab(started: Any, base: str, **options: Any) -> AsyncIterator[Tab]:
    """A new tab."""
    context = await started.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield Tab(await context.new_page(), base)
    finally:
        await context.close()
