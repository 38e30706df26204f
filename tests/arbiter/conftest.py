"""Fixtures of the tests that look at the console of their own ``site`` in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from console_browser import Tab, browser, tab
from http_site import Site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Any]:
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(chromium: Any, site: Site) -> AsyncIterator[Tab]:
    """The console as this machine's user sees it."""
    async with tab(chromium, site.api.address) as one:
        await one.sign_in(site.local)
        yield one
