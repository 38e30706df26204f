"""The command openapi."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec

from arbiter.cli import OK
from blackboard.errors import MissingExtra


def show(_: argparse.Namespace) -> int:
    """Print the description of the HTTP API."""
    if find_spec("starlette") is None:
        raise MissingExtra("openapi needs starlette: pip install 'arbiter[http]'")
    from arbiter.http.openapi import document

    print(json.dumps(document(), indent=2))
    return OK
