"""Corpora to measure a matcher on: capabilities, and needs labelled with those that serve them.

A corpus is a folder with ``tools.jsonl`` (``{id, name, description, parameters? {name: text}, served? [text]}``) and any
number of ``queries*.jsonl`` (``{query, relevant: [ids], goal? text}``, the goal: what the query is a sub-task of). One without
queries is filler for the pooled index of all. ``examples.jsonl`` (``{tool: id, needs: [text]}``) has example needs that somebody
wrote for some of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from blackboard import strict_json
from blackboard.errors import BadInput
from registry.matching.documents import Document, needs

_TOOL: dict[str, tuple[type, ...]] = {"id": (str, int), "name": (str, int)}
_MORE: dict[str, tuple[type, ...]] = {"parameters": (dict,), "served": (list,), "goal": (str,)}
"""What may be left out, or be empty in any way."""
_NEED: dict[str, tuple[type, ...]] = {"query": (str,), "relevant": (list,)}
_EXAMPLES: dict[str, tuple[type, ...]] = {"tool": (str, int), "needs": (list,)}
_TOOL_LIKE = '{"id": "…", "name": "…", "description": "…", "parameters": {"name": "text"}}'
_EXAMPLES_LIKE = '{"tool": "id", "needs": ["…"]}'
_NEED_LIKE = '{"query": "…", "relevant": ["id"]}'


class Query(NamedTuple):
    """A need in words, and the ids of what serves it."""

    text: str
    relevant: frozenset[str]
    goal: str = ""
    """What it is a sub-task of, in words."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Capabilities by id, and needs with the ids of those that serve them."""

    name: str
    documents: Mapping[str, Document]
    queries: Sequence[Query] = ()
    odd: Sequence[str] = ()
    """What was left out when it was read, in words."""
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Example needs that were written for some of the capabilities, by id."""

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """The corpus in a folder; see this module. Needs served by nothing that is there are left out, and it is told.

        Raises:
            BadInput: no ``tools.jsonl``, or a line that is not what it should be.
        """
        rows = list(_rows(folder / "tools.jsonl", _TOOL, _TOOL_LIKE))
        documents = {str(row["id"]): _document(row) for row in rows}
        queries: list[Query] = []
        unknown = unserved = 0
        for path in sorted(folder.glob("queries*.jsonl")):
            for row in _rows(path, _NEED, _NEED_LIKE):
                named = frozenset(map(str, row["relevant"]))
                there = frozenset(id for id in named if id in documents)
                unknown += len(named) - len(there)
                unserved += not there
                if there:
                    queries.append(Query(str(row["query"]), there, str(row.get("goal") or "")))
        odd: list[str] = []
        if unknown:
            odd.append(f"labels of what tools.jsonl does not have: {unknown:,}")
        if unserved:
            odd.append(f"needs left out, for nothing that serves them is there: {unserved:,}")
        if len(rows) > len(documents):
            odd.append(f"lines of tools.jsonl left out, for a later one has their id: {len(rows) - len(documents):,}")
        examples: dict[str, list[str]] = {}
        path = folder / "examples.jsonl"
        for row in _rows(path, _EXAMPLES, _EXAMPLES_LIKE) if path.exists() else ():
            examples.setdefault(str(row["tool"]), []).extend(map(str, row["needs"]))
        if strange := examples.keys() - documents.keys():
            odd.append(f"examples of what tools.jsonl does not have: {len(strange):,}")
        return cls(
            folder.name, documents, queries, tuple(odd), {id: examples[id] for id in documents if id in examples}
        )

    def illustrated(self) -> Corpus:
        """The same with its example needs, as matching reads them."""
        documents = {
            id: each._replace(served="\n".join(needs(each.served.split("\n"), self.examples.get(id, ()))).strip("\n"))
            for id, each in self.documents.items()
        }
        return replace(self, documents=documents)


def read(folder: Path) -> list[Corpus]:
    """The corpus in a folder, or those in its folders, with a pool of them all at the end when they are several.

    Raises:
        BadInput: there is none, or no need that anything in it serves.
    """
    alone = (folder / "tools.jsonl").exists()
    found = (
        [Corpus.read(folder)] if alone else [Corpus.read(path.parent) for path in sorted(folder.glob("*/tools.jsonl"))]
    )
    if not found:
        raise BadInput("DIR", str(folder), "Give a folder with tools.jsonl and queries*.jsonl, or a folder of those.")
    if not any(corpus.queries for corpus in found):
        why = "".join(f" {corpus.name}: {said}." for corpus in found for said in corpus.odd)
        raise BadInput("DIR", str(folder), f"Give a queries*.jsonl with needs that a line of tools.jsonl serves.{why}")
    if len(found) > 1:
        documents = {f"{corpus.name}/{id}": each for corpus in found for id, each in corpus.documents.items()}
        queries = [
            query._replace(relevant=frozenset(f"{corpus.name}/{id}" for id in query.relevant))
            for corpus in found
            for query in corpus.queries
        ]
        examples = {f"{corpus.name}/{id}": each for corpus in found for id, each in corpus.examples.items()}
        found.append(Corpus("POOL", documents, queries, examples=examples))
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
    before = replace(corpus, queries=queries[half:], odd=())
    return before, replace(before, documents=after)


def _rows(path: Path, kinds: Mapping[str, tuple[type, ...]], like: str) -> Iterable[dict[str, Any]]:
    """The lines of a file that have what is needed, each of the kind it should be.

    Raises:
        BadInput: the file cannot be read, or a line is not what it should be.
    """
    try:
        # Not splitlines(): a text may have a separator of lines in it that JSON leaves as it is.
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("DIR", str(path), f"It cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line)
        except strict_json.NotStrict as error:
            raise BadInput("DIR", f"{path.name}:{number}", f"It is not strict JSON: {error}.") from None
        except ValueError:
            row = None
        found = cast("dict[str, Any]", row if isinstance(row, dict) else {})
        wrong = [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
        wrong += [key for key, kind in _MORE.items() if found.get(key) and not isinstance(found[key], kind)]
        if wrong:
            remedy = (
                f"Give one JSON object a line, such as {like}; here {', '.join(wrong)} is missing or something else."
            )
            raise BadInput("DIR", f"{path.name}:{number}", remedy)
        yield found


def _document(row: Mapping[str, Any]) -> Document:
    parameters = cast("dict[str, Any]", row.get("parameters") or {})
    served = cast("list[str]", row.get("served") or [])
    texts = " ".join(str(text) for text in parameters.values() if text)
    return Document(
        str(row["name"]), str(row.get("description") or ""), " ".join(parameters), texts, "\n".join(map(str, served))
    )
