"""The model broker: isolated code asks for a model, this side holds the credentials, checks the grant and meters tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from blackboard.budgets import BudgetExhausted
from blackboard.errors import ArbiterError
from blackboard.types import Usage
from registry import Manifest
from wrapper.isolation import BrokerError
from wrapper.models import ModelCallFailed, ReplyTruncated, converse

if TYPE_CHECKING:
    from strands.models import Model

MODEL_INVOKE = "model.invoke"


class AttemptBroker:
    """Answers the calls of one attempt.

    Which model is asked is the wrapper's choice: what the code names as ``model_id`` or configures is not honoured.

    Args:
        manifest: of the capability that runs; its grants and token limit are enforced here.
        model: gives the configured model, or None when this wrapper has none.
    """

    def __init__(self, manifest: Manifest, model: Callable[[], Model] | None) -> None:
        self._manifest, self._model = manifest, model
        self.usage = Usage()
        """What the attempt's model calls consumed so far."""
        self.exhausted: BudgetExhausted | None = None
        """The last budget that had no room for a call."""
        self.failed: ModelCallFailed | None = None
        """Why the last call was not answered; None when it was, or was not made."""

    async def __call__(self, method: str, args: JsonValue) -> JsonValue:
        """Answer one call.

        Raises:
            BrokerError: the method is unknown or not granted, the token limit is reached, or the model failed.
        """
        if method != MODEL_INVOKE:
            raise BrokerError("denied", f"There is no broker for {method!r}.")
        if not self._manifest.grants.model:
            raise BrokerError("denied", f"{self._manifest.name} was not granted a model; its manifest must say so.")
        if self._model is None:
            raise BrokerError("denied", "This worker has no model configured.")
        if self.usage.total_tokens >= self._manifest.limits.tokens:
            raise BrokerError("limit", f"The attempt used its {self._manifest.limits.tokens:,} tokens.")
        if not isinstance(args, dict) or not isinstance(args.get("messages"), list):
            raise BrokerError("protocol", "model.invoke takes an object with messages.")
        request = cast("dict[str, Any]", args)
        self.failed = None
        try:
            reply = await converse(
                self._model(),
                request["messages"],
                tools=request.get("tool_specs") or (),
                system=request.get("system_prompt"),
                tool_choice=request.get("tool_choice"),
            )
        except ReplyTruncated as error:
            self.usage += error.usage
            raise BrokerError("model_error", str(error)) from error
        except ModelCallFailed as error:
            self.usage += error.usage
            self.failed = error
            kind = "ContextWindowOverflowException" if error.code == "context_overflow" else "model_error"
            raise BrokerError(kind, str(error)) from error
        except BudgetExhausted as error:
            self.exhausted = error
            raise BrokerError("limit", str(error)) from error
        except ArbiterError as error:
            raise BrokerError("model_error", str(error)) from error
        self.usage += reply.usage
        return {
            "message": cast(JsonValue, reply.message),
            "stopReason": reply.stop_reason,
            "usage": {
                "inputTokens": reply.usage.input_tokens,
                "outputTokens": reply.usage.output_tokens,
                "totalTokens": reply.usage.total_tokens,
            },
        }
