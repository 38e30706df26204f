"""The conversation of a round: what it begins with, and when it is cut. See :mod:`arbiter.recalling`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from arbiter import conversation
from arbiter.recalling import Recaller, Recalling, View, latest
from arbiter.states import Known
from blackboard.board import Board
from blackboard.meaning import Meaning, text_of
from wrapper.models.estimate import estimate_request

if TYPE_CHECKING:
    from strands.models import Model
    from strands.types.content import Message


async def shown(board: Board, known: Known, settings: Recalling, meaning: Meaning | None, model: Model) -> View:
    """What the conversation of a run's next round begins with; ``known`` has the conversation."""
    state = known.state
    recaller = Recaller(board, state, settings, meaning)
    request = conversation.request_text(state.request)
    context = latest(state.rounds)
    if not state.rounds:
        known.begin(await recaller.first(request, model))
    elif known.view is None or known.view.context != context:
        known.begin(View() if context is None else await recaller.again(context))
    view = cast(View, known.view)
    view.new = context is None and not state.rounds and view.context is not None
    await _look_up(recaller, known, view)
    messages = _counted(known, view)
    if known.tokens > settings.bound(model) and view.first < state.newest:
        words = " ".join(
            text_of(task.completion.data) for task in state.work if task.round >= state.newest and task.completion
        )
        known.begin(await recaller.cut(request, words, messages[-2:], model))
        view = cast(View, known.view)
        await _look_up(recaller, known, view)
    return view


def _counted(known: Known, view: View) -> list[Message]:
    """The conversation, its tokens counted: those of the request apart, which no cut makes shorter."""
    messages = conversation.messages(known.state, known.said, view)
    new = cast("list[dict[str, Any]]", messages[known.counted :])
    if new and not known.counted:
        new = [{**new[0], "content": new[0]["content"][1:]}, *new[1:]]
    known.tokens += estimate_request(new)
    known.counted = len(messages)
    return messages


async def _look_up(recaller: Recaller, known: Known, view: View) -> None:
    """Have what answers to calls show."""
    turns = known.state.rounds[view.first - 1 :]
    wanted = [one for turn in turns for call in turn.calls for one in call.shown if one not in view.contents]
    view.contents |= await recaller.load(list(dict.fromkeys(wanted)))
