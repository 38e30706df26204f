"""The checks of entries have teeth: each guard of their scripts is taken out in turn, and the check that stands for it fails."""

from __future__ import annotations

import pytest
from strict import Check, Mutation, Play, faults, refused, spec, verdict

from blackboard import _script
from blackboard.entries import Entries
from blackboard.entry import place, stream_id
from blackboard.errors import BadInput, Conflict, Fenced, LeaseLost, ScriptRefused, Stale
from blackboard.retention import retire
from registry import schema


def notes_of(play: Play) -> Entries:
    return Entries(play.board, "session:s", checker=schema)


async def repeated_post_is_one_entry(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1, operation="x")
    return (await notes.post("a", 1, operation="x")).position == first.position and not await faults(play.board)


async def other_content_is_refused(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1, operation="x")
    return await refused(notes.post("a", 2, operation="x"), Conflict)


async def stale_topic_is_refused(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    return await refused(notes.post("a", 2, expect_topic=0), Stale)


async def stale_entry_is_refused(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    await notes.amend(first.id, 2)
    return await refused(notes.retract(first.id, expect=1), Stale)


async def one_taker(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    found = (await notes.query("a")).entries[0]
    keys = play.shard.declare_entries(notes.owner)
    args = [notes.owner, "op", "print", "", "", "", '{"kind":"person","name":"x"}', "", found.id, found.version]
    first = await _script.run(play.board.client, _script.load("entry_take", "_entries"), keys, args)
    args[1] = "other"
    second = await _script.run(play.board.client, _script.load("entry_take", "_entries"), keys, args)
    return bool(first) and not second


async def what_expired_is_not_taken(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1, seconds=5)
    await play.clock.advance(6)
    keys = play.shard.declare_entries(notes.owner)
    args = [notes.owner, "op", "print", "", "", "", '{"kind":"person","name":"x"}', "", first.id, 1]
    return not await _script.run(play.board.client, _script.load("entry_take", "_entries"), keys, args)


async def what_was_taken_is_found_no_more(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    await notes.take("a")
    return not (await notes.query("a")).entries and not await faults(play.board)


async def what_is_held_is_not_found(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    return not (await notes.query("a")).entries and await notes.take("a") is None


async def what_lapsed_is_there_again(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    await play.clock.advance(5)
    return len((await notes.query("a")).entries) == 1 and not await faults(play.board)


async def who_comes_too_late_confirms_nothing(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    await play.clock.advance(5)
    lapsed = await refused(notes.confirm(first.id, 2), LeaseLost)
    await notes.take("a", lease_seconds=5)
    return lapsed and await refused(notes.confirm(first.id, 2), LeaseLost) and (await notes.confirm(first.id, 3)).new


async def a_confirmation_comes_twice(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    await notes.confirm(first.id, 2)
    return not (await notes.confirm(first.id, 2)).new


async def who_waits_is_told_when_a_lease_lapses(play: Play) -> bool:
    notes = notes_of(play)
    target = await notes.post("b", 1)
    leases = {"a.x": 7, "a.y": 5, "a.z": 6, "c": 1}
    for name, seconds in leases.items():
        await notes.post(name, 1, links=[("supports", target.id)])
        await notes.take(name, lease_seconds=seconds)
    found = [await notes.query("a.*"), await notes.query("a.*", links_to=target.id), await notes.query("b")]
    return [one.lapse for one in found] == [5, 5, None]


async def the_lease_is_named(play: Play) -> bool:
    """It has not ended, as what was taken for good has: whoever wants to change it may try again."""
    notes = notes_of(play)
    first = await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    try:
        await notes.retract(first.id)
    except ScriptRefused as refusal:
        return refusal.code == "LEASED"
    return False


async def an_amendment_after_a_lapse_ends_the_lease(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    await notes.take("a", lease_seconds=5)
    await play.clock.advance(5)
    await notes.amend(first.id, 2)
    return not await faults(play.board)


async def what_is_held_stays_in_the_log(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1, seconds=2)
    entry = await notes.take("a", lease_seconds=5)
    assert entry is not None
    await play.clock.advance(3)
    keys = [
        *play.shard.declare_entries(notes.owner),
        play.shard.rewritten(notes.owner),
        play.shard.compacted(notes.owner),
    ]
    flat = [first.id, stream_id(entry.changed), "a", "2", 2, stream_id(first.position), stream_id(entry.changed)]
    args = [notes.owner, "", 1, stream_id(entry.changed), "0", "{}", 0, *flat]
    return not await _script.run(play.board.client, _script.load("entry_compact", "_entries"), keys, args)


async def a_changed_entry_is_not_taken_as_it_was(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", {"n": 1})
    before = await notes.query("a", "n=1")
    await notes.amend(first.id, {"n": 2})
    keys = play.shard.declare_entries(notes.owner)
    args = [
        notes.owner,
        "op",
        "print",
        "",
        "",
        "",
        '{"kind":"person","name":"x"}',
        "",
        first.id,
        before.entries[0].version,
    ]
    return not await _script.run(play.board.client, _script.load("entry_take", "_entries"), keys, args)


async def zombie_writes_nothing(play: Play) -> bool:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.release(claim)
    await play.clock.advance(1)
    await play.one()
    return await refused(Entries(play.board, f"run:{run}").post("a", 1, task=claim), Fenced)


async def a_task_cannot_write_in_another_run(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    other = await play.run()
    notes = Entries(play.board, f"run:{other}")
    keys = play.shard.declare_entries(other)
    entry, facts = f"{other}/e/{'0' * 24}", '{"conf":1,"by":{"kind":"x"}}'
    args = [other, "op", "print", claim.task_id, claim.fence, "", entry, "a", "1", facts, "0", ""]
    call = _script.run(play.board.client, _script.load("entry_post", "_entries"), keys, args)
    return await refused(call, Fenced) and not (await notes.query()).entries


async def nothing_is_written_after_the_end(play: Play) -> bool:
    run = await play.run()
    await play.plan(await play.step(run), answer="done")
    return await refused(Entries(play.board, f"run:{run}").post("a", 1), ScriptRefused) and not await faults(play.board)


async def links_lead_somewhere(play: Play) -> bool:
    notes = notes_of(play)
    return await refused(notes.post("a", 1, links=[("supports", f"{notes.owner}/e/{'0' * 24}")]), BadInput)


async def links_lead_to_what_is_older(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    second = await notes.post("a", 2)
    return await refused(notes.amend(first.id, links=[("supports", second.id)]), BadInput)


async def links_of_an_amended_entry_are_the_new_ones(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1)
    second = await notes.post("a", 2, links=[("supports", first.id)])
    await notes.amend(second.id, links=[])
    return not (await notes.query(links_to=first.id)).entries and not await faults(play.board)


async def taint_is_inherited(play: Play) -> bool:
    notes = notes_of(play)
    first = await notes.post("a", 1, taint=["web"])
    second = await notes.post("a", 2, links=[("derived_from", first.id)])
    await notes.amend(second.id, links=[])
    entry = await notes.read(second.id)
    return entry is not None and set(entry.taint) == {"web", "program:program"}


async def expired_is_over(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1, seconds=5)
    await play.clock.advance(6)
    return not (await notes.query("a")).entries


async def expired_leaves_the_index(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1, seconds=5)
    await play.clock.advance(6)
    await notes.post("b", 1)
    return await play.board.client.zcard(play.shard.entries(notes.owner)[3]) == 1


async def schemas_are_those_of_the_moment(play: Play) -> bool:
    notes = notes_of(play)
    await notes.post("a", 1)
    await Entries(play.board, "public", checker=schema).set_schema("a", {"type": "string"})
    return await refused(notes.post("a", 2), BadInput)


async def the_feed_tells_where_it_is(play: Play) -> bool:
    written = await notes_of(play).post("a", 1)
    ((_, told),) = await play.board.client.xrange(play.shard.feed)
    return told["run"] == "session:s" and place(told["at"]) == written.position


async def nothing_of_a_removed_run_stays(play: Play) -> bool:
    run = await play.run()
    await Entries(play.board, f"run:{run}").post("a", 1)
    await play.plan(await play.step(run), answer="done")
    await retire(play.board, run)
    return not [key for key in await play.snapshot() if run in key]


async def order_is_that_of_posting(play: Play) -> bool:
    notes = notes_of(play)
    posted = [(await notes.post("a", n)).id for n in range(6)]
    return [one.id for one in (await notes.query("a")).entries] == posted


MUTATIONS: list[tuple[str, Mutation, Check]] = [
    (
        "no memory of operations",
        ("_entries", "if not said then return nil end", "if true then return nil end"),
        repeated_post_is_one_entry,
    ),
    ("any content", ("_entries", "if print ~= ARGV[3] then", "if false then"), other_content_is_refused),
    (
        "no version of topics",
        ("_entries", "if ARGV[6] ~= '' and tonumber(ARGV[6]) ~= v then", "if false then"),
        stale_topic_is_refused,
    ),
    (
        "no version of entries",
        ("_entries", "if ver ~= '' and tonumber(ver) ~= h.ver then", "if false then"),
        stale_entry_is_refused,
    ),
    ("held and found", ("_entries", " and not held(h) end", " end"), what_is_held_is_not_found),
    ("held for ever", ("_entries", "h.till and h.till > MS", "h.till"), what_lapsed_is_there_again),
    ("confirmed too late", ("_entries", "h.till and h.till > MS", "h.till"), who_comes_too_late_confirms_nothing),
    (
        "confirmed what another holds",
        ("entry_lease", "if h.fence ~= fence or not held(h) then", "if not held(h) then"),
        who_comes_too_late_confirms_nothing,
    ),
    (
        "confirmed once",
        ("entry_lease", "h.state == 'taken' and h.fence == fence", "false"),
        a_confirmation_comes_twice,
    ),
    (
        "the last lapse",
        ("entry_query", "h.till - MS < tonumber(out[3])", "true"),
        who_waits_is_told_when_a_lease_lapses,
    ),
    (
        "the lapse of another topic",
        ("entry_query", "if fits and held(h) and", "if h and held(h) and"),
        who_waits_is_told_when_a_lease_lapses,
    ),
    ("held and changed", ("_entries", "if held(h) then return nil", "if false then return nil"), the_lease_is_named),
    (
        "a lease that outlives what was amended",
        ("entry_amend", "h.pos, h.fence, h.till, h.says = h.last, nil, nil, nil", "h.pos = h.last"),
        an_amendment_after_a_lapse_ends_the_lease,
    ),
    ("held and compacted", ("entry_compact", " or live(h) or held(h))", " or live(h))"), what_is_held_stays_in_the_log),
    ("taken twice", ("entry_take", "if h and live(h) and", "if h and"), what_expired_is_not_taken),
    ("taken twice, by two", ("entry_take", "and h.ver == tonumber(ARGV[i + 1])", "or true"), one_taker),
    (
        "taken as it was not, by its version",
        ("entry_take", "and h.ver == tonumber(ARGV[i + 1])", ""),
        a_changed_entry_is_not_taken_as_it_was,
    ),
    (
        "taken and still there",
        ("_entries", "  redis.call('ZREM', INDEX, member(id, h))\n", ""),
        what_was_taken_is_found_no_more,
    ),
    ("state forgotten", ("_entries", "  h.state = state\n", ""), what_was_taken_is_found_no_more),
    ("no fence", ("_entries", "or t.fence ~= ARGV[5] then", "then"), zombie_writes_nothing),
    ("any run", ("_entries", "if t.run ~= OWNER or", "if"), a_task_cannot_write_in_another_run),
    ("written after the end", ("_entries", "if OVER[state] then", "if false then"), nothing_is_written_after_the_end),
    (
        "links to nowhere",
        ("_entries", "if not target then return", "if not target then target = given end if false then return"),
        links_lead_somewhere,
    ),
    ("links to the future", ("_entries", "if first and place", "if false and place"), links_lead_to_what_is_older),
    ("old links stay", ("entry_amend", "linkage(id, h, 'ZREM')\n", ""), links_of_an_amended_entry_are_the_new_ones),
    (
        "taint is lost on the way",
        ("_entries", "if link.rel == 'derived_from' then", "if false then"),
        taint_is_inherited,
    ),
    (
        "taint is washed off",
        ("entry_amend", "for _, one in ipairs(h.taint or {}) do", "for _, one in ipairs({}) do"),
        taint_is_inherited,
    ),
    ("never over", ("_entries", "and not (h.exp and h.exp <= MS)", ""), expired_is_over),
    ("over and in the index", ("entry_post", "do off(old, head(old)) end", "do end"), expired_leaves_the_index),
    (
        "schemas of another moment",
        ("_entries", "if now ~= version then", "if false then"),
        schemas_are_those_of_the_moment,
    ),
    (
        "the feed is not told",
        ("_entries", "'at', h.last, 'data', '')", "'at', '', 'data', '')"),
        the_feed_tells_where_it_is,
    ),
    (
        "a removed run leaves something",
        ("retire_run", "for i = FIXED + 3 * NL + 4, #KEYS do", "for i = #KEYS, #KEYS do"),
        nothing_of_a_removed_run_stays,
    ),
    (
        "any order",
        ("_entries", "h.topic .. '\\0' .. place(h.first) .. '\\0' .. id", "h.topic .. '\\0' .. '\\0' .. id"),
        order_is_that_of_posting,
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one[0])
async def test_the_check_notices_what_is_broken(
    mutation: tuple[str, Mutation, Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, change, check = mutation
    assert await verdict(check, monkeypatch), "the check fails on the scripts as they are"
    assert not await verdict(check, monkeypatch, change), "nobody noticed"
