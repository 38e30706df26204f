"""Events of a webhook to a bus or a queue of AWS: many in a request, each taken or not by itself.

Sources: Amazon EventBridge, "PutEvents"; Amazon SQS, "SendMessageBatch".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

from arbiter.aws.envelopes import entry_of, text_of
from blackboard.destinations import Place
from blackboard.events import Event
from wrapper.aws_clients import AwsUnavailable, Clients

BATCH = 10
BATCH_BYTES = 256 * 1024
"""Most that one request carries, and so the most that one event has."""
_BESIDE_BYTES = 1024
"""So much of it is for what an entry has beside the event."""
_NEVER = ("MalformedDetail", "InvalidArgument", "InvalidMessageContents")
"""What is said about the event itself, which will not change."""

Answer = tuple[str | None, bool]
"""What was wrong, None where it was taken; and whether it will not be taken later either."""


class Sender:
    """Sends to buses and queues, with the credentials of this process."""

    def __init__(self) -> None:
        self._clients = Clients()

    async def send(self, place: Place, events: Sequence[Event]) -> list[Answer]:
        """Send events, in as few requests as they fit into, all of which are made at once: together they take as long as one,
        and whoever sends holds the events for a minute. What became of each, in their order.

        Args:
            events: of runs that differ, so that none overtakes another of its run.
        """
        texts = [text_of(event, BATCH_BYTES - _BESIDE_BYTES) for event in events]
        parts: list[slice] = []
        last = 0
        while last < len(events):
            first, size = last, 0
            while last < min(first + BATCH, len(events)):
                size += len(texts[last].encode()) + _BESIDE_BYTES
                if size > BATCH_BYTES and last > first:
                    break
                last += 1
            parts.append(slice(first, last))
        answers = await asyncio.gather(*(self._request(place, events[part], texts[part]) for part in parts))
        return [*chain.from_iterable(answers)]

    async def look(self, place: Place) -> None:
        """Whether the bus or queue is there.

        Raises:
            AwsUnavailable: it is not, or cannot be reached.
        """
        if place.service == "sqs":
            given: dict[str, Any] = {"QueueUrl": place.address, "AttributeNames": ["QueueArn"]}
            await self._clients.call("sqs", place.region, "get_queue_attributes", **given)
        else:
            await self._clients.call("events", place.region, "describe_event_bus", Name=place.address)

    async def _request(self, place: Place, events: Sequence[Event], texts: Sequence[str]) -> list[Answer]:
        both = list(zip(events, texts, strict=True))
        try:
            if place.service == "events":
                entries = [entry_of(event, text, place.address) for event, text in both]
                answer = await self._clients.call("events", place.region, "put_events", Entries=entries)
                return [_answer(one.get("ErrorCode"), one.get("ErrorMessage")) for one in answer["Entries"]]
            messages = [_message(str(at), place, *one) for at, one in enumerate(both)]
            given: dict[str, Any] = {"QueueUrl": place.address, "Entries": messages}
            answer = await self._clients.call("sqs", place.region, "send_message_batch", **given)
        except AwsUnavailable as error:
            return [(str(error)[:500], False)] * len(events)
        failed = {int(one["Id"]): one for one in answer.get("Failed", ())}
        return [
            _answer(failed[at].get("Code"), failed[at].get("Message")) if at in failed else (None, False)
            for at in range(len(events))
        ]


def _message(id: str, place: Place, event: Event, text: str) -> dict[str, Any]:
    if not place.name.endswith(".fifo"):
        return {"Id": id, "MessageBody": text}
    group, same = (hashlib.sha256(each.encode()).hexdigest() for each in (event.partitionkey, event.id))
    return {"Id": id, "MessageBody": text, "MessageGroupId": group, "MessageDeduplicationId": same}


def _answer(code: str | None, said: str | None) -> Answer:
    return (f"{code}: {said}"[:500] if code else None, code in _NEVER)
