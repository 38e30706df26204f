"""The invoice example's data: reproducible, large enough, within the board's limits, and what was planted is there."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

INVOICES = Path(__file__).resolve().parents[2] / "examples" / "invoices"
FILES = ("invoices.csv", "purchase_orders.csv", "goods_receipts.csv")
PAYLOAD_CAP = 350_000
"""Bytes of JSON; far below the 1 MiB a task's input or result may have."""


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look the module up by name.
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def books() -> dict[str, Any]:
    return module(INVOICES / "capabilities.py").load_invoices("invoices")


def rows(name: str) -> list[dict[str, str]]:
    with (INVOICES / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_generator_rewrites_the_shipped_files_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(INVOICES / "make_data.py"), str(tmp_path)], check=True, capture_output=True)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (INVOICES / name).read_bytes(), name


def test_another_seed_makes_other_files() -> None:
    generator = module(INVOICES / "make_data.py")
    usual = generator.build().files
    generator.SEED += 1
    assert generator.build().files != usual


def test_what_was_planted_is_exactly_what_the_independent_computation_finds() -> None:
    planted = module(INVOICES / "make_data.py").build().planted
    found = module(INVOICES / "independent.py").expected_answer(INVOICES)["exceptions"]
    assert {document: frozenset(kinds) for document, kinds in found.items()} == planted


def test_there_are_at_least_500_invoices_and_every_kind_of_exception_occurs_often() -> None:
    independent = module(INVOICES / "independent.py")
    answer = independent.expected_answer(INVOICES)
    assert answer["invoices_checked"] == len(rows("invoices.csv")) >= 500
    assert set(answer["kinds"]) == set(independent.KINDS)
    assert min(total["count"] for total in answer["kinds"].values()) >= 5
    assert sum(len(kinds) > 1 for kinds in answer["exceptions"].values()) >= 10
    assert answer["invoices_with_exceptions"] < answer["invoices_checked"] / 3


def test_the_sums_on_every_invoice_add_up_in_whole_cents() -> None:
    for row in rows("invoices.csv"):
        assert int(row["net_cents"]) == int(row["quantity"]) * int(row["unit_price_cents"])
        assert int(row["total_cents"]) == int(row["net_cents"]) + int(row["tax_cents"])


def test_identifiers_are_unique() -> None:
    for name, column in zip(FILES, ("document_id", "po_number", "receipt_number"), strict=True):
        values = [row[column] for row in rows(name)]
        assert len(set(values)) == len(values), name


def test_the_loaded_books_are_the_files_and_fit_on_the_board(books: dict[str, Any]) -> None:
    assert [len(books[Path(name).stem]) for name in FILES] == [len(rows(name)) for name in FILES]
    assert books["rules"] == json.loads((INVOICES / "rules.json").read_text(encoding="utf-8"))
    for name in FILES:
        for loaded, raw in zip(books[Path(name).stem], rows(name), strict=True):
            assert {column: str(value) for column, value in loaded.items()} == {
                column: value.strip() for column, value in raw.items()
            }
    assert len(json.dumps(books, ensure_ascii=False).encode()) < PAYLOAD_CAP


@pytest.mark.parametrize("folder", ["..", "../..", "/etc", "nowhere", "orders", ""])
def test_only_a_folder_of_the_examples_with_invoices_is_read(folder: str) -> None:
    with pytest.raises(ValueError, match="folder"):
        module(INVOICES / "capabilities.py").load_invoices(folder)


def test_the_capabilities_have_schemas_a_planner_can_use() -> None:
    manifests = {each.manifest.name: each.manifest for each in module(INVOICES / "capabilities.py").CAPABILITIES}
    assert set(manifests) == {"load_invoices", "summarise_exceptions"}
    assert manifests["load_invoices"].effects == "reads"
    assert manifests["summarise_exceptions"].effects == "pure"
    for manifest in manifests.values():
        assert manifest.description
        assert manifest.output_schema is not None
        for name, described in manifest.input_schema["properties"].items():
            assert described.get("description"), name
