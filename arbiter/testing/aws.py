"""A local AWS: SQS, EventBridge, DynamoDB and S3, as far as the bridge to them goes, over real HTTP.

    with AwsStub() as aws:
        os.environ.update(aws.environment)
        url = aws.queue("orders")

So the real boto3 client and everything above it can be tested without an account. It checks no signatures and no rights. What is
received is invisible until :meth:`AwsStub.passed` moves its clock on; nothing becomes visible by waiting.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

REGION = "eu-central-1"
ACCOUNT = "123456789012"
_VISIBILITY_SECONDS = 30


@dataclass
class Message:
    """One message in a queue."""

    id: str
    body: str
    group: str | None = None
    received: int = 0
    """How often it was handed out."""
    hidden_until: float = 0.0
    receipt: str = ""


@dataclass
class Queue:
    """A queue, and what was taken out of it."""

    name: str
    most_receives: int | None = None
    """A message that was handed out so often goes to ``dead`` in place of being handed out once more."""
    messages: list[Message] = field(default_factory=list[Message])
    dead: list[Message] = field(default_factory=list[Message])
    deleted: list[str] = field(default_factory=list[str])
    """Ids of messages, in order."""


@dataclass
class _Fault:
    action: str
    code: str
    status: int
    entries: Sequence[str | None] = ()


class _Failed(Exception):
    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


class AwsStub:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Each request in order: its action, such as ``PutEvents``, and what it says."""
        self.queues: dict[str, Queue] = {}
        """By URL."""
        self.buses: dict[str, list[dict[str, Any]]] = {"default": []}
        """Envelopes on each bus, by its name."""
        self.tables: dict[str, list[dict[str, Any]]] = {}
        """Rows as DynamoDB types them."""
        self.objects: dict[tuple[str, str], bytes] = {}
        """By bucket and key."""
        self.page = 100
        """Rows of a table that one answer has."""
        self._routes: dict[str, list[str]] = {}
        self._faults: list[_Fault] = []
        self._held: set[str] = set()
        self._time = 0.0
        self._closed = self._empty = False
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"stub": self}))
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What leads boto3 here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.address, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }  # fmt: skip

    def queue(self, name: str, most_receives: int | None = None) -> str:
        """Make a queue; returns its URL."""
        url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"
        self.queues[url] = Queue(name, most_receives)
        return url

    def send(self, url: str, *bodies: str, group: str | None = None) -> list[str]:
        """Put messages into a queue; returns their ids."""
        made = [Message(str(uuid.uuid4()), body, group) for body in bodies]
        with self._changed:
            self.queues[url].messages += made
            self._changed.notify_all()
        return [one.id for one in made]

    def route(self, bus: str, url: str) -> None:
        """Have each event of a bus sent to a queue, as a rule with a queue for its target does."""
        self._routes.setdefault(bus, []).append(url)

    def passed(self, seconds: float) -> None:
        """Let so much time go by: what was received and is not deleted by then can be received again."""
        with self._changed:
            self._time += seconds
            self._changed.notify_all()

    def end_poll(self) -> None:
        """Answer the poll that waits, or else the next one, as if it had waited its time in vain."""
        with self._changed:
            self._empty = True
            self._changed.notify_all()

    def fail(self, action: str, code: str, *, status: int = 400, times: int = 1) -> None:
        """Answer the next requests for an action with an error."""
        self._faults += [_Fault(action, code, status) for _ in range(times)]

    @contextmanager
    def held(self, action: str) -> Generator[None, None, None]:
        """Answer no request for an action within the block, nor do what it asks for."""
        self._held.add(action)
        yield
        with self._changed:
            self._held.discard(action)
            self._changed.notify_all()

    def fail_entries(self, action: str, *codes: str | None) -> None:
        """Refuse single entries of the next request for an action: a code for each, None for one that is taken."""
        self._faults.append(_Fault(action, "", 200, codes))

    # ---- inside ------------------------------------------------------------------------------------------------------

    def answer(self, action: str, said: dict[str, Any]) -> dict[str, Any]:
        """What is answered to a request."""
        with self._changed:
            self.asked.append((action, said))
            if action in self._held:
                self._changed.wait_for(lambda: self._closed or action not in self._held)
                raise _Failed("ServiceUnavailable", 503)
            fault = next((one for one in self._faults if one.action == action), None)
            if fault is not None:
                self._faults.remove(fault)
                if fault.code:
                    raise _Failed(fault.code, fault.status)
            done: Any = getattr(self, f"_{action}", None)
            if done is None:
                raise _Failed("UnknownOperationException")
            return done(said, fault.entries) if fault is not None else done(said)

    def _named(self, said: Mapping[str, Any]) -> Queue:
        if said["QueueUrl"] not in self.queues:
            raise _Failed("AWS.SimpleQueueService.NonExistentQueue")
        return self.queues[said["QueueUrl"]]

    def _GetQueueAttributes(self, said: dict[str, Any]) -> dict[str, Any]:
        queue = self._named(said)
        found = {
            "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.name}",
            "ApproximateNumberOfMessages": str(len(queue.messages)),
        }
        if queue.most_receives is not None:
            target = {"deadLetterTargetArn": "arn:aws:sqs:::dead", "maxReceiveCount": queue.most_receives}
            found["RedrivePolicy"] = json.dumps(target)
        return {"Attributes": {name: found[name] for name in said["AttributeNames"] if name in found}}

    def _ReceiveMessage(self, said: dict[str, Any]) -> dict[str, Any]:
        queue = self._named(said)
        self._changed.wait_for(
            lambda: self._closed or self._empty or any(one.hidden_until <= self._time for one in queue.messages),
            said.get("WaitTimeSeconds", 0),
        )
        self._empty = False
        out: list[Message] = []
        for one in list(queue.messages):
            if self._closed or one.hidden_until > self._time or len(out) == said.get("MaxNumberOfMessages", 1):
                continue
            if queue.most_receives is not None and one.received >= queue.most_receives:
                queue.messages.remove(one)
                queue.dead.append(one)
                continue
            one.received += 1
            one.hidden_until, one.receipt = self._time + _VISIBILITY_SECONDS, uuid.uuid4().hex
            out.append(one)
        if not out:
            return {}
        return {
            "Messages": [
                {"MessageId": one.id, "ReceiptHandle": one.receipt, "Body": one.body, "MD5OfBody": _md5(one.body)}
                for one in out
            ]
        }

    def _DeleteMessageBatch(self, said: dict[str, Any], refused: Sequence[str | None] = ()) -> dict[str, Any]:
        queue = self._named(said)

        def delete(one: Mapping[str, Any]) -> dict[str, Any]:
            for message in queue.messages:
                if message.receipt == one["ReceiptHandle"]:
                    queue.messages.remove(message)
                    queue.deleted.append(message.id)
                    break
            return {}

        return _batch(said["Entries"], refused, delete)

    def _ChangeMessageVisibilityBatch(self, said: dict[str, Any], refused: Sequence[str | None] = ()) -> dict[str, Any]:
        queue = self._named(said)

        def change(one: Mapping[str, Any]) -> dict[str, Any]:
            for message in queue.messages:
                if message.receipt == one["ReceiptHandle"]:
                    message.hidden_until = self._time + one["VisibilityTimeout"]
            return {}

        found = _batch(said["Entries"], refused, change)
        self._changed.notify_all()
        return found

    def _SendMessageBatch(self, said: dict[str, Any], refused: Sequence[str | None] = ()) -> dict[str, Any]:
        queue = self._named(said)

        def put(one: Mapping[str, Any]) -> dict[str, Any]:
            queue.messages.append(Message(str(uuid.uuid4()), one["MessageBody"], one.get("MessageGroupId")))
            return {"MessageId": queue.messages[-1].id, "MD5OfMessageBody": _md5(one["MessageBody"])}

        found = _batch(said["Entries"], refused, put)
        self._changed.notify_all()
        return found

    def _bus(self, named: str) -> str:
        name = named.rpartition("event-bus/")[2]
        if name not in self.buses:
            raise _Failed("ResourceNotFoundException")
        return name

    def _DescribeEventBus(self, said: dict[str, Any]) -> dict[str, Any]:
        name = self._bus(said.get("Name", "default"))
        return {"Name": name, "Arn": f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{name}"}

    def _PutEvents(self, said: dict[str, Any], refused: Sequence[str | None] = ()) -> dict[str, Any]:
        told: list[dict[str, Any]] = []
        for number, one in enumerate(said["Entries"]):
            if number < len(refused) and (code := refused[number]) is not None:
                told.append({"ErrorCode": code, "ErrorMessage": "no"})
                continue
            name = self._bus(one.get("EventBusName", "default"))
            id = str(uuid.uuid4())
            envelope = {
                "version": "0", "id": id, "detail-type": one["DetailType"], "source": one["Source"], "account": ACCOUNT,
                "time": "2026-01-31T08:00:00Z", "region": REGION, "resources": one.get("Resources", []),
                "detail": json.loads(one["Detail"]),
            }  # fmt: skip
            self.buses[name].append(envelope)
            for url in self._routes.get(name, ()):
                self.queues[url].messages.append(Message(str(uuid.uuid4()), json.dumps(envelope)))
            told.append({"EventId": id})
        self._changed.notify_all()
        return {"FailedEntryCount": sum("ErrorCode" in one for one in told), "Entries": told}

    def _Scan(self, said: dict[str, Any]) -> dict[str, Any]:
        if said["TableName"] not in self.tables:
            raise _Failed("ResourceNotFoundException")
        rows = self.tables[said["TableName"]]
        first = int(said.get("ExclusiveStartKey", {}).get("n", {}).get("N", "0"))
        found = {"Items": rows[first : first + self.page], "Count": len(rows[first : first + self.page])}
        more = first + self.page < len(rows)
        return {**found, "LastEvaluatedKey": {"n": {"N": str(first + self.page)}}} if more else found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: AwsStub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            said = cast("dict[str, Any]", json.loads(body or b"{}"))
            answer, status = self.stub.answer(self.headers["X-Amz-Target"].rpartition(".")[2], said), 200
        except _Failed as error:
            answer, status = {"__type": f"com.amazonaws#{error.code}", "message": "no"}, error.status
        self._reply(status, json.dumps(answer).encode(), "application/x-amz-json-1.1")

    def do_GET(self) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        self.stub.asked.append(("GetObject", {"Bucket": bucket, "Key": key}))
        found = self.stub.objects.get((bucket, key))
        if found is None:
            return self._reply(404, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>", "application/xml")
        tag = f'"{hashlib.md5(found, usedforsecurity=False).hexdigest()}"'
        same = self.headers.get("If-None-Match") == tag
        self._reply(304 if same else 200, b"" if same else found, "binary/octet-stream", tag)

    def _reply(self, status: int, body: bytes, media: str, tag: str | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            if tag is not None:
                self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # whoever asked is gone
            self.close_connection = True


def _batch(entries: Sequence[Mapping[str, Any]], refused: Sequence[str | None], carry_out: Any) -> dict[str, Any]:
    successful: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for number, one in enumerate(entries):
        code = refused[number] if number < len(refused) else None
        if code is None:
            successful.append({"Id": one["Id"], **carry_out(one)})
        else:
            failed.append(
                {"Id": one["Id"], "Code": code, "SenderFault": code == "InvalidMessageContents", "Message": "no"}
            )
    return {"Successful": successful, "Failed": failed}


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
