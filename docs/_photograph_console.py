"""Takes ``console.png`` of a real run of the invoice demonstration: ``python docs/_photograph_console.py [BROWSER]``.

Needs ``pip install playwright`` and Chromium; ``BROWSER`` is its path, ``/usr/bin/chromium`` unless it is given.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from arbiter import demo
from arbiter.http import local_token
from arbiter.http.server import Api

PICTURE = Path(__file__).with_name("console.png")


async def main(browser: str) -> None:
    """Play the demonstration on a board of its own, sign in, and look at its run."""
    with tempfile.TemporaryDirectory() as folder:
        show = demo.open_show(["invoices"], url="memory://", data_dir=folder)
        async with demo.play(show, "invoices") as played:
            api = Api("127.0.0.1:0", data_dir=folder)

            async def ready() -> str | None:
                return None

            await api.start(played.arbiter, ready)
            try:
                await played.arbiter.result(played.run_id)
                await _photograph(browser, api.address, local_token.made(folder), played.run_id)
            finally:
                await api.close()


async def _photograph(browser: str, address: str, token: str, run: str) -> None:
    async with async_playwright() as steering:
        started = await steering.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = await started.new_page(viewport={"width": 1200, "height": 1000})
        await page.goto(f"{address}/console#/runs/{run}")
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")
        await page.locator("main img").nth(1).wait_for()
        await page.eval_on_selector_all("main img", "all => Promise.all(all.map(each => each.decode()))")
        await page.locator("figure").first.evaluate("each => each.scrollIntoView()")
        await page.screenshot(path=PICTURE)
        await started.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"))
