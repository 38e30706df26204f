"""A request that would carry secrets, and whoever has to let it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from blackboard.taint import Ruling
from wrapper.isolation import BrokerError


class Withheld(BrokerError):
    """Secrets were not filled in, because of where the content of the task comes from.

    Args:
        ruling: of the operator's policy.
        secrets: ``HANDLE@host``, each.
        why: what a person said, or did not, where the policy has one asked; empty elsewhere.
    """

    def __init__(self, ruling: Ruling, secrets: Sequence[str], why: str = "") -> None:
        said = f" {why}" if why else ""
        super().__init__("denied", f"The secret {', '.join(secrets)} is not used on {ruling}.{said}")
        self.ruling, self.secrets = ruling, tuple(secrets)


class Carrying(NamedTuple):
    """A request that would carry secrets, before they are filled in."""

    secrets: tuple[str, ...]
    """``HANDLE@host``, each."""
    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


Gate = Callable[[Carrying], Awaitable[Withheld | None]]
"""Why a request may not carry its secrets, or None."""


async def open_gate(request: Carrying) -> Withheld | None:
    """Lets everything through."""
    return None
