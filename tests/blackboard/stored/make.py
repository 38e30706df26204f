"""Leave runs in every state on a board and write down what it stores, for ``test_upgrade.py``.

Run it in a checkout of the version whose boards later versions have to go on with:

    python tests/blackboard/stored/make.py tests/blackboard/stored/board_<version>.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[1]))

from strict import Clock, Play, broken, spec, watch_scripts

from blackboard.board import Board
from blackboard.testing import RedisServer


class _Setting:
    @staticmethod
    def setattr(target: object, name: str, value: object) -> None:
        setattr(target, name, value)


async def left_behind() -> dict[str, Any]:
    with RedisServer() as server:
        async with await Board.open(server.url, board="kept", lease_seconds=1.0) as board:
            watch_scripts(cast(Any, _Setting))
            board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
            play = Play(board, Clock(board))
            await play.clock.advance()
            busy = [
                spec("claimed"),
                spec("delayed"),
                spec("behind", ["claimed"], lane="other"),
                spec("low", priority=3),
            ]
            runs = {"busy": await play.run(*busy, tenant="acme")}
            claimed, delayed = await play.take(n=2)
            await board.progress(claimed, 1, "task.progressed", {"half": True}, {"mark": 1})
            await board.fail(delayed, broken(delayed))
            runs["deciding"] = await board.submit("decide")
            await play.step(runs["deciding"])
            runs["stopping"] = await play.run(spec("slow"))
            for claim in await play.take(n=9):
                if claim.key != "slow":
                    await board.release(claim)
            await board.cancel_run(runs["stopping"])
            runs["answered"] = await play.run()
            await play.plan(await play.step(runs["answered"]), answer="42")
            runs["queued"] = await board.submit("later", tenant="other")
            keys = await play.snapshot()
            client: Any = board.client
            return {
                "clock": play.clock.micros,
                "runs": runs,
                "types": {key: await client.type(play.shard.prefix + key) for key in keys},
                "keys": {key: sorted(value) if isinstance(value, set) else value for key, value in keys.items()},
            }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(left_behind()), indent=1) + "\n", "utf-8")
