"""Attacks through what is returned: a result must stay data, whatever it looks like."""

from __future__ import annotations

from collections.abc import Iterable

from attack import Family
from outside import World

from wrapper.isolation import Outcome

FAMILY = Family(
    "deserialisation",
    {
        "open_on": ("naive",),
        "layers": ("host's judgement",),
        "shows": "The host ran it: a file with the token appeared.",
    },
)
attack = FAMILY.attack
_REDUCES = """
class Runs({base}):
    def __reduce__(self):
        return (os.mkdir, ("/tmp/" + TOKEN,))
def handler(w):
    global TOKEN
    TOKEN = w["token"]
    {end}
"""


def unchanged(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """Text that was returned is not the text that arrived."""
    if outcome.status == "succeeded" and not isinstance(outcome.value, str):
        yield "what was text became something else"


attack(
    "pickled_result",
    tries="Returns an object that runs a function when it is unpickled.",
    body="import os\n" + _REDUCES.format(base="", end="return Runs()"),
)
attack(
    "pickled_exception",
    tries="Raises an exception that runs a function when it is unpickled.",
    body="import os\n" + _REDUCES.format(base="Exception", end="raise Runs()"),
)
attack(
    "pickle_frame",
    tries="Sends a pickle in a frame of its own making.",
    body="""
    import base64, pickle
    class Runs:
        def __reduce__(self): return (os.mkdir, ("/tmp/" + w["token"],))
    send({"t": "done", "pickle": base64.b64encode(pickle.dumps(Runs())).decode()})
    os._exit(0)
    """,
)
attack(
    "yaml_tag",
    tries="Returns text that a careless YAML reader would run.",
    shown=unchanged,
    body="return f'!!python/object/apply:os.mkdir [/tmp/{w[\"token\"]}]'",
)
