"""How queues and buses are named: a queue by its URL, a bus by its name or its ARN."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from blackboard.errors import BadInput
from blackboard.types import type_name

_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
_HOST = re.compile(r"(?:^|\.)sqs\.([a-z]{2}[a-z-]*-\d)\.|^([a-z]{2}[a-z-]*-\d)\.queue\.")
_ARN = re.compile(r"arn:aws[a-z-]*:events:([a-z]{2}[a-z-]*-\d):\d{12}:event-bus/[/._A-Za-z0-9-]{1,256}")
_BUS = re.compile(r"[/._A-Za-z0-9-]{1,256}")


class Place(NamedTuple):
    """A queue or a bus."""

    service: str
    """As boto3 calls it: ``sqs`` or ``events``."""
    address: str
    """URL of a queue; name or ARN of a bus."""
    region: str | None
    """None: as boto3 finds it."""
    name: str


def queue(url: str, field: str = "queue") -> Place:
    """A queue by its URL.

    Raises:
        BadInput: it is none.
    """
    try:
        parts = urlsplit(url)
        name, host = parts.path.rpartition("/")[2], parts.hostname or ""
        good = parts.scheme in ("https", "http") and host and parts.username is None and _QUEUE.fullmatch(name)
    except ValueError:
        good, name, host = None, "", ""
    if not good:
        raise BadInput(field, url, "Give the URL of a queue: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME.")
    region = _HOST.search(host)
    return Place("sqs", url, region[1] or region[2] if region else None, name)


def intake(given: str, field: str = "from_sqs") -> tuple[str | None, Place]:
    """A queue that requests come from, ``URL`` or ``TENANT=URL``: the tenant whose they are, where it is said, and the queue.

    Raises:
        BadInput: no URL of a queue, or no tenant before it.
    """
    tenant, told, url = given.partition("=") if "=" in given.partition("/")[0] else ("", "", given)
    if told and not re.fullmatch(type_name, tenant):
        raise BadInput(
            field, given, "Write TENANT=URL; a tenant is 1 to 64 lower-case letters, digits, '.', '-' or '_'."
        )
    return tenant or None, queue(url, field)


def bus(named: str, field: str = "bus") -> Place:
    """A bus by its name or its ARN.

    Raises:
        BadInput: it is none.
    """
    if (arn := _ARN.fullmatch(named)) is not None:
        return Place("events", named, arn[1], named.rpartition("event-bus/")[2])
    if not _BUS.fullmatch(named):
        raise BadInput(field, named, "Give the name of a bus, or arn:aws:events:REGION:ACCOUNT:event-bus/NAME.")
    return Place("events", named, None, named)


def place(url: str) -> Place:
    """What an address of a webhook means: ``eventbridge:BUS`` or ``sqs:QUEUE_URL``.

    Raises:
        BadInput: it is neither.
    """
    scheme, _, rest = url.partition(":")
    return bus(rest, "url") if scheme == "eventbridge" else queue(rest, "url")
