"""Which model does isolated code talk to? What it names is a wish; its grants say which wishes there may be."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from blackboard.errors import ArbiterError
from registry import Grants
from wrapper.isolation import BrokerError, NotGranted
from wrapper.models import describe, resolve
from wrapper.worst_case import bound_output

if TYPE_CHECKING:
    from strands.models import Model

_PROVIDERS = ("bedrock:", "anthropic:", "openai:", "ollama:")
_NAME_CHARACTERS = 200
_KEPT = 16


class NamedModels:
    """Models that grants name and this wrapper is not configured with, made when they are first asked for.

    Their credentials are the wrapper's, from its environment.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[str, Model] = OrderedDict()

    def get(self, name: str) -> Model:
        """The model of a name. Errors as of :func:`wrapper.models.resolve`."""
        if name not in self._made:
            self._made[name] = bound_output(resolve(name))
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(name)
        return self._made[name]


async def choose(
    grants: Grants, wish: object, configured: Callable[[], Model] | None, named: Callable[[str], Model] | None
) -> Model:
    """The model that answers one call.

    Args:
        grants: of the capability; that it may ask a model at all was checked.
        wish: ``model_id`` of the call. Without a provider in front it is one of Bedrock's, whose model class the code knows.
        configured: the wrapper's own model, or None when it has none.
        named: gives another one by its name; None when there are no others.

    Returns:
        Without ``grants.models`` the wrapper's own, whatever is wished. Else the wished one; without a wish the wrapper's own
        if it is among them, and the first of them otherwise.

    Raises:
        NotGranted: the wish is not among ``grants.models``.
        BrokerError: ``denied``, there is none to be had here.
    """
    if not grants.models:
        if configured is None:
            raise BrokerError("denied", "This worker has no model configured.")
        return configured()
    own = describe(configured()) if configured is not None else None
    if wish is None:
        name = own if own is not None and _granted(grants, own) else _first(grants)
    else:
        name = _named(wish)
        if not _granted(grants, name):
            raise NotGranted(f"{name} is not among the granted models: {', '.join(grants.models)}.")
    if configured is not None and name == own:
        return configured()
    # Whoever is behind the name of a host would be asked with whatever the code says.
    if named is None or "@" in name:
        raise BrokerError("denied", f"This worker has no model {name}.")
    try:
        return await asyncio.to_thread(named, name)
    except ArbiterError:
        raise BrokerError("denied", f"This worker cannot ask {name}.") from None


def _granted(grants: Grants, name: str) -> bool:
    return any(fnmatchcase(name, each) for each in grants.models)


def _first(grants: Grants) -> str:
    """What to ask for where the code names nothing."""
    for each in grants.models:
        if "*" not in each:
            return each
    raise BrokerError("denied", "The model of this worker is not among those granted; name one.")


def _named(wish: object) -> str:
    if not isinstance(wish, str) or not 0 < len(wish) <= _NAME_CHARACTERS or not wish.isprintable():
        raise BrokerError("bad_request", f"Name a model in 1 to {_NAME_CHARACTERS} printable characters.")
    return wish if wish.startswith(_PROVIDERS) else f"bedrock:{wish}"
