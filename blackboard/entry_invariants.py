"""The invariants of entries: the log alone tells what there is, and every index holds exactly that.

For tests and for fault injection, like :mod:`blackboard.invariants`, which calls it; nobody may write meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from blackboard import _keys, events
from blackboard.board import Board
from blackboard.entry import ENDS, FACTS, Entry, Fold, header, link_members, member, place, stream_id

MARK = "/e/"
"""What stands between scope and name in the id of an entry."""
_ENTERED = ("succeeded", "failed", "refused")
"""How a task ends that always has an entry."""
_ENDED = (*_ENTERED, "timed_out")
"""And one that has one unless its run ended with it."""
COMPACTED = "/compacted"
"""How the subject of a summary ends."""


async def heads(board: Board, shard: _keys.Shard, owners: Iterable[str]) -> dict[str, int]:
    """Every entry of some scopes and its version."""
    found: dict[str, int] = {}
    for owner in owners:
        raw: Mapping[str, str] = await cast(Any, board.client).hgetall(shard.entries(owner)[0])
        found |= {entry_id: int(json.loads(text)["ver"]) for entry_id, text in raw.items()}
    return found


def results(tasks: Mapping[str, Mapping[str, Any]], entries: Mapping[str, int]) -> list[str]:
    """Where the end of an entered task has no entry, or an entry is of a task that has not ended so.

    Args:
        tasks: headers of all tasks of the shard.
        entries: every entry and its version.
    """
    entered = {k: f"{t['run']}{MARK}{t['ent']}" for k, t in tasks.items() if "ent" in t}
    lacking = [k for k, entry in entered.items() if tasks[k]["state"] in _ENTERED and entry not in entries]
    early = [k for k, entry in entered.items() if tasks[k]["state"] not in _ENDED and entry in entries]
    return [f"G2 end without its entry: {k}" for k in lacking] + [f"G2 entry before its end: {k}" for k in early]


async def faults(
    board: Board, shard: _keys.Shard, owner: str, log: list[tuple[str, dict[str, str]]] | None = None
) -> list[str]:
    """What does not hold in one scope.

    Args:
        log: what its log says, where that was read already.
    """
    client = cast(Any, board.client)
    keys = dict(zip(("heads", "vers", "ops", "index", "links", "ends"), shard.entries(owner), strict=True))
    entries: list[tuple[str, dict[str, str]]] = await client.xrange(shard.log(owner)) if log is None else log
    kinds = {fields["type"] for _, fields in entries}
    written = events.ScopeCompacted.kind in kinds or any(kind.startswith(FACTS) for kind in kinds)
    if not written and not await client.exists(*keys.values(), shard.compacted(owner)):
        return []
    facts = [
        events.parse(at, fields, owner, board.source) for at, fields in entries if fields["type"].startswith(FACTS)
    ]
    mark = await client.hgetall(shard.compacted(owner))
    fold = Fold().apply(facts)
    fold.now = max(fold.now, float(mark.get("ms", 0)) / 1000)
    stored: dict[str, dict[str, Any]] = {
        entry_id: json.loads(text) for entry_id, text in (await client.hgetall(keys["heads"])).items()
    }
    bad: list[str] = []

    def check(good: object, *words: object) -> None:
        if not good:
            bad.append(" ".join(map(str, (*words, "in", owner))))

    told = {entry_id: json.loads(header(entry)) for entry_id, entry in fold.entries.items()}
    check(
        stored == told, "G9 entries", [one for one in stored.keys() | told.keys() if stored.get(one) != told.get(one)]
    )
    topics = {topic: int(count) for topic, count in (await client.hgetall(keys["vers"])).items()}
    if not mark:
        check(topics == fold.topics, "G9 versions of topics", topics, fold.topics)
    else:  # the last facts on a topic may be gone
        same = topics.keys() == fold.topics.keys() and all(topics[one] >= fold.topics[one] for one in topics)
        check(same, "G9 versions of topics", topics, fold.topics)
    summaries = [at for at, fields in entries if fields["type"] == events.ScopeCompacted.kind]
    check(summaries == ([mark["at"]] if mark else []), "G9 summary of what was compacted", summaries, mark)
    _each(facts, check, place(mark["upto"]) if mark else "")
    live = {entry_id: entry for entry_id, entry in fold.entries.items() if entry.state == "live"}
    index = set(await client.zrange(keys["index"], 0, -1))
    links = set(await client.zrange(keys["links"], 0, -1))
    ends = dict(await client.zrange(keys["ends"], 0, -1, withscores=True))
    swept = {one for one, entry in live.items() if entry.expires_at is not None and member(entry) not in index}
    check(all(_over(live[one], fold) for one in swept), "G2 left the index before its end", swept)
    kept = {one: entry for one, entry in live.items() if one not in swept}
    check(index == {member(one) for one in kept.values()}, "G2 index of topics", index)
    check(links == {text for one in kept.values() for text in link_members(one)}, "G2 index of links", links)
    lasting = {one: round(entry.expires_at * 1000) for one, entry in kept.items() if entry.expires_at is not None}
    check(ends == lasting, "G6 times to live", ends, lasting)
    replies = {text.split(" ", 1)[1] for text in (await client.hgetall(keys["ops"])).values()}
    wrote = {f"{one} 1 {header['first']}" for one, header in stored.items()}  # also where that fact was compacted
    wrote |= {f"{fact.subject} {fact.data.version} {stream_id(fact.sequence)}" for fact in facts}
    check(replies <= wrote, "G4 operation without its fact", replies - wrote)
    return bad


def _over(entry: Entry, fold: Fold) -> bool:
    return entry.expires_at is not None and entry.expires_at <= fold.now


def _each(facts: Iterable[events.Event], check: Any, readable_from: str) -> None:
    """One end for each entry and nothing after it; versions of entries and topics without gap; chains that lead back, as far
    as nothing was compacted."""
    ended: set[str] = set()
    version: dict[str, int] = {}
    topics: dict[str, int] = {}
    content: dict[str, str] = {}
    for fact in facts:
        data, subject = fact.data, fact.subject
        check(subject not in ended, "G3 fact after the end of", subject)
        begins = subject not in version and fact.sequence <= readable_from and isinstance(data, events.EntryAmendedData)
        check(begins or data.version == version.get(subject, 0) + 1, "G2 version of", subject, data.version)
        gap = data.topic_version - topics.get(data.topic, 0) - 1
        check(gap >= 0 if readable_from else gap == 0, "G2 version of topic", data.topic, data.topic_version)
        check(fact.id == f"{subject}:{data.version}", "G2 id of a fact", fact.id)
        version[subject], topics[data.topic] = data.version, data.topic_version
        if isinstance(data, events.EntryAmendedData) and not begins:
            check(data.supersedes == content.get(subject), "G9 supersession of", subject, data.supersedes)
        if isinstance(data, events.EntryPostedData):
            content[subject] = fact.sequence
        elif fact.kind in ENDS:
            ended.add(subject)
