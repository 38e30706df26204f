"""A run's agenda over HTTP: what waits, why something was picked or not, overruling that, and the strategy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.agendas import RunAgenda
from arbiter.fold import fold
from arbiter.http import answers, bodies, streams
from arbiter.http.access import visible
from arbiter.http.asked import Asked
from arbiter.http.described import KEY, Answer, Handler, Number, Option, gives, takes
from blackboard.errors import BadInput
from blackboard.strategies import STRATEGIES
from blackboard.triggers import AgendaTerms
from blackboard.types import Record

MOST = 1000
"""Most activations of one answer."""
_STATE = Option("state")
_LIMIT = Number("limit", default=100, most=MOST)
_AFTER = Number("after", "The number of the last one of the page before.", most=999_999_999)
_BEST = Number("limit", default=5, most=100)


class AgendaChange(Record):
    reason: str = ""


class Rerating(AgendaChange):
    rating: float


class Focus(Record):
    strategy: str
    weights: dict[str, float] = Field(default_factory=dict)


@gives(Answer(answers.Activations), options=(_STATE, _LIMIT, _AFTER))
async def listing(asked: Asked) -> Response:
    """The activations of a run in the order they were made, with their ratings."""
    agenda = await _agenda(asked)
    limit, after = _LIMIT.of(asked.request), _AFTER.of(asked.request)
    found = await agenda.activations(asked.request.query_params.get("state"))
    page = [one for one in found if one.number > after]
    more = page[limit - 1].number if len(page) > limit else None
    return streams.answer({"activations": [one.record() for one in page[:limit]], "after": more})


@gives(Answer(answers.Recommendations), options=(_BEST,))
async def recommended(asked: Asked) -> Response:
    """What would be picked now, the best first; nothing is changed."""
    agenda = await _agenda(asked)
    found = await agenda.recommend(_BEST.of(asked.request))
    return streams.answer({"recommended": [{**one.activation.record(), "why": one.why} for one in found]})


@gives(Answer(answers.ExplainedActivation))
async def explained(asked: Asked) -> Response:
    """What made an activation, how it was rated, and why it was picked or not."""
    agenda = await _agenda(asked)
    found = await agenda.explain(_number(asked))
    steps = [{"position": at, "what": words} for at, words in found.steps]
    return streams.answer({**found.activation.record(), "outcome": found.outcome, "steps": steps})


def _changing(verb: str) -> Handler[Asked]:
    """What overrules the strategy about one activation, on record under the token."""

    async def change(asked: Asked, said: AgendaChange) -> Response:
        return await _changed(asked, getattr(await _agenda(asked), verb), reason=said.reason)

    change.__name__, change.__doc__ = verb, f"{verb.capitalize()} an activation, against the strategy."
    return takes(AgendaChange, _CHANGED, headers=(KEY,))(change)


_CHANGED = Answer(answers.ActivationState)
promote, block, unblock = (_changing(verb) for verb in ("promote", "block", "unblock"))


@takes(Rerating, _CHANGED, headers=(KEY,))
async def rerate(asked: Asked, said: Rerating) -> Response:
    """Rate an activation, against the strategy."""
    agenda = await _agenda(asked)
    return await _changed(asked, agenda.rerate, said.rating, reason=said.reason)


async def _changed(asked: Asked, what: Callable[..., Awaitable[str]], *how: float, reason: str) -> Response:
    number, key = _number(asked), bodies.idempotency_key(asked.request)
    state = await what(number, *how, by=asked.by, reason=reason, operation=key)
    return JSONResponse({"id": f"{asked.path('run')}/a/{number}", "state": state})


@gives(Answer(answers.Strategy))
async def strategy(asked: Asked) -> Response:
    """By which strategy a run's agenda is rated from now on, and which there are."""
    agenda = await _agenda(asked)
    found = await agenda.strategy(await _terms(asked))
    said = {"strategy": found.name, "weights": dict(found.weights), "version": found.version, "trouble": found.trouble}
    return streams.answer({**said, "built_in": [*STRATEGIES]})


@takes(Focus, Answer(answers.StrategyEntry))
async def focus(asked: Asked, said: Focus) -> Response:
    """Write the strategy on the control board of the run; it holds from the next decision on."""
    agenda = await _agenda(asked)
    await _terms(asked)
    written = await agenda.focus(said.strategy, said.weights, author=asked.author, taint=asked.sources())
    return JSONResponse({"entry": written.id, "version": written.version})


async def _agenda(asked: Asked) -> RunAgenda:
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    return asked.client.agenda(run_id)


async def _terms(asked: Asked) -> AgendaTerms:
    run_id = asked.path("run")
    terms = fold(run_id, await asked.board.history(run_id)).agenda
    if terms is None:
        raise BadInput(
            "run", run_id, "It has no agenda, so nothing is rated there. Name an inquiry, or a run with agenda=."
        )
    return terms


def _number(asked: Asked) -> int:
    text = asked.path("activation")
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) == 0:
        raise BadInput("activation", text, "Give its number on the agenda of the run: 1, 2, 3 and so on.")
    return int(text)
