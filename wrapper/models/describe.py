"""What should people read where a model is named?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from blackboard.taint import source

if TYPE_CHECKING:
    from strands.models import Model

_PROVIDERS = {
    "BedrockModel": "bedrock",
    "AnthropicModel": "anthropic",
    "OpenAIModel": "openai",
    "OllamaModel": "ollama",
}


def describe(model: Model) -> str:
    """One line that names a model for people, for example ``bedrock:us.amazon.nova-lite-v1:0``.

    Models that are not real carry a ``label`` of their own, which says so and is returned as it is.
    """
    label = getattr(model, "label", None)
    if isinstance(label, str):
        return label
    config: object = model.get_config()
    known: Mapping[str, Any] = cast("Mapping[str, Any]", config) if isinstance(config, Mapping) else {}
    kind = type(model).__name__
    return ":".join(part for part in (_PROVIDERS.get(kind, kind), str(known.get("model_id") or "")) if part)


def provider_of(model: Model) -> tuple[str, str]:
    """Who offers a model, as the conventions of OpenTelemetry call them, and what the model is called there."""
    name = describe(model)
    provider, colon, id = name.partition(":")
    if not colon or not provider.isidentifier():
        return name.partition(" ")[0].rstrip(","), name
    return {"bedrock": "aws.bedrock"}.get(provider, provider), id


def model_source(model: Model) -> str:
    """The source that a model's words come from, ``model:bedrock:us.amazon.nova-lite-v1:0``; see :mod:`blackboard.taint`."""
    return source("model", describe(model).partition(" ")[0].rstrip(","))
