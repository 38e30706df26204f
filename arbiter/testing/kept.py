"""Results of a crash matrix that stay on disk, so that a run which was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arbiter.testing.cases import Case, Outcome

_ROOMS = ("blackboard", "registry", "wrapper", "fabricator", "arbiter")


class Kept:
    """A file of results: a line that says of what code they are, then one for each case that was played.

    Args:
        file: is made when it is not there, and begun anew when it is of other code. None keeps nothing.
        of: what else has to be the same: the server's version, the stories as ``module:function``.
    """

    def __init__(self, file: Path | None, *of: str) -> None:
        self._file = file
        self.outcomes: dict[str, Outcome] = {}
        """What passed, or was not reached, by the id of its case; what failed is to be played again."""
        self.seconds = 0.0
        """How long what is kept took, on the clock."""
        if file is None:
            return
        code = _code(of)
        lines = [each for each in map(_read, file.read_text("utf-8").splitlines()) if each] if file.exists() else []
        if not lines or lines[0].get("code") != code:
            file.write_text(json.dumps({"code": code}) + "\n", "utf-8")
            return
        with file.open("a", encoding="utf-8") as end:
            end.write("\n")  # behind a line that was being written when the process was killed
        for said in lines[1:]:
            self.seconds = said.pop("clock")
            case = Case.parse(said.pop("case"))
            self.outcomes[case.id] = Outcome(case, **said)

    def add(self, outcome: Outcome, clock: float) -> None:
        """Keep how a case ended, at once.

        Args:
            clock: seconds since the first case of the file, without pauses.
        """
        if self._file is None or outcome.problems:
            return
        said = {name: value for name, value in asdict(outcome).items() if name in ("fired", "seconds", "lives")}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": outcome.case.id, **said, "clock": clock}) + "\n")


def _read(line: str) -> dict[str, Any] | None:
    """A line; None for one that was being written when the process was killed."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _code(of: Iterable[str]) -> str:
    """The installed code, hashed, with what runs it."""
    told = hashlib.sha256("\n".join([platform.python_version(), *of]).encode())
    for name in (*_ROOMS, *(one.partition(":")[0] for one in of if ":" in one)):
        spec = importlib.util.find_spec(name)
        places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())] if spec else []
        for place in map(Path, places):
            files = [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file())
            for file in files:
                if "__pycache__" not in file.parts:
                    told.update(file.name.encode() + file.read_bytes())
    return told.hexdigest()
