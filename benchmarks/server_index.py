"""Whether the server's own index of vectors could rank entries: ``python -m benchmarks.server_index SERVER [SIZE...]``.

SERVER is a Redis 8 server program, SIZE how many vectors (default 1,000, 10,000 and 100,000). It is held against what ranks
entries now, one NumPy product in the process that asks (:mod:`registry.matching.hybrid`), which must have the likeness of
*every* vector, because how near one is counts in standard deviations over all of them. Vector sets have no sums, so that is a
``VSIM`` with ``TRUTH`` of as many as there are; ``nearest`` is what it would cost if the 400 nearest were enough.

Times are of one question, median of :data:`QUESTIONS`; a standstill is how long a ``PING`` of somebody else waited meanwhile.
Needs NumPy.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Event, Thread
from typing import Any

import redis

from blackboard.testing import RedisServer

DIMENSIONS = 384
QUESTIONS = 3
NEAREST = 400
AT_ONCE = 500
PATIENCE_SECONDS = 600
ADDED_WHOLE = 10_000
"""Most vectors that are added with the links a vector set makes by default, which takes milliseconds of the server each."""
_KEY = "vectors"
_SEARCH = "return #redis.call('VSIM', KEYS[1], 'FP32', ARGV[1], 'WITHSCORES', 'COUNT', ARGV[2], 'TRUTH')"


def measured(server: RedisServer, size: int) -> Sequence[tuple[str, str]]:
    """What was measured with so many vectors: names and values with their units."""
    np: Any = import_module("numpy")
    nearest = min(size, NEAREST)
    chance = np.random.default_rng(1)
    matrix = _unit(np, chance.standard_normal((size, DIMENSIONS), dtype=np.float32))
    asked = _unit(np, chance.standard_normal((QUESTIONS, DIMENSIONS), dtype=np.float32))
    client = _client(server)
    found = [(f"add one, default links, of {min(size, ADDED_WHOLE):,}", _ms(_fill(client, matrix[:ADDED_WHOLE])))]
    client.delete(_KEY)
    before = _memory(client)
    found.append(("add one, fewest links", _ms(_fill(client, matrix, "EF", 1, "M", 4))))
    found.append(("memory of the server for one, fewest links", f"{(_memory(client) - before) / size:,.0f} B"))
    found.append(("memory of a process for one", f"{matrix.nbytes / size:,.0f} B"))

    def product(need: Any) -> object:
        close = matrix @ need
        return close.mean(dtype=np.float64), close.std(dtype=np.float64), np.argpartition(-close, nearest - 1)[:nearest]

    def search(count: int) -> Callable[[Any], Sequence[Any]]:
        return lambda need: client.execute_command(
            "VSIM", _KEY, "FP32", need.tobytes(), "WITHSCORES", "COUNT", count, "TRUTH"
        )

    def script(need: Any) -> object:
        return client.eval(_SEARCH, 1, _KEY, need.tobytes(), nearest)

    ways = {
        "NumPy: all, and the nearest": product,
        "VSIM TRUTH: nearest": search(nearest),
        "VSIM TRUTH in a script: nearest": script,
        "VSIM TRUTH: all": search(size),
    }
    for name, way in ways.items():
        with _others(server) as waited:
            seconds = [_seconds(lambda need=need, way=way: way(need)) for need in asked]
        found.append((name, f"{_ms(statistics.median(seconds))}; standstill {_ms(max(waited))}"))
    answer = search(nearest)(asked[0])
    close = matrix @ asked[0]
    differs = max(
        abs(2 * float(score) - 1 - float(close[int(name)]))
        for name, score in zip(answer[::2], answer[1::2], strict=True)
    )
    found.append(("largest difference of a cosine, of the nearest", f"{differs:.1e}"))
    client.delete(_KEY)
    client.close()
    return found


def _unit(np: Any, rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _client(server: RedisServer) -> Any:
    return redis.Redis.from_url(server.url, protocol=2, socket_timeout=PATIENCE_SECONDS)  # pyright: ignore


def _fill(client: Any, matrix: Any, *options: str | int) -> float:
    """Add all vectors; returns seconds for one."""
    began = time.perf_counter()
    for start in range(0, len(matrix), AT_ONCE):
        several = client.pipeline(transaction=False)
        for at, vector in enumerate(matrix[start : start + AT_ONCE], start):
            several.execute_command("VADD", _KEY, "FP32", vector.tobytes(), str(at), "NOQUANT", *options)
        several.execute()
    return (time.perf_counter() - began) / len(matrix)


@contextmanager
def _others(server: RedisServer) -> Any:
    """Somebody else who asks the server all the time; gives the seconds each of their calls took."""
    waited: list[float] = [0.0]
    over = Event()

    def ask() -> None:
        client = _client(server)
        while not over.is_set():
            waited.append(_seconds(client.ping))
            over.wait(0.001)
        client.close()

    asking = Thread(target=ask)
    asking.start()
    try:
        yield waited
    finally:
        over.set()
        asking.join()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _memory(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.3g} ms"


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    with RedisServer(sys.argv[1]) as server:
        for size in [int(each) for each in sys.argv[2:]] or [1000, 10_000, 100_000]:
            print(f"{size:,} vectors")
            for name, value in measured(server, size):
                print(f"  {name}: {value}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
