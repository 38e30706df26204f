"""The commands that serve a board: serve, worker, down."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from arbiter import loading, narration
from arbiter.cli import INTERRUPTED, OK, TERMINATED, options, output, retention
from arbiter.health import Check, Health
from blackboard import garbage
from blackboard.errors import BadInput

if TYPE_CHECKING:
    from arbiter.http.server import Api
    from arbiter.sdk import Arbiter
    from wrapper.peers import Peer

THREADS = 64
_DURABILITY = {
    "memory": "memory: lasts as long as this process",
    "local": "local: survives crashes of every process",
    "local-sync": "local-sync: survives a power failure",
    "confirmed": "confirmed: every transition waits for replicas",
    "unknown": "as that server is configured",
}


async def serve(arguments: argparse.Namespace) -> int:
    """Serve roles until a signal, then drain."""
    output.log_to_stderr(logging.INFO, output.log_format(arguments.log_format))
    roles = options.roles(arguments.roles)
    capabilities = loading.capabilities(arguments.capabilities)
    strategies = loading.strategies(arguments.strategies)
    from arbiter.sdk import Arbiter

    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    # Model clients and sync functions run in the loop's threads; the default is a handful on a small machine.
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "arbiter"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    served = Arbiter(
        model=arguments.model, fabricator_model=arguments.fabricator_model,
        examiner_model=arguments.examiner_model, capabilities=capabilities, peers=_peers(arguments), roles=roles,
        lanes=options.words(arguments.lanes), lease_seconds=arguments.lease, grace_seconds=arguments.grace,
        isolation=arguments.isolation, taint=arguments.taint_policy, fabrication=arguments.fabrication,
        choosing=arguments.choosing, matcher=arguments.encoder, strategies=strategies,
        approval=arguments.approval_policy, instructions=options.instructions(arguments), reflect=arguments.reflect,
        illustrate=arguments.illustrate, private_addresses=arguments.private, from_sqs=arguments.from_sqs,
        concurrency={"wrapper": arguments.concurrency} if arguments.concurrency else None,
        retention=retention.policy(arguments.keep, arguments.keep_runs, arguments.compact), **options.place(arguments),
    )  # fmt: skip
    api = _api(arguments)
    told = asyncio.ensure_future(signals.get())
    starting: asyncio.Future[None] | None = None

    async def ready() -> str | None:
        if told.done():
            return "draining"
        if starting is None or not starting.done():
            return "starting"
        await cast(Any, served.board.client).ping()
        return None

    health = Health(arguments.health, ready) if arguments.health is not None else None
    if health is not None:
        await health.start()
    starting = asyncio.ensure_future(_started(served, api, ready))
    await asyncio.wait({told, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if api is not None:
            await api.close()
        await served.close(0)
        return OK
    try:
        starting.result()
    except BaseException:
        if api is not None:
            await api.close()
        await served.close(0)
        raise
    garbage.long_lived()
    if health is not None:
        output.note(f"health at {health.address}: /live and /ready")
    first = await told
    output.note(
        f"{first.name}: draining, up to {arguments.grace:g} s for running work; another signal gives it back at once"
    )
    if api is not None:
        await api.close()
    return await _drained(served, signals)


def _peers(arguments: argparse.Namespace) -> list[Peer]:
    if not arguments.peers:
        return []
    from wrapper.peers.settings import peers

    return [each for path in arguments.peers for each in peers(path)]


def _api(arguments: argparse.Namespace) -> Api | None:
    if arguments.http is None:
        if arguments.http_public:
            raise BadInput("--http-public", arguments.http_public[0], "It goes with --http HOST:PORT.")
        if arguments.export:
            raise BadInput("--export", arguments.export[0], "It goes with --http HOST:PORT.")
        if arguments.console:
            raise BadInput("--console", True, "It goes with --http HOST:PORT.")
        return None
    from arbiter.http.server import Api

    return Api(
        arguments.http, arguments.http_public, arguments.data_dir, exports=arguments.export, console=arguments.console
    )


async def _started(served: Arbiter, api: Api | None, ready: Check) -> None:
    await served.start()
    http = [] if api is None else await api.start(served, ready)
    engine = served.board.engine
    thinking = {"arbiter", "fabricator"} & set(served.roles)
    running = {"fabricator", "wrapper"} & set(served.roles)
    isolation = served.isolation_label if running else "none needed"
    if isolation == "not started":
        isolation = "starts with the first generated code"
    if running and not served.sandboxed:
        isolation += ", as it was set: no sandbox, generated code can read this user's files and use the network"
    lines = [
        f"serving board {served.board.namespace}/{served.board.name}, process {os.getpid()}",
        f"  engine      {engine.label}",
        f"  durability  {_DURABILITY.get(engine.durability, engine.durability)}",
        f"  roles       {', '.join(served.roles)}",
        f"  model       {narration.one_line(served.model_label) if thinking else 'only where capabilities call one'}",
        f"  isolation   {isolation}",
        *(f"  peer        {line}" for line in _met(served)),
        *(f"  queue       {line}" for line in await _queues(served)),
        *(f"  http        {line}" for line in http),
        "ready",
    ]
    output.note("\n".join(lines))


def _met(served: Arbiter) -> list[str]:
    """Of each peer this process serves what it offers, or why it cannot be had."""
    return [
        f"{each.label}: {len(each.listing.offers)} capabilities"
        if each.trouble is None
        else f"{each.label}: cannot be reached: {narration.one_line(each.trouble, 200)}; it is asked again"
        for each in served.peers.following
    ]


async def _queues(served: Arbiter) -> list[str]:
    """What each queue is like from which this process takes requests, or why it cannot be had."""
    return [narration.one_line(line, 300) for line in await served.look_at_queues()]


async def _drained(served: Arbiter, signals: asyncio.Queue[signal.Signals]) -> int:
    closing = asyncio.ensure_future(served.close())
    again = asyncio.ensure_future(signals.get())
    await asyncio.wait({closing, again}, return_when=asyncio.FIRST_COMPLETED)
    if closing.done():
        again.cancel()
        closing.result()
        output.note("drained")
        return OK
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await served.close(0)
    output.note("stopped at once")
    return TERMINATED if again.result() == signal.SIGTERM else INTERRUPTED


def down(arguments: argparse.Namespace) -> int:
    """Stop the local server of a data folder."""
    from blackboard.engine import stop_local

    stopped = stop_local(arguments.data_dir)
    output.note("the local server has stopped" if stopped else "no local server was running")
    return OK
