"""All that generated code may import of this distribution: ``from wrapper import sdk``.

Works only inside an isolated run, where every function here speaks to the host over the run's private channel. The host
decides what is granted; a refused call raises :class:`CallError`. Importing this module loads no host code.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from wrapper.context import TaskContext, current_task
from wrapper.failing import Permanent, RetryLater
from wrapper.isolation.channel import CallError, call, call_async, current

if TYPE_CHECKING:
    from strands.models import Model

__all__ = [
    "CallError",
    "Permanent",
    "Response",
    "RetryLater",
    "TaskContext",
    "amend",
    "call",
    "call_async",
    "confirm",
    "current_task",
    "fetch",
    "give_back",
    "log",
    "model",
    "open_input",
    "post",
    "query",
    "read",
    "renew",
    "retract",
    "take",
    "watch",
    "write_output",
]

_PART_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to :func:`fetch`, whatever its status."""

    status: int
    url: str
    """Where it came from, after redirects."""
    headers: Mapping[str, str]
    """By name in lower case; of several with one name, the values with commas between them."""
    content: bytes

    def text(self) -> str:
        """The content as UTF-8; what is none is replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The content as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.content)


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    seconds: float | None = None,
) -> Response:
    """Have the host make an HTTP request to one of the granted hosts.

    ``{{secret:HANDLE}}`` in a header's value or in the query stands for a granted secret, which this process never sees.

    Args:
        url: ``https://…``.
        method: one of the granted ones.
        headers: of the request.
        body: of the request; text is sent as UTF-8.
        seconds: longest time with all redirects. Default and maximum: the host's, 30.

    Raises:
        CallError: ``denied`` (asking for what is not granted also ends the run), ``bad_request``, ``limit``, ``timeout``,
            ``secret`` or ``http``.
    """
    content = body.encode() if isinstance(body, str) else body
    args: dict[str, object] = {
        "url": url, "method": method, "headers": dict(headers or {}), "seconds": seconds,
        "body": None if content is None else base64.b64encode(content).decode(),
    }  # fmt: skip
    answer = cast("dict[str, Any]", call("http.fetch", args))
    merged: dict[str, str] = {}
    for name, value in answer["headers"]:
        merged[name.lower()] = f"{merged[name.lower()]}, {value}" if name.lower() in merged else value
    return Response(answer["status"], answer["url"], merged, base64.b64decode(answer["body"]))


def open_input(name: str) -> bytes:
    """The content of a granted file.

    Args:
        name: its handle in the grants.

    Raises:
        CallError: ``denied`` (not granted; also ends the run) or ``file`` (it cannot be read, or is too large).
    """
    content = bytearray()
    while True:
        answer = cast("dict[str, Any]", call("file.read", {"handle": name, "offset": len(content)}))
        part = base64.b64decode(answer["data"])
        content += part
        if not part or len(content) >= answer["size"]:
            return bytes(content)


def write_output(name: str, content: bytes) -> dict[str, Any]:
    """Keep bytes with the run, beside the result.

    Returns:
        ``{"name", "sha256", "bytes", "stored"}``: put it into the result, and whoever reads that finds the bytes.

    Raises:
        CallError: ``limit`` or ``bad_request``.
    """
    parts = [content[at : at + _PART_BYTES] for at in range(0, len(content), _PART_BYTES)] or [b""]
    answer: object = None
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        answer = call("output.write", {"name": name, "data": base64.b64encode(part).decode(), "last": last})
    return cast("dict[str, Any]", answer)


def post(
    topic: str,
    content: object,
    *,
    confidence: float = 1.0,
    links: Sequence[tuple[str, str]] = (),
    seconds: float | None = None,
    expect_topic: int | None = None,
) -> dict[str, Any]:
    """Write an entry on the board of this run, on a granted topic. A second attempt that writes the same adds nothing.

    Args:
        topic: ``claims.invoice.4711``.
        content: JSON, at most 64 KiB.
        confidence: 0 to 1.
        links: what it says about older entries: ``("supports", id)``, ``contradicts``, ``answers``, ``derived_from``.
        seconds: its time to live. Default: as long as the run.
        expect_topic: write only if so many facts were written on the topic; 0 for none.

    Returns:
        ``{"id", "version", "position", "new"}``.

    Raises:
        CallError: ``denied`` (a topic that is not granted; also ends the run), ``bad_request``, ``stale``, ``limit``,
            ``fenced`` or ``closed``.
    """
    args = {
        "topic": topic, "content": content, "confidence": confidence, "links": [list(link) for link in links],
        "seconds": seconds, "expect_topic": expect_topic,
    }  # fmt: skip
    return cast("dict[str, Any]", call("entry.post", args))


def read(entry: str, *, at: str | None = None) -> dict[str, Any] | None:
    """An entry of a granted topic, by its id, whatever became of it; None when there is none.

    Args:
        at: as it was at this position of the log.

    Returns:
        ``{"id", "topic", "version", "state", "content", "confidence", "author", "position", …}``.

    Raises:
        CallError: ``denied`` (its topic is not granted; also ends the run), ``bad_request`` or ``limit``.
    """
    return cast("dict[str, Any] | None", call("entry.read", {"entry": entry, "at": at}))


def query(
    pattern: str,
    where: str = "",
    *,
    about: str | None = None,
    links_to: str | None = None,
    rel: str | None = None,
    limit: int = 50,
    after: str | None = None,
    at: str | None = None,
) -> dict[str, Any]:
    """The live entries of granted topics that fit.

    Args:
        pattern: ``claims.*.4711`` or ``claims.>``; it must lie within a granted one.
        where: conditions on the content: ``amount>=100 status!=paid``.
        about: rank those that fit by how well they answer to this, in words; each then has a ``score`` and ``reasons``.
        links_to: only entries that link to this one, of ``rel`` if it is given.
        limit: at most 50.
        after: where the answer before ended.
        at: those that were live at this position of the log.

    Returns:
        ``{"entries": […], "after", "position"}``; a content above 64 KiB is left out, and :func:`read` gives it.

    Raises:
        CallError: ``denied`` (it is not granted; also ends the run), ``bad_request`` or ``limit``.
    """
    args = {
        "pattern": pattern, "where": where, "about": about, "links_to": links_to, "rel": rel, "limit": limit, "after": after,
        "at": at,
    }  # fmt: skip
    return cast("dict[str, Any]", call("entry.query", args))


def watch(
    pattern: str, where: str = "", *, after: str | None = None, seconds: float = 10.0
) -> Iterator[dict[str, Any]]:
    """What happens to entries of granted topics, each fact once and in order, until none came for a time.

    Args:
        pattern, where: as for :func:`query`; retractions and takings are told whatever the entry said.
        after: begin after this position: of an answer, an entry or a fact; ``-`` for all there is. Default: now.
        seconds: how long to wait for the next fact, at most 60; it looks for a second in any case.

    Yields:
        What was posted or amended as :func:`query` gives it, with ``fact``; of anything else ``{"fact", "id", "topic", "version",
        "position"}``. To watch on later, pass the ``position`` of the last one.

    Raises:
        CallError: as :func:`query`.
    """
    args = {"pattern": pattern, "where": where, "seconds": seconds}
    while (fact := cast("dict[str, Any] | None", call("entry.watch", {**args, "after": after}))) is not None:
        after = fact["position"]
        yield fact


def amend(entry: str, *, expect: int | None = None, expect_topic: int | None = None, **changes: Any) -> dict[str, Any]:
    """Let an entry of a granted topic say something else from here on.

    Args:
        entry: its id.
        expect: amend only this version of it.
        expect_topic: and only if so many facts were written on its topic.
        changes: ``content``, ``confidence``, ``links`` or ``seconds``; what is not given stays.

    Returns:
        As :func:`post`.

    Raises:
        CallError: as :func:`post`, ``unknown`` or ``ended``.
    """
    if "links" in changes:
        changes["links"] = [list(link) for link in changes["links"]]
    given = {"entry": entry, "expect": expect, "expect_topic": expect_topic}
    return cast("dict[str, Any]", call("entry.amend", given | changes))


def retract(
    entry: str, reason: str = "", *, expect: int | None = None, expect_topic: int | None = None
) -> dict[str, Any]:
    """Say that what an entry of a granted topic says counts no more. ``expect`` and ``expect_topic`` as for :func:`amend`.

    Returns:
        As :func:`post`.

    Raises:
        CallError: as :func:`amend`.
    """
    given = {"entry": entry, "reason": reason, "expect": expect, "expect_topic": expect_topic}
    return cast("dict[str, Any]", call("entry.retract", given))


def take(
    pattern: str, where: str = "", *, seconds: float = 0.0, lease_seconds: float | None = None
) -> dict[str, Any] | None:
    """Take the first fitting entry off the board: nobody else gets it. Its topic must be granted to read and to write.

    Args:
        pattern, where: as for :func:`query`.
        seconds: how long to wait for one, at most 60.
        lease_seconds: hold it for so long; it is back on the board unless :func:`confirm` or :func:`renew` comes by then, as
            when this attempt fails. The next one goes on with what is still held. Default: it is taken for good.

    Returns:
        The entry, as :func:`read` gives it; None when there was none in time.

    Raises:
        CallError: as :func:`query`, ``fenced`` or ``closed``.
    """
    args = {"pattern": pattern, "where": where, "seconds": seconds}
    more = {} if lease_seconds is None else {"lease_seconds": lease_seconds}
    return cast("dict[str, Any] | None", call("entry.take", {**args, **more}))


def confirm(entry: str) -> dict[str, Any]:
    """Have for good what :func:`take` gave under a lease: say so when what it asked for is done.

    Returns:
        As :func:`post`.

    Raises:
        CallError: ``lease`` (it lapsed, or is not held: somebody else may have it), ``fenced`` or ``closed``.
    """
    return cast("dict[str, Any]", call("entry.confirm", {"entry": entry}))


def renew(entry: str, lease_seconds: float) -> dict[str, Any]:
    """Hold what :func:`take` gave for so long from now on.

    Returns:
        As :func:`post`.

    Raises:
        CallError: as :func:`confirm`.
    """
    return cast("dict[str, Any]", call("entry.renew", {"entry": entry, "lease_seconds": lease_seconds}))


def give_back(entry: str) -> dict[str, Any]:
    """Let others have at once what :func:`take` gave under a lease.

    Returns:
        As :func:`post`.

    Raises:
        CallError: as :func:`confirm`.
    """
    return cast("dict[str, Any]", call("entry.give_back", {"entry": entry}))


def model(model_id: str | None = None, **config: Any) -> Model:
    """A Strands model answered by the host: ``Agent(model=sdk.model())``.

    Args:
        model_id: wish for a certain model; None takes the one the host is configured with.
        config: further wishes such as ``temperature`` or ``max_tokens``.

    Raises:
        RuntimeError: called outside an isolated run.
    """
    from wrapper.isolation.brokered_model import BrokeredModel

    current()
    return BrokeredModel(**({} if model_id is None else {"model_id": model_id}), **config)


def log(message: object, **fields: object) -> None:
    """Write one line to the run's captured error output, where people and the repair loop find it.

    Args:
        message: what happened.
        fields: details, written as ``name=value``.
    """
    details = "".join(f" {name}={value!r}" for name, value in fields.items())
    print(f"{message}{details}", file=sys.stderr)
