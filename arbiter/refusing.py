"""What a program gives an Arbiter, refused here where it could not work: a process that waits for ever says nothing."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any, cast

from arbiter.serving import ROLES
from blackboard.errors import BadInput
from blackboard.types import Limits, type_name
from registry import Capability
from registry.signing import pinned

_LONGEST_SECONDS = 1e9
MOST_INSTRUCTIONS = 20_000
"""Most characters that an operator's instructions may have."""


def check(options: Mapping[str, Any]) -> None:
    """Look at the options of :class:`arbiter.Arbiter` that nothing else looks at before it serves.

    Raises:
        BadInput: one that is malformed, or with which work would never be done.
    """
    given: object = options["capabilities"]
    if isinstance(given, Capability):
        raise BadInput("capabilities", cast(object, given), "Write a list, even of one.")
    for one in options["capabilities"]:
        capability(one)
    for role in _words("roles", options["roles"]):
        if role not in ROLES:
            raise BadInput("roles", role, f"Use any of {', '.join(ROLES)}.")
    for lane in _words("lanes", options["lanes"]):
        if not re.fullmatch(type_name, lane):
            raise BadInput("lanes", lane, "Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.")
    for role, number in cast("Mapping[object, object]", options["concurrency"] or {}).items():
        if role not in ROLES:
            raise BadInput("concurrency", role, f"Use any of {', '.join(ROLES)}.")
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise BadInput(f"concurrency.{role}", number, "Give a whole number of attempts of 1 or more.")
    for name, least in (("lease_seconds", 0.1), ("grace_seconds", 0.0)):
        seconds = options[name]
        if not math.isfinite(seconds) or not least <= seconds <= _LONGEST_SECONDS:
            raise BadInput(name, seconds, f"Give a number of seconds of {least:g} or more.")
    if not isinstance(options["limits"], Limits | None):
        raise BadInput("limits", options["limits"], "Give Limits(rounds=…, tokens=…, …).")
    _instructions(options["instructions"])
    if options["illustrate"] and not {"arbiter", "fabricator"} & set(options["roles"]):
        raise BadInput("illustrate", True, "It takes a model: give the process the role 'arbiter' or 'fabricator'.")
    if options["private_addresses"]:
        from wrapper.addresses import networks

        networks(options["private_addresses"])
    if options["from_sqs"]:
        from blackboard.destinations import intake

        places = [intake(each)[1] for each in _words("from_sqs", options["from_sqs"])]
        for place in places:
            if places.count(place) > 1:
                raise BadInput("from_sqs", place.address, "Name each queue once.")
    _isolation(options["isolation"])
    pinned()


def _words(field: str, value: Any) -> list[str]:
    if isinstance(value, str):
        raise BadInput(field, value, "Write a list, even of one.")
    return list(value)


def _instructions(given: object) -> None:
    if given is None:
        return
    if not isinstance(given, str) or not given.strip():
        raise BadInput("instructions", given, "Give a text that says something, or None.")
    if len(given) > MOST_INSTRUCTIONS:
        raise BadInput("instructions", f"{len(given):,} characters", f"Give at most {MOST_INSTRUCTIONS:,}.")
    if any("\ud800" <= each <= "\udfff" for each in given):
        raise BadInput("instructions", given, "It holds half of a surrogate pair; write it as UTF-8.")


def _isolation(given: Any) -> None:
    if given is None or isinstance(given, str):
        if given is not None or os.environ.get("ARBITER_ISOLATION"):
            from wrapper.isolation.detection import wanted

            wanted(given)
    elif missing := [name for name in ("label", "start", "run", "close") if not hasattr(given, name)]:
        raise BadInput("isolation", given, f"It lacks {', '.join(missing)}; see wrapper.isolation.Isolation.")


def capability(one: object) -> Capability[..., Any]:
    """A capability of this program.

    Raises:
        BadInput: it is none.
    """
    if not isinstance(one, Capability):
        raise BadInput("capabilities", one, "Decorate the function, or wrap the agent, with arbiter.capability.")
    return cast("Capability[..., Any]", one)
