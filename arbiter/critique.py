"""Critique as knowledge sources: what contradicts what, how credible that leaves it, what all agree on, what counts no more.

Each function here makes a capability to be given to :class:`arbiter.Arbiter`, in every process that is to do its work. They
write by compare-and-set on topics of their own, so what two of them find at once is said once, and nothing that others wrote is
changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from blackboard.board import Board
from blackboard.compaction import OLDER_SECONDS, compact
from blackboard.credibility import pooled
from blackboard.predicates import ABSENT, value_at
from blackboard.triggers import Trigger
from registry import Capability, Grants, TopicGrants, capability
from wrapper import sdk

CONTRADICTIONS = "contradictions"
CREDIBILITY = "credibility"
CONSENSUS = "consensus"
_LINKS = 32
_AGAIN = 20


def find_contradictions(topics: str, field: str, *, name: str = "find_contradictions") -> Capability[..., Any]:
    """A source that finds entries on one topic that say different things in one field.

    Each pair of them is one entry ``contradictions.TOPIC.PAIR``, with ``field``, ``values`` and ``entries``, that ``contradicts``
    both; it is as sure as the less sure of the two. Once they say the same it is amended: it has their value twice, links to
    nothing and has no confidence.

    Args:
        topics: pattern of the topics whose entries are compared, each with the others of its own topic.
        field: path in the content, such as ``account``.
    """

    @capability(
        name=name, description=f"Find entries of {topics} that say different things about {field}.", effects="writes",
        grants=_grants(topics, CONTRADICTIONS),
        triggers=[Trigger(topic=topics, where=f"{field}?", bind={"entry": "id"})],
    )  # fmt: skip
    def source(entry: str) -> int:
        mine = sdk.read(entry)
        if mine is None or mine["state"] != "live" or value_at(mine["content"], field) is ABSENT:
            return 0
        known = {one["topic"]: one for one in _every(f"{CONTRADICTIONS}.{mine['topic']}.*")}
        found = 0
        for other in _every(mine["topic"], f"{field}?"):
            pair = sorted((other["id"], mine["id"]))
            topic = f"{CONTRADICTIONS}.{mine['topic']}.{_print(pair)}"
            values = {one["id"]: value_at(one["content"], field) for one in (other, mine)}
            differ = values[pair[0]] != values[pair[1]]
            content = {"field": field, "values": [values[one] for one in pair], "entries": pair}
            how: dict[str, Any] = {
                "confidence": min(other["confidence"], mine["confidence"]) if differ else 0.0,
                "links": [("contradicts", one) for one in pair] if differ else [],
            }
            before = known.get(topic)
            if before is None:
                found += _once(topic, content, **how) if differ else 0
            elif before["content"] != content:
                sdk.amend(before["id"], content=content, **how)
                found += differ
        return found

    return source


def weigh_evidence(topics: str, *, name: str = "weigh_evidence") -> Capability[..., Any]:
    """A source that says how credible entries are, from those that support and contradict them.

    For each entry that one of ``topics`` links to so, there is one entry ``credibility.ENTRY``, amended as evidence comes:
    ``entry``, ``topic``, ``credibility`` as :func:`blackboard.credibility.pooled` has it, with the entry's own confidence as what
    is known before, and how many ``supports`` and ``contradicts``. Its confidence is that credibility.

    Args:
        topics: pattern of the evidence. Each of its entries counts as independent of the others.
    """

    @capability(
        name=name, description=f"Say how credible entries are that {topics} support or contradict.", effects="writes",
        grants=Grants(topics=TopicGrants(read=(">",), write=(f"{CREDIBILITY}.*",))),
        triggers=[Trigger(topic=topics, bind={"entry": "id"})],
    )  # fmt: skip
    def source(entry: str) -> list[float]:
        mine = sdk.read(entry)
        targets = [link["to"] for link in (mine or {}).get("links", ()) if link["rel"] in ("supports", "contradicts")]
        return [_weighed(one, topics) for one in dict.fromkeys(targets)]

    return source


def find_consensus(
    topics: str, field: str, *, sources: int = 2, credible: float = 0.9, name: str = "find_consensus"
) -> Capability[..., Any]:
    """A source that finds what enough others agree on: a condition to stop on, as ``until=Query(topic="consensus.>")``.

    Of the entries on one topic, those that say the same support it and the others contradict it. Where that is credible enough,
    and said by enough authors, there is one entry ``consensus.TOPIC``, with ``value``, ``credibility`` and ``entries``. It is
    said once; what is written on the topic afterwards does not change it.

    Args:
        topics: pattern of the topics, each by itself.
        field: path in the content of what they have to agree on.
        sources: fewest authors, by name, who say so.
        credible: least credibility, above 0.5.
    """

    @capability(
        name=name, description=f"Find what entries of {topics} agree on about {field}.", effects="writes",
        grants=_grants(topics, CONSENSUS),
        triggers=[Trigger(topic=topics, where=f"{field}?", bind={"topic": "topic"})],
    )  # fmt: skip
    def source(topic: str) -> bool:
        found = list(_every(topic, f"{field}?"))
        said = {json.dumps(value_at(one["content"], field), sort_keys=True) for one in found}
        for value in sorted(said):
            same = [one for one in found if json.dumps(value_at(one["content"], field), sort_keys=True) == value]
            others = [one["confidence"] for one in found if one not in same]
            sure = pooled(0.5, [one["confidence"] for one in same], others)
            if sure >= credible and len({one["author"]["name"] for one in same}) >= sources:
                content = {
                    "value": json.loads(value),
                    "credibility": round(sure, 6),
                    "entries": [one["id"] for one in same],
                }
                links = [("derived_from", one["id"]) for one in same[:_LINKS]]
                return bool(_once(f"{CONSENSUS}.{topic}", content, confidence=round(sure, 6), links=links))
        return False

    return source


def compact_memory(
    board: Callable[[], Board],
    scope: str,
    topics: str,
    *,
    older_than: float = OLDER_SECONDS,
    at_least: int = 100,
    name: str = "compact_memory",
) -> Capability[..., Any]:
    """A source that takes out of a scope that lasts what counts no more, whenever a run writes on some topics.

    What stays is one summary; see :func:`blackboard.compaction.compact`. The result says how many facts went.

    Args:
        board: tells the open board, when the source is first asked: ``lambda: a.board``.
        scope: ``tenant:acme``, ``session:desk``, ``group:NAME`` or ``public``.
        topics: pattern of the topics of the run's entries that wake it, such as those it promotes.
        older_than: seconds; what is younger stays.
        at_least: of fewer facts nothing is taken out.
    """

    @capability(
        name=name, description=f"Take what counts no more out of the memory {scope}.", effects="writes",
        grants=Grants(topics=TopicGrants(read=(topics,))),
        triggers=[Trigger(topic=topics, bind={"entry": "id"})],
    )  # fmt: skip
    async def source(entry: str) -> int:
        return (await compact(board(), scope, older_than=older_than, at_least=at_least, by=name)).facts

    return source


def _weighed(target: str, topics: str) -> float:
    """Write how credible an entry is now; again where another source wrote it meanwhile."""
    about = sdk.read(target)
    assert about is not None, "what was linked to is there"
    topic = f"{CREDIBILITY}.{_print([target])}"
    for _ in range(_AGAIN):
        before = next(iter(sdk.query(topic)["entries"]), None)
        links = {
            rel: [one for one in _every(topics, links_to=target, rel=rel) if one["id"] != target]
            for rel in ("supports", "contradicts")
        }
        sure = round(
            pooled(about["confidence"], *([one["confidence"] for one in every] for every in links.values())), 6
        )
        content = {"entry": target, "topic": about["topic"], "credibility": sure}
        content |= {rel: len(every) for rel, every in links.items()}
        evidence = [one["id"] for every in links.values() for one in every][: _LINKS - 1]
        rests_on = [("derived_from", one) for one in (target, *evidence)]
        try:
            if before is None:
                sdk.post(topic, content, confidence=sure, links=rests_on, expect_topic=0)
            elif before["content"] != content:
                sdk.amend(before["id"], expect=before["version"], content=content, confidence=sure, links=rests_on)
            return sure
        except sdk.CallError as error:
            if error.type != "stale":
                raise
    raise sdk.RetryLater(1.0, f"{topic} is being written by too many at once")


def _once(topic: str, content: object, **how: Any) -> int:
    """Write on a topic on which nothing was written; 0 where something was."""
    try:
        sdk.post(topic, content, expect_topic=0, **how)
    except sdk.CallError as error:
        if error.type != "stale":
            raise
        return 0
    return 1


def _every(pattern: str, where: str = "", **more: Any) -> Iterator[dict[str, Any]]:
    after: str | None = None
    while True:
        found = sdk.query(pattern, where, after=after, **more)
        yield from found["entries"]
        if (after := found["after"]) is None:
            return


def _print(ids: list[str]) -> str:
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()[:16]


def _grants(topics: str, own: str) -> Grants:
    return Grants(topics=TopicGrants(read=(topics, f"{own}.>"), write=(f"{own}.>",)))
