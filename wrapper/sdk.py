"""All that generated code may import of this distribution: ``from wrapper import sdk``.

Works only inside an isolated run, where every function here speaks to the host over the run's private channel. The host
decides what is granted; a refused call raises :class:`CallError`. Importing this module loads no host code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from wrapper.context import TaskContext, current_task
from wrapper.failing import Permanent, RetryLater
from wrapper.isolation.channel import CallError, call, call_async, current

if TYPE_CHECKING:
    from strands.models import Model

__all__ = [
    "CallError",
    "Permanent",
    "RetryLater",
    "TaskContext",
    "call",
    "call_async",
    "current_task",
    "log",
    "model",
]


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
