"""The encoder an operator names in words, and the matcher that ranks by it."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import redis

from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.vectors import Vectors
from registry.matching import Matcher
from registry.matching.encoders import BedrockEncoder, Encoder

VARIABLE = "ARBITER_ENCODER"
"""Names the encoder of a process that was given none."""
REMEDY = "Name a folder of weights, package:NAME that holds one, either with #SHA256 behind it, or bedrock:MODEL."
_WEIGHTS = "model.safetensors"
_ONE_SERVER = ("redis://", "rediss://", "unix://")
_SECONDS = 5.0


def encoder(named: str) -> Encoder:
    """The encoder of a name: ``FOLDER``, ``package:NAME``, either with ``#SHA256`` of the weights, or ``bedrock:MODEL``.

    Raises:
        BadInput: there is no such folder or package, NumPy is missing, or the weights are not those.
    """
    kind, _, rest = named.partition(":")
    if kind == "bedrock":
        if "#" in rest:
            raise BadInput("encoder", named, "Bedrock's models have no hash; leave it out.")
        return BedrockEncoder(rest) if rest else BedrockEncoder()
    from registry.matching.sentences import SentenceEncoder

    place, _, sha256 = named.partition("#")
    folder = _packaged(place.partition(":")[2]) if kind == "package" else Path(place).expanduser()
    return SentenceEncoder(folder, sha256 or None)


def _packaged(name: str) -> Path:
    """The folder of weights in an installed package, which is found and not imported."""
    spec = find_spec(name) if name.isidentifier() else None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(place).rglob(_WEIGHTS)):
            return path.parent
    raise BadInput("encoder", f"package:{name}", f"No installed package of that name holds {_WEIGHTS}. {REMEDY}")


def named(given: str | None) -> str | None:
    """What was given, or what the environment names."""
    return given or os.environ.get(VARIABLE) or None


async def matcher(
    board: Board, given: Matcher | str | None, namespace: str = "arbiter", name: str = "main"
) -> Matcher | None:
    """The matcher of a process: one that was given, or by meaning as well with an encoder that is named; None is the default.

    Vectors are kept on the board where one server holds it, and else only in this process.

    Raises:
        BadInput: see :func:`encoder`.
    """
    if given is not None and not isinstance(given, str):
        return given
    wanted = named(given)
    if wanted is None:
        return None
    from registry.matching.hybrid import HybridMatcher

    found = await asyncio.to_thread(encoder, wanted)
    url = board.engine.url
    if not url.startswith(_ONE_SERVER):
        return HybridMatcher(found)
    client = cast(Any, redis.Redis).from_url(url, socket_timeout=_SECONDS)
    return HybridMatcher(found, Vectors(client, namespace, name))
