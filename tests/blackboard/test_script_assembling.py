"""What of the shared preludes is put in front of a script."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from blackboard import _script

SHARED = """\
-- A comment at the margin.
local KEY = KEYS[1]
local SIZES = {
  small = 1,
}
for i = 1, 2 do
  local x = i
end
local function low(x) return x end   -- says: high
local function middle(x)
  return low(x) + SIZES.small
end
local function high(x)
  -- low
  return 'middle' .. KEY
end
"""


def test_a_script_gets_what_it_uses_of_its_preludes_and_what_that_uses_in_the_order_written() -> None:
    text = _script.assembled([SHARED, "return middle(1)\n"])
    places = [text.index(part) for part in ("SIZES", "for i", "function low", "function middle", "return middle(1)")]
    assert places == sorted(places)
    assert "high" not in text.replace("says: high", "")
    assert "KEY " not in text


def test_a_field_a_string_or_a_comment_of_the_same_name_uses_nothing() -> None:
    assert "function" not in _script.assembled([SHARED, "return t.low .. 'middle' -- high\n"])


def test_what_defines_nothing_is_always_kept() -> None:
    assert "for i = 1, 2 do\n  local x = i\nend\n" in _script.assembled([SHARED, "return 1\n"])


@pytest.mark.parametrize("prelude", ["_board", "_entries", "_noticing", "_agenda", "_catalog", "_budget", "_schedule"])
def test_no_script_uses_a_name_of_a_prelude_that_was_left_out(prelude: str) -> None:
    shared = [_script.source(one) for one in _script.PRELUDES.get(prelude, (prelude,))]
    known = {name for text in shared for names in re.findall(r"^local (?:function )?([\w, ]+)", text, re.MULTILINE)
             for name in re.split(r", ?| ", names) if name}  # fmt: skip
    for path in (files("blackboard") / "lua").iterdir():
        name = path.name.removesuffix(".lua")
        if not path.name.endswith(".lua") or name.startswith("_"):
            continue
        text = re.sub(r"--.*", "", _script.load(name, prelude).text)
        called = set(re.findall(r"(?<![.\w])(\w+)\(", text)) & known
        names = re.findall(r"local (?:function )?([\w, ]+)|function\(([\w, ]+)\)", text)
        defined = {name for pair in names for name in re.split(r"[, ]+", " ".join(pair))}
        assert called <= defined, f"{name} behind {prelude}"
        upper = {word for word in known if word.isupper() and len(word) > 1} - {"ARGV"}  # which the server gives
        read = set(re.findall(r"(?<![.\w'])([A-Z_]{2,})\b(?!')", text)) & upper
        given = {one for names in re.findall(r"local ([A-Z_, ]+)", text) for one in names.replace(" ", "").split(",")}
        assert read <= given, f"{name} behind {prelude}"
