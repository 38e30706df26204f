"""The tour notebook is executed in a real kernel, top to bottom, and shows what it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from blackboard.testing import RedisServer

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebooks" / "tour.ipynb"


@pytest.fixture(scope="module")
def cells(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The notebook's code cells with their outputs."""
    folder = tmp_path_factory.mktemp("tour")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARBITER_REDIS_URL", redis_server.url)
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


def test_the_tour_runs_without_errors_or_warnings(cells: list[Any]) -> None:
    for cell in cells:
        for out in cell.outputs:
            assert out.output_type != "error", out
            assert out.get("name") != "stderr", out


def test_a_result_shows_plan_timeline_and_table(cells: list[Any]) -> None:
    shown = output(cells, 'result = await a.run("What')["text/html"]
    assert shown.count("<svg") == 2
    assert "Standard 490 cents, express 980 cents." in shown
    assert "shipping_2" in shown


def test_events_are_streamed_as_they_happen(cells: list[Any]) -> None:
    lines = output(cells, "async for event in a.stream")["text/plain"].splitlines()
    assert lines[0] == "dev.arbiter.run.accepted.v1 "
    assert lines[-1] == "dev.arbiter.run.completed.v1 "
    assert sum("task.completed" in line and "shipping" in line for line in lines) == 2


def test_a_capability_is_fabricated_shown_and_its_code_printed(cells: list[Any]) -> None:
    shown = output(cells, 'kitchen = demo.example("orders")')["text/html"]
    assert "fabricate_cheesecake" in shown
    assert "exam sealed" in shown
    code = output(cells, "print(source)")["text/plain"]
    assert code.startswith("active ")
    assert "def handler(" in code


def test_runs_are_listed_as_a_table(cells: list[Any]) -> None:
    shown = output(cells, "Runs(await a.runs())")["text/html"]
    assert shown.count("And another parcel?") == 1
    assert "<table" in shown


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
