"""What is removed is removed whole, and nothing around it is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wrapper.isolation import directories


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_tree_that_was_made_hard_to_remove_is_removed(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "closed" / "deeper").mkdir(parents=True)
    (base / "closed" / "deeper" / "file").write_text("x")
    os.chmod(base / "closed" / "deeper", 0)
    os.chmod(base / "closed", 0)
    directories.remove(str(base))
    assert not base.exists()


@pytest.mark.parametrize("what", ["nothing", "a link"])
def test_removing_what_is_gone_or_was_replaced_changes_nothing_around_it(tmp_path: Path, what: str) -> None:
    around, elsewhere = tmp_path / "around", tmp_path / "elsewhere"
    around.mkdir()
    elsewhere.mkdir()
    os.chmod(around, 0o1777)
    os.chmod(elsewhere, 0o755)
    (elsewhere / "kept").write_text("x")
    if what == "a link":
        os.symlink(elsewhere, around / "base")
    directories.remove(str(around / "base"))
    assert not os.path.lexists(around / "base")
    assert (mode(around), mode(elsewhere)) == (0o1777, 0o755)
    assert (elsewhere / "kept").exists()
