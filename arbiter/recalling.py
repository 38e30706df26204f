"""What of a board a round's model is shown beside the newest results, within a bound.

While the whole conversation fits the bound it is sent whole: it only grows at its end, so prompt caches hold, and nothing is
chosen. The first round is shown what is remembered of earlier runs and has to do with the request. Once the conversation is too
long it is **cut**: rounds before the newest give way to the entries that have most to do with the request and the newest results,
and from there on it grows at its end again. A cut leaves half of the bound free, so that cuts are rare and the tokens of all
requests stay in proportion to the rounds.

What was chosen is recorded with the round, as ids and positions: whoever takes a later step, or plays the log again, builds
the same conversation; an entry whose content was erased since is shown without it. What is not shown is found with a tool.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from pydantic import Field, JsonValue

from arbiter.fold import Round, RunState
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry, owner_of_entry, scope_of
from blackboard.errors import ArbiterError, UnknownRecord
from blackboard.events import Context, Shown
from blackboard.meaning import ABOUT_CHARACTERS, MOST_RANKED, Meaning
from blackboard.results import result_entry
from blackboard.taint import UNKNOWN, Taint, merged
from blackboard.types import Settings
from registry import schema
from wrapper.models import quoted
from wrapper.models.estimate import estimate_content

if TYPE_CHECKING:
    from strands.models import Model
    from strands.types.content import Message

log = logging.getLogger(__name__)

WINDOW = 200_000
"""Context window in tokens of a model that does not say."""
SHOWN_CHARACTERS = 4_000
"""Longest content of an entry that is shown whole, as JSON text."""
BEGINNING = 1_000
"""Characters that are shown of a longer one."""
WHOLE_CHARACTERS = 16_000
"""The same of an entry that the model asked for by its id."""
_WHOLE_BYTES = 12 * WHOLE_CHARACTERS
LISTED = 200
"""Most tasks of rounds that were left out that are listed by their keys, the newest."""


class Recalling(Settings):
    """How much of what is known the planning model is shown."""

    tokens: int | None = Field(default=None, ge=200)
    """Most tokens of a conversation before it is cut; request, tools and system prompt apart. Default: half of the window."""
    window: int | None = Field(default=None, ge=1000)
    """The model's context window in tokens. Default: what the model says, or 200,000."""
    most: int = Field(default=30, ge=1, le=MOST_RANKED)
    """Entries of the run's board that stand in for the rounds left out, at most."""
    remembered: int = Field(default=5, ge=0, le=MOST_RANKED)
    """Entries of earlier runs that are shown, at most; 0 shows none."""
    remembered_share: float = Field(default=0.05, gt=0, le=0.5)
    """Part of the bound that these may take."""

    def bound(self, model: Model) -> int:
        """Most tokens of a conversation with a model, the request apart."""
        return self.tokens or (self.window or model.context_window_limit or WINDOW) // 2


@dataclass(slots=True)
class View:
    """What a conversation begins with, and what its entries say."""

    context: Context | None = None
    """As it was, or will be, recorded with a round; None where the whole conversation is shown and nothing besides."""
    new: bool = False
    """Whether it is not recorded yet."""
    contents: dict[Shown, Entry] = field(default_factory=dict[Shown, Entry])

    @property
    def first(self) -> int:
        """The first round whose messages are in the conversation."""
        return self.context.first if self.context else 1

    def framed(self, one: Shown, run_id: str) -> dict[str, JsonValue]:
        """The block that shows an entry, or says that it is gone."""
        if one not in self.contents:
            return {"text": quoted(json.dumps({"entry": one.entry, "gone": True}), "entry of the board", UNKNOWN)}
        return _framed(self.contents[one], run_id, whole=one.whole)

    @property
    def taint(self) -> Taint:
        """Of what is shown."""
        shown = self.context.entries if self.context else ()
        return merged(*(self.contents[one].taint or UNKNOWN for one in shown if one in self.contents))


