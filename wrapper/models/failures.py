"""Which failures of a model provider are worth another try, and what can a person do about the others?

Providers fail through botocore, httpx, urllib3 or their own client libraries, none of which may be imported here (an
installation carries only the ones it uses). Errors are therefore recognised by what they carry, an error code or an
HTTP status, and by the qualified names of their classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

from blackboard.budgets import Paced
from blackboard.errors import ModelUnavailable
from blackboard.types import LONGEST_RETRY_AFTER, Failure, Usage

if TYPE_CHECKING:
    from wrapper.models.reply import Reply


class ModelCallFailed(ModelUnavailable):
    """A call to a model failed for good. The message is one line and ends with what to do.

    Args:
        message: one line for people.
        code: the provider's word for the failure, lower case (``accessdenied``, ``throttling``, ``cut``).
        attempts: how many times the call was tried.
        usage: what the failed attempts consumed, estimated.
    """

    retryable = False

    def __init__(self, message: str, *, code: str, attempts: int = 1, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.code, self.attempts, self.usage = code, attempts, usage or Usage()


class ModelTransient(ModelCallFailed):
    """The provider was throttled, slow, unreachable or broken, still so after the last attempt. Later it may work.

    ``retry_after`` is the number of seconds the provider asked to wait, when it said so.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str,
        attempts: int = 1,
        usage: Usage | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, attempts=attempts, usage=usage)
        self.retry_after = retry_after


class StreamCut(ModelTransient):
    """The reply stopped in the middle, or what arrived cannot be a whole reply. It is never an empty answer."""


class ContextOverflow(ModelCallFailed):
    """The conversation does not fit the model's context window."""


def as_failure(error: ModelCallFailed, message: str) -> Failure:
    """A failed model call as the failure of the task that made it with ``durable``: ``model_error``, also known by the
    provider's code and, where the provider had too much to do, as ``throttled``. Cut replies were repeated by the call,
    so they are not once more by the task.
    """
    names = dict.fromkeys((error.code, *(("throttled",) if error.code in _THROTTLED else ())))
    wait = error.retry_after if isinstance(error, ModelTransient) else None
    return Failure(
        type="model_error",
        message=message,
        retryable=error.retryable and not isinstance(error, StreamCut),
        evidence={"code": error.code},
        names=tuple(names),
        retry_after_seconds=None if wait is None else min(wait, LONGEST_RETRY_AFTER),
    )


