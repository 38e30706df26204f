"""One small capability, its specification, and programs for it that are right or wrong in known ways."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from wrapper.models import ScriptedModel

SEALED_NET = 987_654_321
_SEALED_HALF = 7_150
_SEALED_RATE = 7_300

SPEC: dict[str, Any] = {
    "name": "add_tax",
    "description": "Add tax to a net amount in cents. The rate is in basis points; the tax is rounded half up.",
    "input_schema": {
        "type": "object",
        "properties": {"net_cents": {"type": "integer", "minimum": 0}, "rate_bp": {"type": "integer", "minimum": 0}},
        "required": ["net_cents"],
        "additionalProperties": False,
    },
    "output_schema": {
        "type": "object",
        "properties": {"total_cents": {"type": "integer"}, "tax_cents": {"type": "integer"}},
        "required": ["total_cents", "tax_cents"],
        "additionalProperties": False,
    },
    "effects": "pure",
    "public_cases": [
        {"name": "a whole rate", "input": {"net_cents": 1000, "rate_bp": 2000},
         "expected": {"total_cents": 1200, "tax_cents": 200}},
        {"name": "no rate, no tax", "input": {"net_cents": 5},
         "expected": {"total_cents": 5, "tax_cents": 0}},
    ],
    "sealed_cases": [
        {"name": "half a cent goes up", "input": {"net_cents": _SEALED_HALF, "rate_bp": _SEALED_RATE},
         "expected": {"total_cents": 12_370, "tax_cents": 5_220}},
        {"name": "a secret amount", "input": {"net_cents": SEALED_NET, "rate_bp": 0},
         "expected": {"total_cents": SEALED_NET, "tax_cents": 0}},
    ],
}  # fmt: skip

RIGHT = '''
def handler(net_cents: int, rate_bp: int = 0) -> dict[str, int]:
    """Add tax, rounded half up."""
    tax = (net_cents * rate_bp + 5_000) // 10_000
    return {"total_cents": net_cents + tax, "tax_cents": tax}
'''
WRONG = RIGHT.replace("net_cents + tax,", "net_cents - tax,")
"""Fails a public case."""
ROUNDS_DOWN = RIGHT.replace(" + 5_000", "")
"""Passes the public cases and fails one sealed case."""
FORBIDDEN = "import requests\n" + RIGHT
CLOSE = {
    "name": "the tax is exact to half a cent",
    "says": "The tax differs from net times rate by at most half a cent, and total is net plus tax.",
    "check": "def check(input, result):\n    exact = input['net_cents'] * input.get('rate_bp', 0)\n"
    "    return abs(result['tax_cents'] * 10_000 - exact) <= 5_000 and "
    "result['total_cents'] == input['net_cents'] + result['tax_cents']",
}
"""A property that holds of RIGHT."""


def spec(**changes: Any) -> dict[str, Any]:
    """The specification, with some members replaced."""
    return {**copy.deepcopy(SPEC), **changes}


def block(source: str) -> str:
    """An answer of the generator."""
    return f"Here it is.\n\n```python\n{source.strip()}\n```\n"


def script(*sources: str, specs: list[Any] | None = None, name: str = "add_tax") -> ScriptedModel:
    """A model that plays the examiner with ``specs`` and the generator with ``sources``, turn by turn."""
    answers = [each if isinstance(each, str) else json.dumps(each) for each in specs or [spec(name=name)]]
    return ScriptedModel(
        [
            {"name": "examiner", "system": "^You are the Examiner", "turns": [(lambda *_, a=a: a) for a in answers]},
            {
                "name": "generator",
                "system": "^You are the Fabricator",
                "turns": [block(each) if "def " in each else each for each in sources] or ["nothing"],
            },
        ],
        usage=(100, 10),
    )


def calls(model: ScriptedModel, scene: str) -> list[Any]:
    """The requests one of the two was asked."""
    return [call for call in model.calls if call.scene == scene]


def said_to(model: ScriptedModel, scene: str) -> str:
    """Every word one of the two was told, system prompt included."""
    return "\n".join(call.system_prompt + json.dumps(call.messages) for call in calls(model, scene))


def leaks(text: str) -> list[str]:
    """What of the sealed cases a text holds: their inputs, their results, their names."""
    numbers = [str(each) for each in (SEALED_NET, _SEALED_HALF, _SEALED_RATE, 12_370, 5_220)]
    # A hash may hold any digits.
    found = [each for each in numbers if re.search(rf"(?<![0-9a-f.]){each}(?![0-9a-f])", text)]
    return found + [each for each in ("half a cent", "a secret amount") if each in text]
