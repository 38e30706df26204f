"""Peers from a file, on the command line, and what a process says of them."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from cli_process import Running, arbiter, records

from arbiter import A2aPeer, Arbiter, Call, McpPeer
from blackboard.errors import BadInput
from blackboard.testing import RedisServer
from wrapper.peers import settings

SERVER = Path(__file__).parent / "shop_server.py"


def test_a_file_says_which_peers_there_are(tmp_path: Path) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(
        '[shop]\ncommand = ["shop"]\nenv = {TOKEN = "{{secret:shop}}"}\nrefresh_seconds = 5\ntools = ["price"]\n'
        '[kitchen]\nkind = "a2a"\nurl = "https://kitchen.example.com"\neffects = "reads"\n'
    )
    assert settings.peers(file) == [
        McpPeer(
            name="shop", command=["shop"], env={"TOKEN": "{{secret:shop}}"}, refresh_seconds=5, tools=["price"]
        ),
        A2aPeer(name="kitchen", url="https://kitchen.example.com", effects="reads"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[shop", "peers"),
        ('shop = "x"', "peers.shop"),
        ('[shop]\nkind = "ftp"', "peers.shop.kind"),
        ('[shop]\nurll = "http://x"', "peers.shop.urll"),
        ('[shop]\nname = "other"\nurl = "http://x"', "peers.shop.name"),
        ('[shop]\ncommand = "shop"', "peers.shop.command"),
        ('[shop]\nurl = "http://x"\nrefresh_seconds = true', "peers.shop.refresh_seconds"),
        ('[shop]\nurl = "http://x"\nheaders = {A = 1}', "peers.shop.headers"),
        ('[shop]\nurl = "ftp://x"', "peers.shop.url"),
        ('[Shop]\nurl = "http://x"', "peers.Shop.name"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_place(text: str, field: str, tmp_path: Path) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as refused:
        settings.peers(file)
    assert refused.value.field == field


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        settings.peers(tmp_path / "none.toml")


async def test_a_daemon_serves_the_peers_of_its_file_and_the_board_knows_of_them(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "peers.toml"
    file.write_text(f'[shop]\ncommand = ["{sys.executable}", "{SERVER}"]\n[away]\nurl = "http://127.0.0.1:9/mcp"\n')
    on = ["--url", redis_server.url, "--board", board_name]
    env = {"ARBITER_DATA_DIR": str(tmp_path / "data")}
    async with Arbiter(redis_server.url, board=board_name, roles=()) as client:
        with Running("worker", *on, "--peers", str(file), "--grace", "0", env=env) as worker:
            await asyncio.to_thread(worker.wait_for, "ready")
            said = "\n".join(worker.said)
            assert "peer        mcp:shop: 7 capabilities" in said
            assert "peer        mcp:away: cannot be reached: " in said
            listed = await asyncio.to_thread(arbiter, "peers", *on, "--json", env=env)
            away, shop = records(listed.stdout)
            assert (shop["peer"], shop["available"], len(shop["capabilities"])) == ("mcp:shop", True, 7)
            assert (away["peer"], away["available"], away["processes"]) == ("mcp:away", False, 0)
            result = await client.run(Call("shop_price", {"item": "box"}), timeout=30)
            assert result.data == {"cents": 25}
            worker.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.process.wait, 60)
        (shop,) = await client.peers.list()
        assert (shop.peer, shop.available) == ("mcp:shop", False)  # it said so when it was told to end