class ReplyTruncated(ModelCallFailed):
    """The model reached its output limit, so text or tool calls are incomplete. ``reply`` holds what it wrote."""

    def __init__(self, message: str, *, reply: Reply, attempts: int = 1) -> None:
        super().__init__(message, code="max_tokens", attempts=attempts, usage=reply.usage)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means: its code, whether another try makes sense, what to do, how long to wait first.

    ``known`` is False when the error was not recognised at all.
    """

    code: str
    transient: bool
    remedy: str
    retry_after: float | None = None
    overflow: bool = False
    known: bool = True


_BUSY = "Wait and try again, or ask the provider for a higher quota."
_BROKEN = "The provider has a problem; try again later."
_NETWORK = "Check the network and the endpoint address, then try again."
_CREDENTIALS = (
    "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or AWS_BEARER_TOKEN_BEDROCK."
)
_EXPIRED = "The credentials have expired; sign in again (for example `aws sso login`)."
_QUOTA = "The account's quota or credit is used up; waiting a moment does not help. Raise it with the provider."

_TRANSIENT_CODES = {
    "throttling": _BUSY,
    "throttled": _BUSY,
    "toomanyrequests": _BUSY,
    "requestlimitexceeded": _BUSY,
    "rate_limit_error": _BUSY,
    "overloaded_error": _BUSY,
    "modelnotready": "The model is still loading; try again shortly.",
    "internalserver": _BROKEN,
    "internalfailure": _BROKEN,
    "serviceunavailable": _BROKEN,
    "modelstreamerror": _BROKEN,
    "modelerror": _BROKEN,
    "modeltimeout": _BROKEN,
    "requesttimeout": _BROKEN,
    "api_error": _BROKEN,
    "timeout_error": _BROKEN,
}
_PERMANENT_CODES = {
    "accessdenied": "Enable the model for this account and allow bedrock:InvokeModelWithResponseStream in its policy.",
    "expiredtoken": _EXPIRED,
    "unrecognizedclient": _CREDENTIALS,
    "invalidclienttokenid": _CREDENTIALS,
    "invalidsignature": _CREDENTIALS,
    "signaturedoesnotmatch": _CREDENTIALS,
    "resourcenotfound": "Check the model id, and that the region (AWS_REGION) offers it.",
    "servicequotaexceeded": _QUOTA,
    "insufficient_quota": _QUOTA,
    "validation": "The provider refused the request as invalid; check the model id and its options.",
}
_TRANSIENT_STATUS = {408: _BROKEN, 424: _BROKEN, 425: _BROKEN, 429: _BUSY, 529: _BUSY}
_PERMANENT_STATUS = {
    400: "The provider refused the request as invalid; check the model id and its options.",
    401: "Check the API key.",
    402: _QUOTA,
    403: "The credentials are not allowed to use this model; ask for access or use another model.",
    404: "Check the model id (for ollama, `ollama pull` it first) and the endpoint address.",
    413: "The request is too large for the provider; shorten it.",
}
_TRANSIENT_TYPES = {
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.eventstream.ParserError",
    "botocore.parsers.ResponseParserError",
    "urllib3.exceptions.HTTPError",
    "http.client.HTTPException",
    "httpx.TransportError",
    "anthropic.APIConnectionError",
    "openai.APIConnectionError",
    "builtins.ConnectionError",
    "builtins.TimeoutError",
}
_PERMANENT_TYPES = {
    "botocore.exceptions.SSLError": "The endpoint's certificate was not accepted; check the address and AWS_CA_BUNDLE.",
    "botocore.exceptions.NoCredentialsError": _CREDENTIALS,
    "botocore.exceptions.PartialCredentialsError": _CREDENTIALS,
    "botocore.exceptions.CredentialRetrievalError": _CREDENTIALS,
    "botocore.exceptions.ProfileNotFound": "Name a profile that exists in AWS_PROFILE, or unset it.",
    "botocore.exceptions.InvalidEndpointConfigurationError": "Correct the endpoint address; an API key needs https.",
    "botocore.exceptions.SSOError": _EXPIRED,
    "botocore.exceptions.TokenRetrievalError": _EXPIRED,
    "botocore.exceptions.ParamValidationError": "The request does not fit the provider's interface; check its tools.",
}
_THROTTLED = {code for code, remedy in _TRANSIENT_CODES.items() if remedy == _BUSY} | {"http_429", "http_529"}
# The provider says more in its sentence than in its code.
_SENTENCES = {
    "model identifier is invalid": "Check the model id, and that the region (AWS_REGION) offers it.",
    "on-demand throughput": "Use the id of an inference profile instead, such as us.<model id> or global.<model id>.",
}


def diagnose(error: BaseException) -> Verdict:
    """Say what a provider's error means. Unknown errors are permanent: repeating a defect does not cure it."""
    chain = list(_chain(error))
    asked = next((wait for link in chain if (wait := retry_after(link)) is not None), None)
    for link in reversed(chain):
        if _code(link) == "insufficient_quota":
            return Verdict("insufficient_quota", False, _QUOTA)
    for link in chain:
        if type(link).__name__ == "ContextWindowOverflowException":
            return Verdict("context_overflow", False, "Shorten the request or use a larger model.", overflow=True)
        if isinstance(link, Paced):
            return Verdict("throttled", True, "Give the model a larger quota, or ask less.", link.retry_after_seconds)
        if type(link).__name__ == "ModelThrottledException":
            return Verdict("throttled", True, _BUSY, asked)
        found = _by_code(link) or _by_status(link) or _by_type(link)
        if found is not None:
            code, transient, remedy = found
            return Verdict(code, transient, remedy, asked)
    remedy = "This is a defect of the model object or its configuration."
    return Verdict(type(error).__name__.lower(), False, remedy, known=False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        link = link.__cause__


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _code(error: BaseException) -> str:
    """The provider's code, lower case without the word ``exception``; empty when there is none.

    botocore keeps it in ``response["Error"]["Code"]``; anthropic and openai in ``body["error"]["type"]`` or ``code``,
    also for an error that arrives in the middle of a stream whose HTTP status was 200.
    """
    aws: object = _mapping(_mapping(getattr(error, "response", None)).get("Error")).get("Code")
    body = _mapping(getattr(error, "body", None))
    nested = _mapping(body.get("error"))
    for word in (aws, getattr(error, "code", None), nested.get("code"), nested.get("type"), body.get("type")):
        if isinstance(word, str) and word:
            return word.lower().removesuffix("exception")
    return ""


def _status(error: BaseException) -> int | None:
    metadata = _mapping(_mapping(getattr(error, "response", None)).get("ResponseMetadata"))
    for value in (metadata.get("HTTPStatusCode"), getattr(error, "status_code", None)):
        if isinstance(value, int):
            return value
    return None


def _by_code(error: BaseException) -> tuple[str, bool, str] | None:
    code = _code(error)
    if code in _TRANSIENT_CODES:
        return code, True, _TRANSIENT_CODES[code]
    if code in _PERMANENT_CODES:
        said = str(error).lower()
        return code, False, next((r for words, r in _SENTENCES.items() if words in said), _PERMANENT_CODES[code])
    return None


def _by_status(error: BaseException) -> tuple[str, bool, str] | None:
    status = _status(error)
    if status is None or status < 400:
        return None
    code = _code(error) or f"http_{status}"
    if status in _TRANSIENT_STATUS or status >= 500:
        return code, True, _TRANSIENT_STATUS.get(status, _BROKEN)
    return code, False, _PERMANENT_STATUS.get(status, _PERMANENT_STATUS[400])


def _by_type(error: BaseException) -> tuple[str, bool, str] | None:
    for kind in type(error).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _PERMANENT_TYPES:
            return type(error).__name__.lower(), False, _PERMANENT_TYPES[name]
        if name in _TRANSIENT_TYPES:
            return type(error).__name__.lower(), True, _NETWORK
    return None


def retry_after(error: BaseException) -> float | None:
    """Seconds from a ``Retry-After`` header (RFC 9110 §10.2.3: a number or a date), wherever the client kept it."""
    response = getattr(error, "response", None)
    metadata = _mapping(_mapping(response).get("ResponseMetadata"))
    headers = metadata.get("HTTPHeaders") or getattr(response, "headers", None)
    if headers is None:
        return None
    return seconds_after(
        {str(k).lower(): str(v) for k, v in dict(cast("Mapping[str, Any]", headers)).items()}.get("retry-after", "")
    )


def seconds_after(value: str) -> float | None:
    """The seconds from now that a ``Retry-After`` header says; None where it says nothing."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
