"""Where blobs can be: on the board's own server, in a folder, in S3."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from blackboard import _keys
from blackboard.blobs import INLINE_BYTES, LEAST_INLINE_BYTES, MOST_INLINE_BYTES, ON_THE_BOARD, Store, choose
from blackboard.errors import BadInput, BlobMissing, BlobUnavailable

if TYPE_CHECKING:
    import redis.asyncio

_S3_SECONDS = 20


class RedisStore:
    """One hash for each run, on the run's shard. A blob is sent in one command, so its size is felt by other clients."""

    label = "the board's server"

    def __init__(
        self,
        client: redis.asyncio.Redis,
        shard_of: Callable[[str], _keys.Shard],
        repeated: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._client, self._shard_of, self._repeated = client, shard_of, repeated

    def _key(self, run_id: str) -> str:
        return self._shard_of(run_id).blobs(run_id)

    async def put(self, run_id: str, name: str, body: bytes) -> None:
        # Written over what is there: equal if intact, and mended if not.
        await self._asked(lambda: cast(Any, self._client).hset(self._key(run_id), name, body))

    async def get(self, run_id: str, name: str) -> bytes:
        body: bytes | None = await self._asked(
            lambda: cast(Any, self._client).execute_command("HGET", self._key(run_id), name, **{NEVER_DECODE: True})
        )
        if body is None:
            raise _missing(run_id, name, self.label)
        return body

    async def delete(self, run_id: str, name: str) -> None:
        await self._asked(lambda: cast(Any, self._client).hdel(self._key(run_id), name))

    async def delete_run(self, run_id: str) -> None:
        await self._asked(lambda: self._client.unlink(self._key(run_id)))

    async def _asked(self, command: Callable[[], Any]) -> Any:
        try:
            return await self._repeated(command)
        except ResponseError as error:
            remedy = "Give the server more memory, or keep large values in a folder or in S3."
            raise BlobUnavailable(f"The board's server refused a large value: {error}. {remedy}") from error


class FolderStore:
    """A file for each blob under ``<root>/<namespace>/<board>/<run>/``, readable by its owner only."""

    def __init__(self, root: Path, namespace: str, board: str) -> None:
        self._root = root / namespace / board
        self.label = f"the folder {self._root}"

    def _path(self, run_id: str, name: str) -> Path:
        return self._root / run_id / f"{name}.json"

    async def put(self, run_id: str, name: str, body: bytes) -> None:
        await self._threaded(self._write, self._path(run_id, name), body)

    async def get(self, run_id: str, name: str) -> bytes:
        try:
            return await self._threaded(self._path(run_id, name).read_bytes)
        except FileNotFoundError:
            raise _missing(run_id, name, self.label) from None

    async def delete(self, run_id: str, name: str) -> None:
        await self._threaded(partial(self._path(run_id, name).unlink, missing_ok=True))

    async def delete_run(self, run_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            await self._threaded(shutil.rmtree, self._root / run_id)

    async def _threaded(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.to_thread(call, *args)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BlobUnavailable(f"{self.label} cannot be used: {error}. See that it exists and is yours.") from error

    def _write(self, path: Path, body: bytes) -> None:
        made = _make(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for folder in (path.parent, *made):  # the names must be as durable as the content
            _sync(folder)


class S3Store:
    """An object for each blob under ``s3://<bucket>/<prefix>/<namespace>/<board>/<run>/``.

    Credentials, region and endpoint are those of boto3 (``AWS_PROFILE``, ``AWS_ENDPOINT_URL_S3``, …). It needs the
    permissions GetObject and PutObject, for retention ListBucket and DeleteObject as well. Repeating failed requests
    is left to boto3.
    """

    def __init__(self, bucket: str, prefix: str, namespace: str, board: str) -> None:
        self._bucket = bucket
        self._prefix = "/".join(part for part in (prefix.strip("/"), namespace, board) if part)
        self.label = f"s3://{bucket}/{self._prefix}"
        self._client: Any = None
        self._making = threading.Lock()

    def _key(self, run_id: str, name: str) -> str:
        return f"{self._prefix}/{run_id}/{name}.json"

    async def put(self, run_id: str, name: str, body: bytes) -> None:
        place = {"Bucket": self._bucket, "Key": self._key(run_id, name)}

        def put(client: Any) -> None:
            # Without ListBucket, S3 says 403 of what is not there.
            if _absent(lambda: client.head_object(**place)["ContentLength"], "403") != len(body):
                client.put_object(**place, Body=body, ContentType="application/json")

        await asyncio.to_thread(self._call, put)

    async def get(self, run_id: str, name: str) -> bytes:
        place = {"Bucket": self._bucket, "Key": self._key(run_id, name)}
        body: bytes | None = await asyncio.to_thread(
            self._call, lambda client: _absent(lambda: client.get_object(**place)["Body"].read())
        )
        if body is None:
            raise _missing(run_id, name, self.label)
        return body

    async def delete(self, run_id: str, name: str) -> None:
        place = {"Bucket": self._bucket, "Key": self._key(run_id, name)}
        await asyncio.to_thread(self._call, lambda client: client.delete_object(**place))

    async def delete_run(self, run_id: str) -> None:
        prefix = f"{self._prefix}/{run_id}/"

        def delete(client: Any) -> None:
            # One by one: a run has few, and not every S3 takes the checksum of a request for many.
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    client.delete_object(Bucket=self._bucket, Key=found["Key"])

        await asyncio.to_thread(self._call, delete)

    def _call(self, use: Callable[[Any], Any]) -> Any:
        """In a thread: boto3 blocks, and importing it alone takes half a second."""
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            with self._making:
                if self._client is None:
                    self._client = _s3_client()
            return use(self._client)
        except (BotoCoreError, ClientError) as error:
            raise BlobUnavailable(f"{self.label} cannot be used: {error}") from error


def check_options(blobs: str | None, inline_bytes: int | None) -> None:
    """Refuse what could not be a store or a limit, before anything is opened.

    Raises:
        BadInput: a malformed store, or a limit out of bounds.
    """
    choose(blobs)
    if inline_bytes is not None and not LEAST_INLINE_BYTES <= inline_bytes <= MOST_INLINE_BYTES:
        remedy = f"Use a number of bytes from {LEAST_INLINE_BYTES:,} to {MOST_INLINE_BYTES:,}."
        raise BadInput("inline_bytes", inline_bytes, remedy)


async def settle(
    repeated: Callable[[Callable[[], Any]], Awaitable[Any]],
    client: redis.asyncio.Redis,
    key: str,
    made: Mapping[str, str],
    blobs: str | None,
    inline_bytes: int | None,
) -> tuple[str, int]:
    """The store and the limit of a board, which are written beside what was fixed when it was made.

    Args:
        key: the board's meta hash, ``made`` what it said.

    Raises:
        BadInput: the board has another store.
    """
    if "blobs" not in made or inline_bytes is not None:

        async def write() -> dict[str, str]:
            wanted = choose(blobs or os.environ.get("ARBITER_BLOBS"))
            await cast(Any, client).hsetnx(key, "blobs", wanted)
            if inline_bytes is not None:
                await cast(Any, client).hset(key, "inline_bytes", str(inline_bytes))
            return await cast(Any, client).hgetall(key)

        made = await repeated(write)
    if blobs is not None and choose(blobs) != made["blobs"]:
        raise BadInput(
            "blobs", choose(blobs), f"This board keeps large values in {made['blobs']} for good. Leave the option out, or "
            "use another board.",
        )  # fmt: skip
    return made["blobs"], int(made.get("inline_bytes", INLINE_BYTES))


def open_store(
    url: str,
    namespace: str,
    board: str,
    client: redis.asyncio.Redis,
    shard_of: Callable[[str], _keys.Shard],
    repeated: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> Store:
    """The store of a URL as :func:`~blackboard.blobs.choose` gives it."""
    if url == ON_THE_BOARD:
        return RedisStore(client, shard_of, repeated)
    if url.startswith("file://"):
        return FolderStore(Path(url.removeprefix("file://")), namespace, board)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix, namespace, board)


def _missing(run_id: str, name: str, label: str) -> BlobMissing:
    return BlobMissing(
        f"sha256:{name} of run {run_id} is not in {label}: it expired, was removed, or this process looks into another "
        "place. Submit the request again if the value is needed."
    )


def _make(folder: Path) -> list[Path]:
    """Make a folder for its owner only. Returns the folders in which a name is new."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=0o700)
    return [one.parent for one in missing]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _absent(call: Callable[[], Any], *denied: str) -> Any:
    """The reply; None when there is no such object."""
    from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]

    try:
        return call()
    except ClientError as error:
        code = str(cast(Any, error.response).get("Error", {}).get("Code"))
        if code in ("404", "NoSuchKey", *denied):
            return None
        raise


def _s3_client() -> Any:
    import boto3  # pyright: ignore[reportMissingTypeStubs]
    from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    config = Config(
        connect_timeout=_S3_SECONDS, read_timeout=_S3_SECONDS, retries={"mode": "standard", "total_max_attempts": 4}
    )
    return cast(Any, boto3).session.Session().client("s3", config=config)
