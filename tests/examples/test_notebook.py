"""The tour notebook is executed in a real kernel, top to bottom, and shows what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from blackboard.testing import RedisServer

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebooks" / "tour.ipynb"


def executed(url: str, folder: Path) -> list[Any]:
    """The notebook's code cells with their outputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARBITER_REDIS_URL", url)
        patch.setenv("ARBITER_DATA_DIR", str(folder))
        patch.setenv("IPYTHONDIR", str(folder))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=str(folder))
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output(cells: list[Any], beginning: str) -> dict[str, str]:
    """Everything shown by the cell that holds these words, by type."""
    [cell] = [cell for cell in cells if beginning in cell.source]
    shown: dict[str, str] = {}
    for out in cell.outputs:
        for kind, text in out.get("data", {"text/plain": out.get("text", "")}).items():
            shown[kind] = shown.get(kind, "") + text
    return shown


def test_the_tour_runs_without_errors_and_shows_what_it_promises(redis_server: RedisServer, tmp_path: Path) -> None:
    cells = executed(redis_server.url, tmp_path)
    for cell in cells:
        for out in cell.outputs:
            assert out.output_type != "error", out
            assert out.get("name") != "stderr", out

    result = output(cells, 'result = await a.run("What')["text/html"]
    assert result.count("<svg") == 2
    assert "Standard 490 cents, express 980 cents." in result
    assert "shipping_2" in result

    events = output(cells, "async for event in a.stream")["text/plain"].splitlines()
    assert events[0] == "dev.arbiter.run.accepted.v1 "
    assert events[-1] == "dev.arbiter.run.completed.v1 "
    assert sum("task.completed" in line and "shipping" in line for line in events) == 2

    order = output(cells, 'kitchen = demo.example("orders")')["text/html"]
    assert "fabricate_cheesecake" in order
    assert "exam sealed" in order
    code = output(cells, "print(source)")["text/plain"]
    assert code.startswith("active ")
    assert "def handler(" in code

    listing = output(cells, "Runs(await a.runs())")["text/html"]
    assert listing.count("And another parcel?") == 1
    assert "<table" in listing


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