def latest(rounds: Sequence[Round]) -> Context | None:
    """What the last of the rounds with a choice of its own was shown."""
    return next((turn.context for turn in reversed(rounds) if turn.context is not None), None)


def opening(state: RunState, view: View) -> list[dict[str, JsonValue]]:
    """The blocks that stand behind the request: what is remembered and chosen, each entry in a frame of its own."""
    context = view.context
    if context is None:
        return []
    blocks: list[dict[str, JsonValue]] = []
    if context.first > 1:
        listed = _left_out(state, context.first)
        taint = merged(*(task.taint for task in state.work if task.round < context.first))
        blocks.append({"text": quoted(json.dumps(listed, ensure_ascii=False), "rounds left out", taint)})
    return blocks + [view.framed(one, state.run_id) for one in context.entries]


def _left_out(state: RunState, first: int) -> JsonValue:
    tasks = [task for task in state.work if task.round < first]
    rows: list[JsonValue] = [
        f"{task.key}: {task.capability} {task.state if task.done else 'at work'}" for task in tasks[-LISTED:]
    ]
    return {"rounds": f"1 to {first - 1}", "tasks": len(tasks), "newest": rows}


def _framed(entry: Entry, run_id: str, *, whole: bool = False) -> dict[str, JsonValue]:
    mine = owner_of_entry(entry.id) == run_id
    text = json.dumps(told(entry, SHOWN_CHARACTERS if not whole else WHOLE_CHARACTERS), ensure_ascii=False)
    return {"text": quoted(text, "entry of the board" if mine else "memory of earlier runs", entry.taint or UNKNOWN)}


def told(entry: Entry, most: int = SHOWN_CHARACTERS) -> dict[str, JsonValue]:
    """An entry as the model is shown it."""
    said: dict[str, JsonValue] = {"entry": entry.id, "topic": entry.topic, "by": entry.author.name}
    if entry.confidence < 1:
        said["confidence"] = entry.confidence
    if entry.erased is not None or entry.state == "erased":
        return said | {"erased": True}
    if entry.state != "live":
        said["state"] = entry.state
    if entry.links:
        said["links"] = [{"rel": link.rel, "to": link.to} for link in entry.links[:8]]
    content = entry.content
    if isinstance(content, Blob):
        return said | {"shortened": True, "bytes": content.bytes, "beginning": content.beginning[:BEGINNING]}
    text = json.dumps(content, ensure_ascii=False)
    if len(text) <= most:
        return said | {"content": content}
    return said | {"shortened": True, "characters": len(text), "beginning": text[:BEGINNING]}


