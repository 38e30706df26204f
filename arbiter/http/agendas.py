"""A run's agenda over HTTP: what waits, why something was picked or not, overruling that, and the strategy."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.agendas import RunAgenda
from arbiter.fold import fold
from arbiter.http import bodies, streams
from arbiter.http.access import visible
from arbiter.http.asked import Asked
from blackboard.errors import BadInput, UnknownRecord
from blackboard.strategies import STRATEGIES
from blackboard.triggers import AgendaTerms
from blackboard.types import Record

MOST = 1000
"""Most activations of one answer."""
VERBS = ("promote", "block", "unblock", "rerate")


class _Change(Record):
    reason: str = ""


class _Rerate(_Change):
    rating: float


class _Focus(Record):
    strategy: str
    weights: dict[str, float] = Field(default_factory=dict)


async def listing(asked: Asked) -> Response:
    """The activations of a run in the order they were made, with their ratings."""
    bodies.options(asked.request, "state", "limit", "after")
    agenda = await _agenda(asked)
    limit, after = (bodies.number(asked.request, name, default, most) for name, default, most in _PAGES)
    found = await agenda.activations(asked.request.query_params.get("state"))
    page = [one for one in found if one.number > after]
    more = page[limit - 1].number if len(page) > limit else None
    return streams.answer({"activations": [one.record() for one in page[:limit]], "after": more})


_PAGES = (("limit", 100, MOST), ("after", 0, 999_999_999))


async def recommended(asked: Asked) -> Response:
    """What would be picked now, the best first; nothing is changed."""
    bodies.options(asked.request, "limit")
    agenda = await _agenda(asked)
    found = await agenda.recommend(bodies.number(asked.request, "limit", 5, 100))
    return streams.answer({"recommended": [{**one.activation.record(), "why": one.why} for one in found]})


async def explained(asked: Asked) -> Response:
    """What made an activation, how it was rated, and why it was picked or not."""
    bodies.options(asked.request)
    agenda = await _agenda(asked)
    found = await agenda.explain(_number(asked))
    steps = [{"position": at, "what": words} for at, words in found.steps]
    return streams.answer({**found.activation.record(), "outcome": found.outcome, "steps": steps})


async def change(asked: Asked) -> Response:
    """Overrule the strategy about one activation, on record under the token."""
    bodies.options(asked.request)
    verb = asked.path("verb")
    if verb not in VERBS:
        raise UnknownRecord("UNKNOWN", f"nothing is called {verb} here; there are {', '.join(VERBS)}")
    said = await bodies.model(asked.request, _Rerate if verb == "rerate" else _Change)
    agenda, number = await _agenda(asked), _number(asked)
    more: dict[str, Any] = {
        "by": asked.by, "reason": said.reason, "operation": bodies.idempotency_key(asked.request),
    }  # fmt: skip
    if isinstance(said, _Rerate):
        state = await agenda.rerate(number, said.rating, **more)
    else:
        state = await getattr(agenda, verb)(number, **more)
    return JSONResponse({"id": f"{agenda.run_id}/a/{number}", "state": state})


async def strategy(asked: Asked) -> Response:
    """By which strategy a run's agenda is rated from now on, and which there are."""
    bodies.options(asked.request)
    agenda = await _agenda(asked)
    found = await agenda.strategy(await _terms(asked))
    said = {"strategy": found.name, "weights": dict(found.weights), "version": found.version, "trouble": found.trouble}
    return streams.answer({**said, "built_in": [*STRATEGIES]})


async def focus(asked: Asked) -> Response:
    """Write the strategy on the control board of the run; it holds from the next decision on."""
    bodies.options(asked.request)
    said = await bodies.model(asked.request, _Focus)
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
