"""Large values in S3: the real boto3 client against a server on loopback that speaks the part of S3's protocol it uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from blackboard.board import Board
from blackboard.errors import BlobDamaged, BlobMissing, BlobUnavailable
from blackboard.events import RunAccepted

LARGE = {"rows": ["ü" * 100] * 1000}
BODY = json.dumps(LARGE, separators=(",", ":")).encode()


@dataclass
class Bucket:
    """What the stub holds, what it was asked, and how it misbehaves."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    deny: set[str] = field(default_factory=set)
    """Methods answered with 403."""
    fail: int = 0
    """How many requests are answered with 503 before one is served."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix("/blobs").lstrip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.bucket.asked.append((self.command, key))
        assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/")
        if not unquote(parts.path).startswith("/blobs"):
            return self._error(404, "NoSuchBucket")
        if self.bucket.fail:
            self.bucket.fail -= 1
            return self._error(503, "SlowDown")
        if self.command in self.bucket.deny:
            return self._error(403, "AccessDenied")
        objects = self.bucket.objects
        if self.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == self.headers["x-amz-content-sha256"]
            assert self.headers["Content-Type"] == "application/json"
            objects[key] = body
            return self._reply(200, b"")
        if self.command == "GET" and not key:
            prefix = parse_qs(parts.query)["prefix"][0]
            found = "".join(f"<Contents><Key>{escape(k)}</Key></Contents>" for k in objects if k.startswith(prefix))
            return self._reply(
                200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
            )
        if self.command == "DELETE":
            objects.pop(key, None)
            return self._reply(204, b"")
        if key not in objects:
            return self._error(404, "NoSuchKey")
        return self._reply(200, objects[key])

    do_GET = do_HEAD = do_PUT = do_DELETE = _serve

    def _error(self, status: int, code: str) -> None:
        self._reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    held = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"bucket": held}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    held.url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL_S3": held.url, "AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield held
    server.shutdown()
    server.server_close()


async def opened(board_name: str, url: str = "s3://blobs/some/prefix") -> Board:
    return await Board.open(f"memory://{board_name}", board=board_name, blobs=url)


async def request(board: Board, run_id: str) -> Any:
    (accepted,) = [event for event in await board.history(run_id) if isinstance(event, RunAccepted)]
    return await board.load(run_id, accepted.data.request)


async def test_a_value_is_put_once_read_verified_and_removed_with_its_run(bucket: Bucket, board_name: str) -> None:
    async with await opened(board_name) as board:
        run_id = await board.submit(LARGE, idempotency_key="k")
        key = f"some/prefix/arbiter/{board_name}/{run_id}/{hashlib.sha256(BODY).hexdigest()}.json"
        assert bucket.objects == {key: BODY}
        await board.submit(LARGE, idempotency_key="k")
        assert [method for method, _ in bucket.asked] == ["HEAD", "PUT", "HEAD"], "the same again is not sent again"
        assert await request(board, run_id) == LARGE
        other = await board.submit(LARGE)

        bucket.objects[key] = BODY[:-1] + b" "
        with pytest.raises(BlobDamaged, match="s3://blobs/some/prefix"):
            await request(board, run_id)
        await board.blobs.delete_run(run_id)
        with pytest.raises(BlobMissing, match="s3://blobs/some/prefix"):
            await request(board, run_id)
        assert await request(board, other) == LARGE


async def test_without_the_right_to_list_a_value_is_stored_all_the_same(bucket: Bucket, board_name: str) -> None:
    bucket.deny = {"HEAD"}
    async with await opened(board_name) as board:
        assert await request(board, await board.submit(LARGE)) == LARGE


async def test_a_busy_store_is_asked_again_and_a_refusing_one_is_unavailable(bucket: Bucket, board_name: str) -> None:
    async with await opened(board_name) as board:
        bucket.fail = 1
        run_id = await board.submit(LARGE)
        bucket.deny = {"GET", "PUT"}
        with pytest.raises(BlobUnavailable, match="AccessDenied"):
            await request(board, run_id)
        with pytest.raises(BlobUnavailable, match="AccessDenied"):
            await board.submit({"other": LARGE})
        assert [run.id for run in await board.runs()] == [run_id]


async def test_no_bucket_is_unavailable(bucket: Bucket, board_name: str) -> None:
    async with await opened(board_name, "s3://nowhere") as board:
        with pytest.raises(BlobUnavailable, match=r"s3://nowhere/arbiter/.* cannot be used: .*"):
            await board.submit(LARGE)
