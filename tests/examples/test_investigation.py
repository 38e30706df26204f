"""The investigation: its documents, its sources, and that it finds what was planted, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_invoice_data import module

from blackboard.engine import stop_local

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "investigation"
SCRIPT = FOLDER / "script"
KILLS = int(os.environ.get("ARBITER_CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("ARBITER_CHAOS_SEED", "11"))


@cache
def data() -> Any:
    return module(FOLDER / "make_data.py")


@cache
def sources() -> Any:
    return module(FOLDER / "capabilities.py")


@cache
def specification() -> dict[str, Any]:
    return json.loads((SCRIPT / "match_supplier_names.spec.json").read_text(encoding="utf-8"))


@cache
def matcher() -> Any:
    loaded = types.ModuleType("match_supplier_names")
    exec((SCRIPT / "match_supplier_names.py.txt").read_text(encoding="utf-8"), loaded.__dict__)
    return loaded.handler


def test_the_documents_are_the_same_every_time_and_others_for_another_seed(tmp_path: Path) -> None:
    case = data().build()
    subprocess.run([sys.executable, str(FOLDER / "make_data.py"), str(tmp_path)], check=True, capture_output=True)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        name: text.encode() for name, text in case.files.items()
    }
    other = module(FOLDER / "make_data.py")
    other.SEED += 1
    assert other.build().files != case.files


def test_a_few_hundred_documents_hide_six_forgeries_among_real_changes() -> None:
    case = data().build()
    letters = [text for name, text in case.files.items() if name.endswith(".txt")]
    assert len(letters) > 200
    assert len(case.truth.forged) == 6
    assert len(set(case.truth.forged.values())) == 2
    kinds = [said["kind"] for said in map(sources().read_letter, letters) if said is not None]
    assert kinds.count("change") == 14, "more real ones than forged ones"
    assert {kinds.count(kind) > 4 for kind in ("statement", "thanks", "reminder")} == {True}
    assert len(case.truth.payments) > 10
    assert case.truth.cents > 0


def test_a_letter_about_something_else_says_nothing() -> None:
    case = data().build(noise=200)
    quiet = sum(sources().read_letter(text) is None for name, text in case.files.items() if name.endswith(".txt"))
    assert quiet == 200


@pytest.mark.parametrize("way", range(5))
def test_the_scripted_matcher_knows_every_spelling_of_every_supplier(way: int) -> None:
    names = data().NAMES
    suppliers = [{"supplier_id": str(number), "name": name} for number, name in enumerate(names)]
    matches = matcher()([data().spelling(name, way) for name in names], suppliers)["matches"]
    assert [one["supplier_id"] for one in matches] == [str(number) for number in range(len(names))]


@pytest.mark.parametrize("part", ["public_cases", "sealed_cases"])
def test_the_scripted_matcher_passes_its_exam(part: str) -> None:
    for case in specification()[part]:
        jsonschema.validate(case["input"], specification()["input_schema"])
        result = matcher()(**case["input"])
        jsonschema.validate(result, specification()["output_schema"])
        assert result == case["expected"], case["name"]


@pytest.mark.timeout(180)
def test_g3_the_answer_is_what_was_planted_although_workers_are_killed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable, str(FOLDER / "investigate.py"), "--json", "--small", "--noise", "5", "--kills", str(KILLS),
            "--seed", str(SEED), "--data-dir", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert not stop_local(tmp_path / "server"), "it was left behind"
    assert ended.returncode == 0, f"{ended.stdout[-2000:]}\n{ended.stderr[-3000:]}"
    told = json.loads(ended.stdout.splitlines()[-1])
    truth = data().build(5, forged=3, changed=2).truth
    assert told["answer"] == {
        "forged": truth.forged, "payments": list(truth.payments), "cents": truth.cents,
    }  # fmt: skip
    assert told["killed"] >= 1
    assert {"fabricator", "match_supplier_names", "find_contradictions", "weigh_evidence", "report"} <= set(
        told["sources"]
    )
    assert (tmp_path / "board.svg").read_text(encoding="utf-8").count("<circle") == told["entries"]


def test_whoever_has_seen_enough_of_it_leaves_nothing_behind(tmp_path: Path) -> None:
    told = subprocess.Popen(
        [
            sys.executable, str(FOLDER / "investigate.py"), "--small", "--noise", "5", "--workers", "1",
            "--data-dir", str(tmp_path),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert told.stdout is not None
    assert told.stderr is not None
    assert told.stdout.readline()
    told.stdout.close()
    said = told.stderr.read().decode()
    told.stderr.close()
    assert (told.wait(120), said) == (0, "")
    assert not stop_local(tmp_path / "server")
