"""How a capability says what its failure means: try again after a while, or never again.

For functions of the embedding program (``from arbiter import RetryLater, Permanent``) and for isolated code
(``sdk.RetryLater``). Standard library only: every child process imports it.
"""

from __future__ import annotations

LONGEST_WAIT = 86_400.0
_MOST_NAMES = 20
_NAME_CHARACTERS = 100


class RetryLater(Exception):
    """Raise it from a capability: this attempt failed, and another one makes sense after a while.

    The task is tried again whatever the capability's ``effects``, no sooner than asked and no sooner than the retry
    policy says, if attempts and time are left; otherwise it ends as failed with this reason.

    Args:
        seconds: how long to wait at least, as from a ``Retry-After`` header. More than a day is taken for a day.
        reason: what is the matter, for people and for the planner.

    Raises:
        ValueError: ``seconds`` is negative or no number.
    """

    def __init__(self, seconds: float = 0.0, reason: str = "") -> None:
        number = isinstance(seconds, int | float)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not number or not seconds >= 0:  # the first argument of most exceptions is a text
            remedy = "Give the number of seconds to wait, 0 or more; the reason comes behind it, or as reason=."
            raise ValueError(f"seconds: {seconds!r} was refused. {remedy}")
        self.seconds = min(float(seconds), LONGEST_WAIT)
        self.reason = reason or "It asked to be tried again later."
        super().__init__(self.reason)


class PeerUnavailable(RetryLater):
    """A system elsewhere could not be reached, and nothing was sent to it: trying again cannot do anything twice."""


class PeerLost(Exception):
    """The connection to a system elsewhere broke during a call: whether it was carried out is not known."""


class Permanent(Exception):
    """Raise it from a capability: another attempt would fail in the same way, so none is made.

    Args:
        reason: what is the matter, for people and for the planner.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason or "It will not succeed however often it is tried."
        super().__init__(self.reason)


def kind(error: BaseException) -> str:
    """The type of the failure an exception stands for.

    ``peer_unavailable``, ``retry_later``, ``permanent`` or ``handler_error``.
    """
    if isinstance(error, PeerUnavailable):
        return "peer_unavailable"
    if isinstance(error, RetryLater):
        return "retry_later"
    return "permanent" if isinstance(error, Permanent) else "handler_error"


def wait(error: BaseException) -> float | None:
    """The wait an exception asks for, in seconds; a subclass may have put anything in its place."""
    seconds: object = getattr(error, "seconds", None) if isinstance(error, RetryLater) else None
    return seconds if isinstance(seconds, float) and 0 <= seconds <= LONGEST_WAIT else None


def said(error: BaseException) -> str:
    """What an exception says of itself, as JSON can carry it; its class may be anybody's, and so may its text."""
    try:
        return sayable(str(error))
    except Exception as other:
        return f"<{type(error).__name__} whose str() raised {type(other).__name__}>"


def sayable(text: str) -> str:
    """A text in which half a surrogate pair, such as of a file name that is no UTF-8, is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def class_names(error: BaseException) -> list[str]:
    """Names of an exception's class and its bases up to ``Exception``, its own first, for retry rules to match."""
    classes = [cls for cls in type(error).__mro__ if issubclass(cls, Exception)]
    return [cls.__name__[:_NAME_CHARACTERS] for cls in classes[:_MOST_NAMES]]
