"""Tables of DynamoDB as the reference pattern keeps its agents in them: a row for each, whose code lies in S3.

A row is no tool that is called elsewhere: its code is registered here, and runs as any other code does, isolated and without
grants. Unless whoever set the table vouches for what lies there, a person has to look at each version before it runs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from blackboard.catalog import MAX_SOURCE_BYTES
from blackboard.errors import BadInput
from registry.peers import Listing, Offer, Refused, lane
from registry.peers.offers import MOST_TOOLS
from registry.peers.records import import_records
from registry.tables import Imported
from wrapper.aws_clients import AwsUnavailable, Clients
from wrapper.failing import Permanent
from wrapper.peers.peer import REFRESH_SECONDS, START_SECONDS, checked_seconds
from wrapper.reporting import Reporter
from wrapper.secrets import Secrets

SCAN_SECONDS = 60.0
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_CODE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_ATTEMPTS = 4
_MISSING = ("NoSuchKey", "404")


@dataclass(frozen=True, kw_only=True)
class DynamoPeer:
    """A table, and where the code of its rows lies.

    Args:
        name: what it is called here.
        table: its name.
        code: ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``, before the ``filename`` of a row.
        vouch: whether this process signs and offers what lies there. Default: each version is a draft, which a person looks
            at, signs and activates.
        region: of table and bucket. Default: as boto3 finds it.
        tenant: who may use the capabilities.
        refresh_seconds: how often it is read.
        answer_seconds: how long that may take.

    Raises:
        BadInput: a setting that cannot be right.
    """

    name: str
    table: str
    code: str
    vouch: bool = False
    region: str | None = None
    tenant: str = "*"
    refresh_seconds: float = REFRESH_SECONDS
    answer_seconds: float = SCAN_SECONDS

    def __post_init__(self) -> None:
        lane(self.kind, self.name)
        if not _TABLE.fullmatch(self.table):
            raise BadInput("peer.table", self.table, "Give the name of a table.")
        if not _CODE.fullmatch(self.code):
            raise BadInput("peer.code", self.code, "Give s3://BUCKET or s3://BUCKET/PREFIX.")
        checked_seconds("refresh_seconds", self.refresh_seconds)
        checked_seconds("answer_seconds", self.answer_seconds)

    @property
    def kind(self) -> str:
        return "dynamodb"

    @property
    def open_seconds(self) -> float:
        return START_SECONDS

    @asynccontextmanager
    async def open(self, secrets: Secrets) -> AsyncGenerator[_Rows]:
        yield _Rows(self)


class _Rows:
    """What a table says each time it is read."""

    def __init__(self, peer: DynamoPeer) -> None:
        self._peer, self._clients = peer, Clients(_ATTEMPTS)
        found = _CODE.fullmatch(peer.code)
        assert found is not None
        self._bucket, self._prefix = found[1], f"{found[2].rstrip('/')}/" if found[2] else ""
        self._known: dict[str, tuple[str, str]] = {}
        """Tag and text of each file, as it was last read."""

    async def offers(self) -> Listing:
        """The rows that can be taken, with their code."""
        rows = list[Any]()
        given: dict[str, Any] = {"TableName": self._peer.table}
        while len(rows) <= MOST_TOOLS:
            page = await self._clients.call("dynamodb", self._peer.region, "scan", **given)
            rows += page.get("Items", [])
            if "LastEvaluatedKey" not in page:
                break
            given = {**given, "ExclusiveStartKey": page["LastEvaluatedKey"]}
        found = import_records(rows[:MOST_TOOLS], tenant=self._peer.tenant)
        refused = [Refused(row.name[:200], str(row.problem)) for row in found.refused]
        if len(rows) > MOST_TOOLS:
            refused.append(Refused("", f"more than {MOST_TOOLS} are offered"))
        offers: list[Offer] = []
        for one in found.imported:
            try:
                offers.append(await self._offer(one))
            except BadInput as error:
                refused.append(Refused(_tool(one)[:200], str(error)))
        # A scan has no order, and what is the same has to look the same.
        return Listing(tuple(sorted(offers, key=lambda each: each.tool)), tuple(sorted(refused)))

    async def call(self, tool: str, given: Mapping[str, JsonValue], report: Reporter | None) -> JsonValue:
        """Nothing is called there."""
        raise Permanent(f"{tool} is a row of a table: its code runs here")

    async def changed(self) -> None:
        """A table does not say so."""
        await asyncio.Event().wait()

    async def _offer(self, one: Imported) -> Offer:
        tool, peer = _tool(one), self._peer
        if not one.filename.endswith(".py"):
            raise BadInput(
                "record.filename", one.filename, "Only code in Python, in a file that ends with .py, is taken."
            )
        manifest = one.manifest.model_copy(
            update={
                "provenance": {**one.manifest.provenance, "peer": {"kind": peer.kind, "name": peer.name, "tool": tool}}
            }
        )
        return Offer(tool, manifest, await self._text(one.filename), peer.vouch)

    async def _text(self, filename: str) -> str:
        key = self._prefix + filename.lstrip("/")
        where = f"s3://{self._bucket}/{key}"
        tag, text = self._known.get(key, ("", ""))
        given: dict[str, Any] = {"Bucket": self._bucket, "Key": key, **({"IfNoneMatch": tag} if tag else {})}
        try:
            answer = await self._clients.call("s3", self._peer.region, "get_object", **given)
        except AwsUnavailable as error:
            if error.code == "304":
                return text
            if error.code in _MISSING:
                raise BadInput("record.filename", filename, f"There is no {where}.") from None
            raise
        content: bytes = await asyncio.to_thread(answer["Body"].read, MAX_SOURCE_BYTES + 1)
        if len(content) > MAX_SOURCE_BYTES:
            raise BadInput("record.filename", filename, f"{where} is larger than {MAX_SOURCE_BYTES:,} bytes.")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise BadInput("record.filename", filename, f"{where} is not UTF-8.") from None
        self._known[key] = answer["ETag"], text
        return text


def _tool(one: Imported) -> str:
    record: Any = one.manifest.provenance["record"]
    return str(record.get("toolId") or record.get("agentId"))
