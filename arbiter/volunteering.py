"""Open requests: a task is announced without naming who shall do it, those who can bid, and one of them is awarded it.

An announcement, a bid and an award are entries of a run; :mod:`arbiter.awarding` makes the awards. Source: the contract net
(R. G. Smith, *The Contract Net Protocol*, IEEE Transactions on Computers C-29(12), 1980): announcement with an expiration
time, bids, an award by the one who announced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError

from blackboard.entry import Entry
from blackboard.errors import BadInput
from blackboard.refusing import refused
from blackboard.types import Record

REQUESTS = "requests"
"""First word of the topics of open requests: ``requests.bank``. All about one is under its own words: ``bids.bank``, …"""
BIDS = "bids"
AWARDS = "awards"
ANSWERS = "answers"
"""What the awarded capability returned."""
UNANSWERED = "unanswered"
"""Why there is none: nobody was awarded it, or the task of who was did not succeed."""
SECONDS = 60.0

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Missing(Record):
    """The capability that is to be fabricated when nobody bids."""

    name: Name
    need: str = Field(min_length=10, max_length=20_000)
    """What it must do, precisely enough to test it. It gets the request's input."""
    input_hint: JsonValue = None


class OpenRequest(Record):
    """What an announcement says. Post ``OpenRequest(...).content()`` under ``requests.NAME``.

    Raises:
        BadInput: ``otherwise`` is ``fabricate``, and it is not said what.
    """

    question: str = Field(min_length=1, max_length=2_000)
    """For sources to know whether they can: their triggers ask for its words, as in ``question~bank``."""
    input: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the awarded capability, unless its bid says another."""
    seconds: float = Field(default=SECONDS, gt=0, le=86_400 * 30)
    """How long bids count, on the server's clock, from when it was posted or amended; who was triggered by it gets as long. It is
    awarded before that time once a bid can be, and everybody it triggered is done."""
    otherwise: Literal["fabricate", "give_up"] = "give_up"
    """What happens without a bid that can be awarded."""
    missing: Missing | None = None

    def content(self) -> dict[str, JsonValue]:
        """As the content of an entry."""
        if self.otherwise == "fabricate" and self.missing is None:
            raise BadInput("missing", None, "Say which capability is to be fabricated when nobody bids.")
        return self.model_dump(mode="json", exclude_none=True)


class Asking(OpenRequest):
    """An open request and the name of its topics, as a client says them in one object."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "asked"

    def request(self) -> OpenRequest:
        """The request alone."""
        return OpenRequest.model_validate(self.model_dump(exclude={"name"}))


def asked(said: Mapping[str, Any]) -> OpenRequest:
    """A request from its fields.

    Raises:
        BadInput: one of them does not fit.
    """
    try:
        return OpenRequest.model_validate(said)
    except ValidationError as error:
        raise refused(error) from None


class Bid(Record):
    """What a bid says; how sure the bidder is, is the confidence of its entry, which ``answers`` the request."""

    capability: Name
    """Does the work when it is awarded. Any capability of the registry, not only the one that bids."""
    cost: float = Field(default=1.0, gt=0, le=1e9, allow_inf_nan=False)
    """In the unit of the triggers' costs."""
    input: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who could be awarded a request, and what that was worth."""

    capability: str
    confidence: float
    cost: float
    bid: str | None = None
    """Its entry; None for a capability that was fabricated for such a request."""
    version: str = ""
    success: float = 0.0
    """How much of its version's tasks succeeded, by Laplace's rule."""
    given: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    refused: str = ""
    """Why it cannot be awarded."""
    taint: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """Confidence times measured success, divided by cost, as the strategy ``expected_value`` has it."""
        return self.confidence * self.success / self.cost

    def record(self) -> dict[str, JsonValue]:
        """For the award, which says what it was chosen from."""
        said: dict[str, JsonValue] = {
            "capability": self.capability, "bid": self.bid, "confidence": self.confidence, "cost": self.cost,
            "success": round(self.success, 6), "value": round(self.value, 6), "refused": self.refused,
        }  # fmt: skip
        return {name: value for name, value in said.items() if value not in (None, "")}


def best(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one of the highest value; of two alike the first."""
    able = [one for one in candidates if not one.refused]
    return max(able, key=lambda one: one.value, default=None)


def asks(topic: str) -> bool:
    """Whether an entry on a topic may be an open request."""
    return topic.startswith(f"{REQUESTS}.")


def read(entry: Entry) -> OpenRequest | str:
    """What an announcement says, or what is wrong with it: anybody may have written it."""
    try:
        request = OpenRequest.model_validate(entry.content)
        request.content()
    except (ValidationError, BadInput) as error:
        return f"it is no open request: {_first(error)}"
    return request


def bids(entries: Iterable[Entry], request: Entry, seconds: float) -> list[Candidate]:
    """The bids on a request, in the order they came, with those refused that do not count."""
    found: list[Candidate] = []
    until = closes(request, seconds) * 1000
    for one in sorted(entries, key=lambda one: one.position):
        if not any(link.rel == "answers" and link.to == request.id for link in one.links):
            continue
        try:
            bid = Bid.model_validate(one.content)
        except ValidationError as error:
            found.append(Candidate("?", one.confidence, 1.0, one.id, refused=f"it is no bid: {_first(error)}"))
            continue
        late = "" if _at_ms(one.position) <= until else f"it came later than {seconds:g} s after the request"
        found.append(
            Candidate(
                bid.capability, one.confidence, bid.cost, one.id, given=bid.input or {}, refused=late, taint=one.taint
            )
        )
    return found


def closes(request: Entry, seconds: float) -> float:
    """Until when bids count, in seconds since the epoch on the server's clock."""
    return _at_ms(request.position) / 1000 + seconds


def _at_ms(position: str) -> int:
    return int(position.partition("-")[0])


def _first(error: ValidationError | BadInput) -> str:
    return str(error if isinstance(error, BadInput) else refused(error, whole="content"))[:300]
