"""No model, said outright: for processes that carry out calls and given plans, and ask nobody."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel
from strands.models import Model

from blackboard.errors import ModelUnavailable

if TYPE_CHECKING:
    from strands.types.content import Messages
    from strands.types.streaming import StreamEvent
    from strands.types.tools import ToolSpec

T = TypeVar("T", bound=BaseModel)

_SAID = "This process has no model: it was started with `none`. Name one with model=, --model or ARBITER_MODEL."


class NoModel(Model):
    """A Strands model that answers nothing: whoever asks it gets :class:`~blackboard.errors.ModelUnavailable`."""

    label = "none (no model)"

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> dict[str, Any]:
        """The configuration; ``model_id`` is ``none``."""
        return {"model_id": "none"}

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Refuse; see the class."""
        raise ModelUnavailable(_SAID)
        yield {}

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Refuse; see the class."""
        raise ModelUnavailable(_SAID)
        yield {}
