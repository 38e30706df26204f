"""The commands about outgoing webhooks: webhooks set, list, remove, test."""

from __future__ import annotations

import argparse

from arbiter import narration
from arbiter.cli import NOT_SUCCEEDED, OK, options, output
from blackboard.errors import UnknownRecord
from blackboard.webhooks import Hooked, Webhook, Webhooks


async def put(arguments: argparse.Namespace) -> int:
    """Send events from now on, or on new terms."""
    async with options.on_board(arguments, Webhooks) as webhooks:
        wanted = Webhook(
            name=arguments.name, url=arguments.webhook_url, secret=arguments.secret,
            kinds=options.words(arguments.kinds), tenant=arguments.tenant, age_seconds=arguments.age,
        )  # fmt: skip
        return _said([await webhooks.set(wanted)], arguments)


async def listing(arguments: argparse.Namespace) -> int:
    """List the webhooks of the board, with how each fares."""
    async with options.on_board(arguments, Webhooks) as webhooks:
        found = await webhooks.list()
        if not found and not arguments.json:
            output.note("no webhooks on this board")
        return _said(found, arguments)


async def remove(arguments: argparse.Namespace) -> int:
    """Send nothing more."""
    return await options.removal(arguments, lambda board: Webhooks(board).remove, "webhook")


async def test(arguments: argparse.Namespace) -> int:
    """Send one event that tells of nothing, from this process."""
    from arbiter.delivering import Delivery
    from wrapper.addresses import authorities, networks
    from wrapper.secrets import Secrets

    private, secrets = networks(arguments.private), Secrets()
    async with options.on_board(arguments, lambda board: board) as board:
        known = await Webhooks(board).get(arguments.name)
        if known is None:
            raise _unknown(arguments)
        told = await Delivery(board, lambda: secrets, private, authorities()).test(known.webhook)
        if arguments.json:
            output.line({"name": arguments.name, "status": told.status, "error": told.error})
        else:
            answered = "" if told.status is None else f", it answered {told.status}"
            output.text(f"{arguments.name}: " + narration.printable(told.error or f"taken{answered}"))
        return OK if told.error is None else NOT_SUCCEEDED


def _unknown(arguments: argparse.Namespace) -> UnknownRecord:
    return UnknownRecord("UNKNOWN", f"no webhook {arguments.name} on board {arguments.namespace}/{arguments.board}")


def _said(found: list[Hooked], arguments: argparse.Namespace) -> int:
    for one in found:
        if arguments.json:
            output.line(one.record())
            continue
        webhook = one.webhook
        whose = f" of {webhook.tenant}" if webhook.tenant else ""
        given_up = f", {one.given_up} given up" if one.given_up else ""
        trouble = f", last error: {narration.one_line(one.last_error, 300)}" if one.last_error else ""
        state = "disabled" if one.disabled else "on"
        kinds = " ".join(webhook.kinds)
        output.text(narration.printable(f"{webhook.name}  {webhook.url} {kinds}{whose}: {state}{given_up}{trouble}"))
    return OK
