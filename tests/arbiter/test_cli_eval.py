"""The command eval matching, on corpora small enough to know the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from arbiter.cli import OK, REFUSED, main
from registry.matching import sentences
from registry.matching.encoders import CallableEncoder

TOOLS = [
    {
        "id": f"t{number}",
        "name": f"{verb}{thing.capitalize()}",
        "description": f"{verb} a {thing}",
        "parameters": {"id": "x"},
    }
    for number, (verb, thing) in enumerate(
        (verb, thing) for verb in ("draw", "sell", "count", "paint") for thing in ("horse", "house", "boat")
    )
]


def corpus(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "tools.jsonl").write_text("\n".join(map(json.dumps, TOOLS)), "utf-8")
    queries = [{"query": f"please {tool['description']} for me", "relevant": [tool["id"]]} for tool in TOOLS]
    (folder / "queries_dev.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    return folder


def records(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_corpus_is_measured_beside_bm25_and_fusion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, fitted = tmp_path / "risk.svg", tmp_path / "fitted.json"
    words = [
        "eval",
        "matching",
        str(corpus(tmp_path / "one")),
        "--json",
        "--picture",
        str(picture),
        "--refit",
        str(fitted),
    ]
    assert main(words) == OK
    (found,) = records(capsys.readouterr().out)
    assert set(found["rankings"]) == {"matcher", "BM25", "RRF"}
    value, low, high = found["rankings"]["matcher"]["nDCG@10"]
    assert value == low == high == 1.0
    assert set(found["abstention"]["matcher"]) == {"near", "purged"}
    purged = found["abstention"]["matcher"]["purged"]
    assert purged["auroc"] > 0.9
    bands = [purged[band] for band in ("used", "asked", "fabricated")]
    assert sum(band["share"] for band in bands) == pytest.approx(1)
    assert all(0 <= band["right"] <= 1 for band in bands)
    assert picture.read_text("utf-8").startswith("<svg")
    assert main(["eval", "matching", str(tmp_path / "one"), "--calibration", str(fitted)]) == OK
    assert "matcher" in capsys.readouterr().out


def test_needs_that_take_several_capabilities_are_measured_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "one")
    assert main(["eval", "matching", str(folder), "--json"]) == OK
    assert records(capsys.readouterr().out)[0]["composing"] == {}
    both = "please draw a horse and then sell a boat"
    queries = [{"query": both, "relevant": ["t0", "t5"]}, {"query": both, "relevant": ["t0", "t1"]}]
    (folder / "queries_more.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    assert main(["eval", "matching", str(folder), "--json"]) == OK
    (found,) = records(capsys.readouterr().out)
    assert found["composing"] == {"matcher": {"needs": 2, "composed": 1.0, "right": 0.5, "cost": 1.5}}
    assert main(["eval", "matching", str(folder)]) == OK
    assert "SEVERAL NEEDED" in capsys.readouterr().out


def test_needs_that_say_what_they_are_for_are_ranked_with_and_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "one")
    query = {"query": "paint it", "relevant": ["t11"], "goal": "I have a boat and some colours."}
    (folder / "queries_dev.jsonl").write_text(json.dumps(query), "utf-8")
    assert main(["eval", "matching", str(folder), "--json"]) == OK
    rankings = records(capsys.readouterr().out)[0]["rankings"]
    assert rankings["matcher, goal"]["hit@1"][0] == 1
    assert rankings["matcher"]["hit@1"][0] == 0


def test_several_corpora_are_measured_as_one_registry_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus(tmp_path / "all" / "one")
    corpus(tmp_path / "all" / "two")
    assert main(["eval", "matching", str(tmp_path / "all"), "--json", "--limit", "5"]) == OK
    found = records(capsys.readouterr().out)
    assert [each["corpus"] for each in found] == ["one", "two", "POOL"]
    assert found[2]["capabilities"] == 24
    assert found[2]["queries"] == 5


@pytest.mark.parametrize(
    ("tools", "queries", "said"),
    [
        ("", "", "Give a queries"),
        ('{"id": "x"}', "", "tools.jsonl:1' was refused. Give one JSON object a line, such as"),
        ('{"id": "x", "name": "x"}\n\n{oops', "", "tools.jsonl:3"),
        ('{"id": "x", "name": "x", "name": "y"}', "", 'the key "name" stands twice'),
        ('{"id": "x", "name": null}', "", "here name is missing"),
        ('{"id": "x", "name": "x", "parameters": ["a"]}', "", "here parameters is missing or something else"),
        ('{"id": "x", "name": "x"}', '{"query": "x", "relevant": "x"}', "queries.jsonl:1"),
        ('{"id": "x", "name": "x"}', '{"query": "x", "relevant": 7}', "here relevant is missing"),
        (
            '{"id": "x", "name": "x"}',
            '{"query": "x", "relevant": ["y"]}',
            "labels of what tools.jsonl does not have: 1",
        ),
        ('{"id": "x", "name": "x"}', "", "Give a queries"),
        (
            '{"id": "x", "name": "x"}',
            '{"query": "x", "relevant": ["x"], "goal": 7}',
            "here goal is missing or something",
        ),
    ],
)
def test_what_is_no_corpus_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tools: str, queries: str, said: str
) -> None:
    assert main(["eval", "matching", str(tmp_path)]) == REFUSED
    (tmp_path / "tools.jsonl").write_text(tools, "utf-8")
    (tmp_path / "queries.jsonl").write_text(queries, "utf-8")
    assert main(["eval", "matching", str(tmp_path)]) == REFUSED
    assert said in capsys.readouterr().err


def test_what_is_left_out_of_a_corpus_is_told_and_a_separator_of_lines_in_a_text_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "one")
    with (folder / "tools.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"id": 0, "name": "old"}\n{"id": 0, "name": "odd\u2028one", "parameters": []}\n')
    (folder / "queries_more.jsonl").write_text(
        '\ufeff{"query": "an odd one", "relevant": [0, "t99"]}\n{"query": "gone", "relevant": ["t98"]}\n', "utf-8"
    )
    assert main(["eval", "matching", str(folder), "--json"]) == OK
    read = capsys.readouterr()
    (found,) = records(read.out)
    assert (found["capabilities"], found["queries"]) == (len(TOOLS) + 1, len(TOOLS) + 1)
    assert [line.rpartition(": ")[2] for line in read.err.splitlines()] == ["2", "1", "1"]


def test_example_needs_are_measured_beside_none_in_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        folder = corpus(tmp_path / "all" / name)
        queries = [{"query": f"quokka {number}", "relevant": [f"t{number}"]} for number in range(3)]
        (folder / "queries_dev.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    examples = [{"tool": f"t{number}", "needs": [f"quokka {number} please"]} for number in (*range(3), 99)]
    (folder / "examples.jsonl").write_text("\n".join(map(json.dumps, examples)), "utf-8")
    assert main(["eval", "matching", str(tmp_path / "all"), "--json"]) == OK
    read = capsys.readouterr()
    one, two, pool = records(read.out)
    assert set(one["rankings"]) == {"matcher", "BM25", "RRF"}
    assert set(two["rankings"]) == {"matcher", "matcher, with examples", "BM25", "RRF"}
    found = {name: each["nDCG@10"][0] for name, each in two["rankings"].items()}
    assert (found["matcher"], found["matcher, with examples"]) == (0.0, 1.0)
    assert pool["rankings"]["matcher, with examples"]["nDCG@10"][0] > 0
    assert "examples of what tools.jsonl does not have: 1" in read.err
    (folder / "examples.jsonl").write_text('{"tool": "t1", "needs": "quokka"}', "utf-8")
    assert main(["eval", "matching", str(folder)]) == REFUSED
    assert "examples.jsonl:1" in capsys.readouterr().err


def test_what_capabilities_served_is_measured_against_nothing_served_on_the_same_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(tmp_path / "one")
    said = {tool["id"]: f"xq{number}zzv wvut{number}" for number, tool in enumerate(TOOLS)}
    queries = [{"query": said[tool["id"]], "relevant": [tool["id"]]} for tool in TOOLS for _ in range(8)]
    (folder / "queries_dev.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    assert main(["eval", "matching", str(folder), "--json", "--served", "2"]) == OK
    (found,) = records(capsys.readouterr().out)
    assert found["queries"] == len(queries) // 2
    assert found["rankings"]["matcher"]["nDCG@10"][0] < 0.5
    assert found["rankings"]["matcher, served"]["nDCG@10"][0] > 0.9
    (folder / "queries_dev.jsonl").write_text(json.dumps(queries[0]), "utf-8")
    assert main(["eval", "matching", str(folder), "--served", "2"]) == REFUSED


def test_an_encoder_is_measured_alone_beside_words_and_fused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numpy")

    def letters(texts: Sequence[str]) -> list[list[float]]:
        return [
            [1.0, *(float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz")] for text in texts
        ]

    def encoder(folder: Path, sha256: str | None = None) -> CallableEncoder:
        return CallableEncoder(letters, f"{folder.name}:{sha256}")

    monkeypatch.setattr(sentences, "SentenceEncoder", encoder)
    folder, fitted = str(corpus(tmp_path / "one")), tmp_path / "fitted.json"
    words = ["--json", "--encoder", str(tmp_path), "--served", "1", "--refit", str(fitted)]
    assert main(["eval", "matching", folder, *words]) == OK
    (found,) = records(capsys.readouterr().out)
    both, kinds = 2, ("fits", "refused", "removed", "fits in a small registry", "removed there")
    assert json.loads(fitted.read_text("utf-8"))["cases"] > both * len(kinds) * found["queries"]
    dense = {"dense", "hybrid", "hybrid, served", "RRF of dense"}
    assert set(found["rankings"]) == {"matcher", "matcher, served", "BM25", "RRF", *dense}
    assert set(found["abstention"]) == {"matcher", "matcher, served", "dense", "hybrid", "hybrid, served"}


def test_weights_that_are_not_there_or_have_only_a_hash_are_refused(tmp_path: Path) -> None:
    folder = str(corpus(tmp_path / "one"))
    assert main(["eval", "matching", folder, "--sha256", "0" * 64]) == REFUSED
    assert main(["eval", "matching", folder, "--encoder", str(tmp_path)]) == REFUSED
