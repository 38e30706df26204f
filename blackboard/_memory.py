"""``memory://``: a store inside this process, emulated by fakeredis. It lasts nothing and its label says so.

Known differences from a server: ``INFO`` is missing, ``cjson.encode({})`` gives ``[]``, time-outs of clients do not
apply, and a ``BLPOP`` that is cancelled still takes the next item (a doorbell may be lost; work is found by the poll).

A named store (``memory://name``) is shared by every engine of that name in this process; ``memory://`` alone is a new
store each time.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, cast

import redis
import redis.asyncio

from blackboard._sending import DRIVER, steady
from blackboard.errors import MissingExtra

_stores: dict[str, Any] = {}


def label(name: str) -> str:
    """One line for people."""
    shown = f"memory://{name}" if name else "memory"
    return f"{shown} (fakeredis in this process; everything is lost when it ends)"


class MemoryClients:
    """Clients of one store inside this process.

    Raises:
        MissingExtra: fakeredis or its Lua is not installed.
    """

    def __init__(self, name: str) -> None:
        if find_spec("fakeredis") is None or find_spec("lupa") is None:
            raise MissingExtra("memory:// needs fakeredis with Lua: pip install 'arbiter[memory]'")
        import fakeredis

        self._fakeredis: Any = fakeredis
        store: Any = cast(Any, fakeredis).FakeServer()
        self._server: Any = _stores.setdefault(name, store) if name else store

    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis:
        """A client for this event loop. Time-outs do not apply: nothing can be unreachable."""
        client = self._fakeredis.FakeAsyncRedis(
            server=self._server, decode_responses=True, max_connections=100_000, driver_info=DRIVER
        )
        pool = client.connection_pool
        pool.connection_class = steady(pool.connection_class)
        return client

    def synchronous(self, timeout_seconds: float) -> redis.Redis:
        """A client for another thread."""
        return self._fakeredis.FakeStrictRedis(server=self._server, decode_responses=True, driver_info=DRIVER)
