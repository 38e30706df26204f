"""Test doubles that are part of the public interface: a local Bedrock runtime.

:class:`BedrockStub` speaks the Converse and ConverseStream operations over real HTTP with AWS event-stream framing, so
the real boto3 client and everything above it can be tested without an account. It does not check signatures, validate
requests or know models.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Block = str | Mapping[str, Any]
"""Text, or ``{"tool": name, "input": {…}, "id"?: …}``. An input that is text is sent as it is, JSON or not."""

_HOLD_SECONDS = 30.0


def frame(kind: str, payload: Mapping[str, Any], message_type: str = "event") -> bytes:
    """One frame of an AWS event stream (``application/vnd.amazon.eventstream``), big-endian with both checksums.

    Args:
        kind: ``messageStart``, ``contentBlockDelta``, … or, for an exception, ``throttlingException``, …
        payload: the JSON body of the frame.
        message_type: ``event`` or ``exception``.
    """
    type_header = ":event-type" if message_type == "event" else ":exception-type"
    named = ((type_header, kind), (":content-type", "application/json"), (":message-type", message_type))
    headers = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in named
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 12 + len(headers) + len(body) + 4, len(headers))
    start = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return start + struct.pack("!I", zlib.crc32(start))


def exception_frame(kind: str, message: str) -> bytes:
    """The frame that ends a stream with an error, for example ``throttlingException``."""
    return frame(kind, {"message": message}, message_type="exception")


def turn_frames(
    blocks: Sequence[Block], *, usage: tuple[int, int] | None = (10, 5), stop_reason: str | None = None
) -> list[bytes]:
    """The frames of one whole reply, to be sent joined, shortened or damaged.

    Args:
        blocks: what the model says.
        usage: (input, output) tokens to report; None leaves the metadata frame out.
        stop_reason: default: ``tool_use`` when there is a tool call, else ``end_turn``.
    """
    frames = [frame("messageStart", {"role": "assistant"})]
    for index, block in enumerate(blocks):
        at: dict[str, Any] = {"contentBlockIndex": index}
        if isinstance(block, str):
            frames.append(frame("contentBlockDelta", {**at, "delta": {"text": block}}))
        else:
            tool = {"toolUseId": block.get("id", f"tooluse_stub_{index}"), "name": block["tool"]}
            given = block.get("input", {})
            raw = given if isinstance(given, str) else json.dumps(given)
            frames.append(frame("contentBlockStart", {**at, "start": {"toolUse": tool}}))
            frames.append(frame("contentBlockDelta", {**at, "delta": {"toolUse": {"input": raw}}}))
        frames.append(frame("contentBlockStop", at))
    frames.append(frame("messageStop", {"stopReason": stop_reason or _stop_reason(blocks)}))
    if usage is not None:
        frames.append(frame("metadata", {"usage": _usage(usage), "metrics": {"latencyMs": 1}}))
    return frames


def _stop_reason(blocks: Iterable[Block]) -> str:
    return "end_turn" if all(isinstance(block, str) for block in blocks) else "tool_use"


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"inputTokens": usage[0], "outputTokens": usage[1], "totalTokens": sum(usage)}


@dataclass(frozen=True, slots=True)
class Error:
    """An HTTP error, with response headers such as ``Retry-After`` if need be."""

    status: int
    code: str
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Dropped:
    """Raw bytes after which the connection is lost, although more were announced."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that waits until the test sets ``until``. ``before`` is sent at once, then the wait, then ``then``.

    The wait ends by itself when the stub is closed, and after 30 s so that no test hangs.
    """

    until: threading.Event
    then: bytes
    before: bytes = b""


Item = Sequence[Block] | tuple[int, str, str] | bytes | Error | Dropped | Held
"""One answer: blocks, ``(status, code, message)``, the raw bytes of a stream, or one of the classes above."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request the stub received. ``operation`` is ``converse`` or ``converse-stream``."""

    model_id: str
    operation: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class BedrockStub:
    """A local bedrock-runtime that answers request after request from a script.

    ::

        with BedrockStub([(429, "ThrottlingException", "slow down"), ["hello"]]) as stub:
            model = resolve("bedrock:us.amazon.nova-lite-v1:0", endpoint_url=stub.url)

    A request beyond the script is answered with a ``ValidationException`` saying so.

    Args:
        script: the answers, in order; ``script`` may be extended later.
    """

    def __init__(self, script: Iterable[Item] = ()) -> None:
        self.script: list[Item] = list(script)
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which any boto3 process talks to this stub."""
        return {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def close(self) -> None:
        """Stop answering and free the port."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, request: Request) -> Item:
        """Record a request and return its answer."""
        with self._lock:
            self.requests.append(request)
            if not self.script:
                return Error(400, "ValidationException", f"The stub has no answer for request {len(self.requests)}.")
            return self.script.pop(0)

    def hold(self, until: threading.Event) -> None:
        """Wait for a test's event, but not longer than the stub lives."""
        waited = 0.0
        while not until.wait(0.02) and not self._closed.is_set() and waited < _HOLD_SECONDS:
            waited += 0.02


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    stub: BedrockStub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients under test hang up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        stub = cast("_Server", self.server).stub
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        model_id, operation = unquote(self.path).removeprefix("/model/").rsplit("/", 1)
        item = stub.take(Request(model_id, operation, dict(self.headers), json.loads(raw or b"{}")))
        if isinstance(item, tuple) and len(item) == 3 and isinstance(item[0], int):
            item = Error(item[0], str(item[1]), str(item[2]))
        if isinstance(item, Error):
            body = json.dumps({"message": item.message}).encode()
            self._send(item.status, "application/json", body, {"x-amzn-ErrorType": item.code, **item.headers})
        elif isinstance(item, Dropped):
            self._head(200, "application/vnd.amazon.eventstream", len(item.body) + 1024, {})
            self.wfile.write(item.body)
            self.close_connection = True
        elif isinstance(item, Held):
            self._head(200, "application/vnd.amazon.eventstream", len(item.before) + len(item.then), {})
            self.wfile.write(item.before)
            self.wfile.flush()
            stub.hold(item.until)
            self.wfile.write(item.then)
        elif isinstance(item, bytes):
            self._send(200, "application/vnd.amazon.eventstream", item, {})
        elif operation == "converse-stream":
            body = b"".join(turn_frames(cast("Sequence[Block]", item)))
            self._send(200, "application/vnd.amazon.eventstream", body, {})
        else:
            self._send(200, "application/json", _whole_reply(cast("Sequence[Block]", item)), {})

    def _head(self, status: int, content_type: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-type": content_type, "content-length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, content_type, len(body), headers)
        self.wfile.write(body)


def _whole_reply(blocks: Sequence[Block]) -> bytes:
    content: list[dict[str, Any]] = [
        {"text": block}
        if isinstance(block, str)
        else {
            "toolUse": {
                "toolUseId": block.get("id", f"tooluse_stub_{index}"),
                "name": block["tool"],
                "input": block.get("input", {}),
            }
        }
        for index, block in enumerate(blocks)
    ]
    reply = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _stop_reason(blocks),
        "usage": _usage((10, 5)),
        "metrics": {"latencyMs": 1},
    }
    return json.dumps(reply).encode()
