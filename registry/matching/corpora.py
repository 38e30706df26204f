"""Corpora to measure a matcher on: capabilities, and needs labelled with those that serve them.

A corpus is a folder with ``tools.jsonl`` (``{id, name, description, parameters? {name: text}, served? [text]}``) and any
number of ``queries*.jsonl`` (``{query, relevant: [ids]}``). One without queries is filler for the pooled index of all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from blackboard.errors import BadInput
from registry.matching.documents import Document


class Query(NamedTuple):
    """A need in words, and the ids of what serves it."""

    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Capabilities by id, and needs with the ids of those that serve them."""

    name: str
    documents: Mapping[str, Document]
    queries: Sequence[Query] = ()

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """The corpus in a folder; see this module.

        Raises:
            BadInput: no ``tools.jsonl``, or a line that is not what it should be.
        """
        documents = {str(row["id"]): _document(row) for row in _rows(folder / "tools.jsonl", ("id", "name"))}
        queries: list[Query] = []
        for path in sorted(folder.glob("queries*.jsonl")):
            for row in _rows(path, ("query", "relevant")):
                there = frozenset(id for id in map(str, row["relevant"]) if id in documents)
                if there:
                    queries.append(Query(str(row["query"]), there))
        return cls(folder.name, documents, queries)


def read(folder: Path) -> list[Corpus]:
    """The corpus in a folder, or those in its folders, with a pool of them all at the end when they are several.

    Raises:
        BadInput: there is none.
    """
    if (folder / "tools.jsonl").exists():
        return [Corpus.read(folder)]
    found = [Corpus.read(path.parent) for path in sorted(folder.glob("*/tools.jsonl"))]
    if not any(corpus.queries for corpus in found):
        raise BadInput("DIR", str(folder), "Give a folder with tools.jsonl and queries*.jsonl, or a folder of those.")
    if len(found) > 1:
        documents = {f"{corpus.name}/{id}": each for corpus in found for id, each in corpus.documents.items()}
        queries = [
            Query(query.text, frozenset(f"{corpus.name}/{id}" for id in query.relevant))
            for corpus in found
            for query in corpus.queries
        ]
        found.append(Corpus("POOL", documents, queries))
    return [corpus for corpus in found if corpus.queries]


def learned(corpus: Corpus, most: int, seed: int = 1) -> tuple[Corpus, Corpus]:
    """A corpus as it is at the beginning and after each capability served a few needs, with the same needs left to measure on.

    Half of the needs, by chance, are there to be served: each capability keeps at most ``most`` of those it is labelled with.

    Raises:
        BadInput: no need is left.
    """
    queries = list(corpus.queries)
    random.Random(seed).shuffle(queries)
    half = len(queries) // 2
    served: dict[str, list[str]] = {}
    for query in queries[:half]:
        for id in sorted(query.relevant):
            known = served.setdefault(id, [])
            if len(known) < most:
                known.append(query.text)
    if not half:
        raise BadInput("queries", len(queries), "Give at least two needs, one to be served and one to measure.")
    after = {
        id: each._replace(served="\n".join([*filter(None, [each.served]), *served.get(id, ())]))
        for id, each in corpus.documents.items()
    }
    return Corpus(corpus.name, corpus.documents, queries[half:]), Corpus(corpus.name, after, queries[half:])


def _rows(path: Path, needed: Sequence[str]) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("DIR", str(path), f"It cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or any(key not in row for key in needed):
            raise BadInput("DIR", f"{path.name}:{number}", f"Give one JSON object a line, with {', '.join(needed)}.")
        yield cast("dict[str, Any]", row)


def _document(row: Mapping[str, Any]) -> Document:
    parameters = cast("dict[str, Any]", row.get("parameters") or {})
    served = cast("list[str]", row.get("served") or [])
    texts = " ".join(str(text) for text in parameters.values() if text)
    return Document(
        str(row["name"]), str(row.get("description") or ""), " ".join(parameters), texts, "\n".join(map(str, served))
    )
