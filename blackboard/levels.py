"""What may a level of budgets be called, and is there anybody it can be?"""

from __future__ import annotations

import re

from blackboard.errors import BadInput
from blackboard.types import type_name

_LEVEL = re.compile(r"(board|(tenant|run|task|capability|model):[^\x00-\x1f\x7f]{1,300}?)(/day)?")


def checked_level(level: str) -> str:
    """The level, if it is one.

    Raises:
        BadInput: it is none.
    """
    if not _LEVEL.fullmatch(level):
        remedy = "Name board, tenant:…, run:…, task:…, capability:… or model:…; add /day for a budget by day."
        raise BadInput("level", level, remedy)
    return level


def somebodys(field: str, level: str) -> None:
    """Whether there can be what a level or a subject names. What bounds nobody is better refused than stored.

    Args:
        field: what a refusal calls it.

    Raises:
        BadInput: it has a ``*``, which stands for nothing here, or a tenant's name that no tenant can have.
    """
    kind, _, name = level.removesuffix("/day").partition(":")
    if kind == "task":
        name = name.partition("/")[0]  # what is behind it may be anything a model calls a task
    if "*" in name:
        remedy = f"Nothing is called so, and * does not stand for every {kind}: name one, or board for all together."
        if kind in ("run", "task"):
            remedy += (
                " Each run has Limits(tokens=…, money=…) as its own, each attempt the tokens of its manifest's limits."
            )
        raise BadInput(field, level, remedy)
    if kind == "tenant" and not re.match(type_name, name):
        raise BadInput(field, level, "No tenant is called so: use 1-64 lower-case letters, digits, '.', '_' or '-'.")
