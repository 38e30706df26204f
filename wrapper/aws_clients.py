"""Clients of boto3: made once, called in threads that nobody waits for; what goes wrong says what to do.

Regions and credentials are found as boto3 finds them, ``AWS_REGION`` first. Nothing is sent again here but by whoever asked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from blackboard.errors import ArbiterError
from registry.threads import Unstoppable

CONNECT_SECONDS = 10
READ_SECONDS = 30
"""Longer than a poll of a queue waits."""
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine a role."
_REMEDIES: Mapping[str, str] = {
    "NoRegionError": "Set AWS_REGION.",
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": "Check AWS_PROFILE.",
    "EndpointConnectionError": "Check AWS_REGION, AWS_ENDPOINT_URL and the network.",
    "AccessDenied": "Allow the action to the role of this process; docs/aws.md lists what is needed.",
    "AccessDeniedException": "Allow the action to the role of this process; docs/aws.md lists what is needed.",
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "ExpiredToken": "Renew the credentials.",
    "ExpiredTokenException": "Renew the credentials.",
    "QueueDoesNotExist": "Name the URL of a queue that is there.",
    "AWS.SimpleQueueService.NonExistentQueue": "Name the URL of a queue that is there.",
    "ResourceNotFoundException": "Name one that is there, in the region that is meant.",
}


class AwsUnavailable(ArbiterError):
    """AWS cannot be reached, or refuses; the message says what, and what to do.

    Args:
        said: what was asked for, and what came of it.
        remedy: what to do; empty where nobody knows.
        code: AWS's or boto3's word for it.
    """

    def __init__(self, said: str, remedy: str, code: str) -> None:
        super().__init__(f"{said} {remedy}".rstrip())
        self.said, self.remedy, self.code = said, remedy, code


class Clients:
    """The clients of one user, by service and region.

    Args:
        attempts: how often boto3 sends a request until it gives up.
    """

    def __init__(self, attempts: int = 1) -> None:
        self._attempts = attempts
        self._made: dict[tuple[str, str | None], Any] = {}
        self._making = threading.Lock()
        self._threads = Unstoppable()

    async def call(
        self,
        service: str,
        region: str | None,
        operation: str,
        *,
        late: Callable[[dict[str, Any]], object] | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        """What an operation of a service answers.

        Args:
            region: None: as boto3 finds it.
            operation: as the client's method is called.
            late: told in the thread what came after this was cancelled.

        Raises:
            AwsUnavailable: it does not answer, or refuses.
        """
        lock, gone = threading.Lock(), False

        def ask() -> dict[str, Any]:
            answer = self.ask(service, region, operation, **given)
            with lock:
                unseen = gone
            if unseen and late is not None:
                late(answer)
            return answer

        try:
            return await self._threads.run(ask)
        except asyncio.CancelledError:
            with lock:
                gone = True
            raise

    def ask(self, service: str, region: str | None, operation: str, **given: Any) -> dict[str, Any]:
        """:meth:`call` for whoever has a thread."""
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            return cast("dict[str, Any]", getattr(self._client(service, region), operation)(**given))
        except ClientError as error:
            said = cast("dict[str, Any]", cast(Any, error).response).get("Error", {})
            code = str(said.get("Code"))
            raise _unavailable(f"{service} {operation}", code, f"{code}: {said.get('Message')}") from error
        except (BotoCoreError, ValueError) as error:  # the latter for an address that botocore cannot read
            raise _unavailable(f"{service} {operation}", type(error).__name__, str(error)) from error

    def _client(self, service: str, region: str | None) -> Any:
        with self._making:
            if (service, region) not in self._made:
                import boto3  # pyright: ignore[reportMissingTypeStubs]
                from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

                config = Config(
                    connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self._attempts},
                )  # fmt: skip
                session: Any = cast(Any, boto3).session.Session()
                where = region or os.environ.get("AWS_REGION")  # which boto3 leaves to others
                self._made[service, region] = session.client(service, region_name=where, config=config)
            return self._made[service, region]


def _unavailable(what: str, code: str, said: str) -> AwsUnavailable:
    return AwsUnavailable(f"{what}: {' '.join(said.split()).rstrip('.')}.", _REMEDIES.get(code, ""), code)