class Recaller:
    """Chooses what a run's model is shown of the run's board and of its tenant's.

    Args:
        meaning: ranks; without it nothing is chosen by meaning, and a cut shows the newest entries.
    """

    def __init__(self, board: Board, state: RunState, settings: Recalling, meaning: Meaning | None) -> None:
        self._board, self._state, self._settings, self._meaning = board, state, settings, meaning
        self._run = Entries(board, f"run:{state.run_id}", checker=schema, meaning=meaning)
        self._tenant = f"tenant:{state.tenant}"

    async def first(self, request: str, model: Model) -> View:
        """What the first round is shown: what is remembered and has to do with the request."""
        room = int(self._settings.remembered_share * self._settings.bound(model))
        chosen = self._within(await self._remembered(request), room)
        return self._chosen(1, chosen) if chosen else View()

    async def again(self, context: Context) -> View:
        """What was chosen before, as it was recorded."""
        return View(context, contents=await self.load(context.entries))

    async def cut(self, request: str, newest: str, tail: Sequence[Message], model: Model) -> View:
        """What stands in for all rounds but the newest.

        Args:
            newest: what the newest results say.
            tail: the messages of the newest round.
        """
        first, since = self._state.newest, self._state.rounds[self._state.newest - 1].seen
        half = self._settings.bound(model) // 2
        room = half - sum(estimate_content(cast("list[dict[str, object]]", message["content"])) for message in tail)
        about = _question(request, newest)
        shown = {
            result_entry(self._state.run_id, task.id)
            for task in self._state.work
            if task.done and (task.round >= first or task.ended > since)
        }
        found = [one for one in await self._relevant(about) if one.id not in shown][: self._settings.most]
        kept = self._within(await self._remembered(about), int(room * 2 * self._settings.remembered_share))
        spent = sum(map(self._tokens, kept))
        return self._chosen(first, [*kept, *self._within(found, room - spent)])

    async def find(self, about: str | None, pattern: str, limit: int, remembered: bool) -> list[Entry]:
        """What a model looks for: by topic, by meaning or by both; on the run's board, or in what its tenant remembers."""
        entries = self._run.within(self._tenant) if remembered else self._run
        if about is None:
            found = await entries.query(pattern, limit=1000, load=False)
            return sorted(found.entries, key=lambda one: one.position, reverse=True)[:limit]
        return list((await entries.query(pattern, about=about[:ABOUT_CHARACTERS], limit=limit, load=False)).entries)

    async def read(self, entry_id: str) -> Entry | None:
        """An entry of the run, or of what its tenant remembers; None where there is none, or it is somebody else's."""
        scope = scope_of(owner_of_entry(entry_id))
        return (
            await self._run.within(scope).read(entry_id, load=False)
            if scope in (self._run.scope, self._tenant)
            else None
        )

    async def load(self, shown: Sequence[Shown]) -> dict[Shown, Entry]:
        """What some entries said at the positions at which they were shown; what is gone is left out."""
        loaded: dict[Shown, Entry] = {}
        for one in shown:
            entries = self._run.within(scope_of(owner_of_entry(one.entry)))
            try:
                chain = await entries.history(one.entry, load=False)
            except UnknownRecord:
                continue
            for entry in chain:
                if entry.position == one.position:
                    loaded[one] = await self._loaded(entry) if one.whole else entry
        return loaded

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _chosen(self, first: int, entries: Sequence[Entry]) -> View:
        contents = {Shown(entry=one.id, position=one.position): one for one in entries}
        return View(Context(first=first, entries=tuple(contents)), True, contents)

    def _tokens(self, entry: Entry) -> int:
        return estimate_content([_framed(entry, self._state.run_id)])

    def _within(self, entries: Sequence[Entry], room: int) -> list[Entry]:
        """The first of the entries that there is room for; one that is too long makes way for the next."""
        kept: list[Entry] = []
        for one in entries:
            size = self._tokens(one)
            if size <= room:
                kept.append(one)
                room -= size
        return kept

    async def _loaded(self, entry: Entry) -> Entry:
        """The entry with its content, where that is stored apart and not too long to be shown."""
        if not isinstance(entry.content, Blob) or entry.content.bytes > _WHOLE_BYTES:
            return entry
        return replace(entry, content=await self._board.load(owner_of_entry(entry.id), entry.content))

    async def _relevant(self, about: str) -> list[Entry]:
        """Entries of the run, the most relevant first, then the newest of those that have nothing in common with it."""
        ranked = await self._ranked(self._run, about, MOST_RANKED)
        known = {one.id for one in ranked}
        found = await self.find(None, ">", self._settings.most, remembered=False)
        every = [*ranked, *(one for one in found if one.id not in known)]
        return [one for one in every if not one.topic.startswith("control.")]

    async def _remembered(self, about: str) -> list[Entry]:
        if not self._settings.remembered:
            return []
        return await self._ranked(self._run.within(self._tenant), about, self._settings.remembered)

    async def _ranked(self, entries: Entries, about: str, limit: int) -> list[Entry]:
        if self._meaning is None or not about.strip():
            return []
        try:
            return list((await entries.query(about=about[:ABOUT_CHARACTERS], limit=limit, load=False)).entries)
        except ArbiterError as error:  # the round is taken without it
            log.warning("run %s is shown nothing of %s: %s", self._state.run_id, entries.scope, error)
            return []


def _question(request: str, newest: str) -> str:
    half = ABOUT_CHARACTERS // 2
    return f"{request[:half]}\n{newest[: half - 1]}"
