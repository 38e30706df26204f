"""Tables on narrow and wide terminals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from arbiter.cli import output

NAME = "reconcile_purchase_orders"
HEAD = [("NAME", {"whole": True}), ("KIND", {"spare": True}), ("HEALTH", {}), ("DESCRIPTION", {})]
ROWS: list[list[object]] = [[NAME, "function", "new", "Find what was ordered and never came. " * 9]]


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setattr(output, "console", lambda least=None: Console(width=least or width))
    output.print_table(HEAD, ROWS)  # type: ignore[arg-type]
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_long_description_takes_no_room_from_the_other_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, row = printed(capsys, monkeypatch, 100)
    assert head.split() == ["NAME", "KIND", "HEALTH", "DESCRIPTION"]
    assert row.startswith(f"{NAME}  function  new     Find what was ordered")
    assert row.endswith("…")
    assert len(row) <= 100


def test_a_narrow_terminal_does_without_what_is_spare_and_keeps_names_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, row = printed(capsys, monkeypatch, 50)
    assert head.split() == ["NAME", "HEALTH", "DESCRIPTION"]
    assert row.startswith(f"{NAME}  new     Find")
    assert len(row) <= 50


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 30), st.booleans()), min_size=1, max_size=9),
    st.integers(10, 200),
)
def test_widths_fit_or_are_all_the_least(columns: list[tuple[int, int, bool]], room: int) -> None:
    made = [
        output._Column.of("A", {"min_width": least, "whole": whole}, ["x" * wanted])  # pyright: ignore[reportPrivateUsage]
        for wanted, least, whole in columns
    ]
    widths = output._fitting(made, room)  # pyright: ignore[reportPrivateUsage]
    assert all(each.least <= width <= each.wanted for each, width in zip(made, widths, strict=True))
    assert sum(widths) <= room or widths == [each.least for each in made]
    uncut = [each.wanted for each in made]
    assert sum(uncut) > room or widths == uncut
