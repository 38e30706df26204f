"""The planning model's tools for the board: finding what it is not shown, and saying what later runs should know.

``recall`` answers in the same step, with entries that are recorded by id and position. What ``remember`` names is promoted to the
tenant's scope when the run ends well, before its end is committed: the same promotion again is the entry that is there, so a
step that is taken twice remembers once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue

from arbiter.fold import RunState
from arbiter.recalling import Recaller
from blackboard import promotion, topics
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry, owner_of_entry
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from blackboard.events import Author, Call, Shown
from blackboard.results import result_entry
from blackboard.taint import UNKNOWN, Taint, merged
from blackboard.types import Status
from registry import schema

if TYPE_CHECKING:
    from strands.types.tools import ToolSpec

log = logging.getLogger(__name__)

RECALL: Final = "recall"
REMEMBER: Final = "remember"
NAMES = (RECALL, REMEMBER)
LEARNED = "learned"
"""First word of the topics of what a model says in its own words."""
AUTHOR = Author(kind="program", name="planner")
MOST = 20
SAYS_CHARACTERS = 2000
_TOPIC = "^[A-Za-z0-9_-]{1,64}(\\.[A-Za-z0-9_-]{1,64}){0,7}$"


def specs() -> list[ToolSpec]:
    """Their specifications, in Bedrock's inner ``toolSpec`` shape."""
    return [
        _spec(
            RECALL,
            "Find entries on the board that are not shown: results of rounds that were left out (topics results.CAPABILITY.KEY "
            "and failures.CAPABILITY.KEY), what capabilities and people wrote, or what was remembered of earlier runs. Say what "
            "they are about, on which topics they are, or both; or name one entry to be shown more of it.",
            {
                "about": {"type": "string", "minLength": 1, "maxLength": 1000, "description": "In plain words."},
                "topic": {
                    "type": "string",
                    "maxLength": 256,
                    "description": "A pattern: words with dots between them, * for one word, > at the end for the rest.",
                },
                "entry": {"type": "string", "maxLength": 300, "description": "Id of an entry."},
                "remembered": {
                    "type": "boolean",
                    "description": "Look in what was remembered of earlier runs. Default false.",
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST,
                    "description": "How many at most. Default 5.",
                },
            },
        ),
        _spec(
            REMEMBER,
            "Keep what later requests of this tenant should know, once this one is done: entries, by id or by the key of the "
            "task they came of, or a fact in your own words that rests on them. Only what is worth knowing again and true "
            "beyond this request.",
            {
                "entries": {"type": "array", "maxItems": 8, "items": {"type": "string", "maxLength": 300}},
                "says": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": SAYS_CHARACTERS,
                    "description": "The fact, in short.",
                },
                "topic": {
                    "type": "string",
                    "pattern": _TOPIC,
                    "description": "Where it is found, such as suppliers.acme.",
                },
            },
        ),
    ]


def _spec(name: str, description: str, properties: dict[str, JsonValue]) -> ToolSpec:
    written: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"name": name, "description": description, "inputSchema": {"json": written}}


class BoardTools:
    """Carries out calls of these tools for one round."""

    def __init__(self, state: RunState, recaller: Recaller) -> None:
        self._state, self._recaller = state, recaller

    async def recall(self, use_id: str, given: Mapping[str, JsonValue]) -> tuple[Call, Taint]:
        """What a call of ``recall`` finds, and where that comes from.

        Raises:
            BadInput: it says nothing to look for, or a pattern or an id that is none.
        """
        if (named := given.get("entry")) is not None:
            entry = await self._recaller.read(str(named))
            found = [] if entry is None else [entry]
        else:
            about, topic = given.get("about"), given.get("topic")
            if about is None and topic is None:
                raise BadInput("recall", "nothing", "Say what it is about, on which topic it is, or name an entry.")
            found = await self._recaller.find(
                None if about is None else str(about), ">" if topic is None else str(topic),
                cast(int, given.get("limit", 5)), given.get("remembered") is True,
            )  # fmt: skip
        if not found:
            return Call(tool_use_id=use_id, name=RECALL, answer={"found": []}), ()
        shown = tuple(Shown(entry=one.id, position=one.position, whole=named is not None) for one in found)
        return Call(tool_use_id=use_id, name=RECALL, shown=shown), merged(*(one.taint or UNKNOWN for one in found))

    async def remember(self, use_id: str, given: Mapping[str, JsonValue]) -> Call:
        """What a call of ``remember`` notes down for the end of the run.

        Raises:
            BadInput: it names nothing, or what there is not.
        """
        named = [str(one) for one in cast("list[JsonValue]", given.get("entries", []))]
        if not named and "says" not in given:
            raise BadInput("remember", "nothing", "Name entries or keys of tasks, or say what is to be remembered.")
        entries = [(await self.entry(one)).id for one in named]
        noted: dict[str, JsonValue] = {"entries": [*dict.fromkeys(entries)]}
        noted |= {name: given[name] for name in ("says", "topic") if name in given}
        answer: JsonValue = {"remembered": noted, "note": "It is kept when this request is done."}
        return Call(tool_use_id=use_id, name=REMEMBER, answer=answer)

    async def entry(self, named: str) -> Entry:
        """A live entry of the run or of what is remembered, by its id or by the key of the task it came of.

        Raises:
            BadInput: there is none.
        """
        done = [task for task in self._state.work if task.key == named and task.completion]
        if done:
            if done[-1].completion is None or done[-1].completion.status is not Status.SUCCEEDED:
                raise BadInput("entries", named, "That task did not succeed; name one that did.")
            named = result_entry(self._state.run_id, done[-1].id)
        try:
            entry = await self._recaller.read(named)
        except BadInput:
            entry = None
        if entry is None or not entry.counts:
            raise BadInput(
                "entries", named, "Name the key of a task that succeeded, or an entry that is shown and counts."
            )
        return entry


def noted(state: RunState) -> Iterable[tuple[int, Call, Mapping[str, Any]]]:
    """What the run's rounds want remembered: the round, the call, and what it noted."""
    for turn in state.rounds:
        for call in turn.calls:
            if call.name == REMEMBER and call.valid and isinstance(call.answer, dict):
                yield turn.number, call, cast("Mapping[str, Any]", call.answer.get("remembered", {}))


async def keep(board: Board, state: RunState) -> None:
    """Promote what the run's rounds want remembered to the scope of its tenant. Again: the same entries.

    What does not count any more, or does not fit there, is left out.
    """
    entries, to = Entries(board, f"run:{state.run_id}", checker=schema), f"tenant:{state.tenant}"
    for number, call, what in noted(state):
        named, topic = [str(one) for one in what["entries"]], what.get("topic")
        try:
            if "says" in what:
                taint = next((turn.taint for turn in state.rounds if turn.number == number), UNKNOWN)
                said = await entries.post(
                    f"{LEARNED}.{topic or 'facts'}", what["says"], links=[("derived_from", one) for one in named],
                    taint=taint, author=AUTHOR, operation=f"remember:{number}:{call.tool_use_id}"[:200],
                )  # fmt: skip
                named = [said.id]
            for one in named:
                if owner_of_entry(one) == state.run_id:  # what is remembered already stays
                    own = f"{LEARNED}.{topic}" if topic and "says" not in what else None
                    await promotion.promote(entries, one, to, topic=own and topics.check_topic(own))
        except (BadInput, UnknownRecord, ScriptRefused) as error:
            log.warning("run %s does not remember %s: %s", state.run_id, named, error)
