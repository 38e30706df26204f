"""References from a task's input to earlier results: JSON Pointer (RFC 6901) and what is said when it leads nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict import Play, done, spec, watched_play

from blackboard import references
from blackboard.errors import BadInput

play = watched_play

# The examples of RFC 6901, section 5.
RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", RFC),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_examples_of_the_rfc(pointer: str, value: object) -> None:
    assert references.resolve({"$ref": f"load#{pointer}"}, {"load": RFC}) == value


@pytest.mark.parametrize(
    ("pointer", "says"),
    [
        ("/nope", "available: , "),
        ("/foo/2", "indexes below 2"),
        ("/foo/-", "indexes below 2"),
        ("/foo/01", "indexes below 2"),
        ("/foo/-1", "indexes below 2"),
        ("/foo/\u0660", "indexes below 2"),
        ("/foo/0/x", "a str, which has no members"),
        ("foo", "begins with '/'"),
    ],
)
def test_a_pointer_that_leads_nowhere_says_what_there_is(pointer: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        references.resolve([{"$ref": f"load#{pointer}"}], {"load": RFC})
    assert says in str(refused.value)


def test_references_are_found_and_replaced_anywhere_and_nothing_else_is_touched() -> None:
    value = {
        "a": [{"$ref": "x#/v"}, {"$ref": "y"}],
        "b": {"$ref": "x", "more": 1},
        "c": {"$ref": 1},
        "d": {"$ref": "later#/q"},
    }
    assert list(references.keys(value)) == ["x", "y", "later"]
    given_ = {"x": {"v": None}, "y": {"$ref": "x#/v"}}
    resolved = references.resolve(value, given_)
    assert resolved == {"a": [None, {"$ref": "x#/v"}], "b": value["b"], "c": value["c"], "d": value["d"]}
    assert value["a"] == [{"$ref": "x#/v"}, {"$ref": "y"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_value_is_found_by_its_own_pointer(document: object) -> None:
    def walk(here: object, path: str) -> None:
        assert references.point(document, path, "x") == here  # type: ignore[arg-type]
        members = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        for name, value in members:
            walk(value, f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}")

    walk(document, "")


async def test_what_a_task_returned_is_put_in_when_its_dependant_is_claimed(play: Play) -> None:
    await play.run(
        spec("load"),
        spec(
            "sum",
            ["load"],
            input={"rows": {"$ref": "load#/rows"}, "first": {"$ref": "load#/rows/0/n"}, "other": {"$ref": "no#/x"}},
        ),
    )
    load = await play.one()
    await play.board.complete(load, done(load, {"rows": [{"n": 1}, {}, []]}))
    assert (await play.one()).input() == {"rows": [{"n": 1}, {}, []], "first": 1, "other": {"$ref": "no#/x"}}


async def test_a_reference_that_leads_nowhere_is_the_claimants_error_and_the_task_can_be_ended_with_it(
    play: Play,
) -> None:
    await play.run(spec("load"), spec("sum", ["load"], input={"$ref": "load#/rows"}))
    load = await play.one()
    await play.board.complete(load, done(load, {"lines": []}))
    claim = await play.one()
    with pytest.raises(BadInput, match="available: lines"):
        claim.input()
    await play.board.complete(claim, claim.completion("failed"))  # type: ignore[arg-type]
