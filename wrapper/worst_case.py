"""How many tokens can a request to a model be at most, and how many its answer?

Sent tokens are bounded by the bytes of the request, because no tokenizer in use makes more than one token from a byte; so a call
of mostly prose reserves about four times what it will consume. The answer is bounded by ``max_tokens`` of the model's
configuration, without one by a default, which is right only if the provider is told of it (:func:`bound_output`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from strands.models import Model

OUTPUT_TOKENS = 8192
"""The most a model is taken to answer when its configuration has no ``max_tokens``."""
_FRAME_TOKENS = 1024
"""What providers add to a request: role marks, and a system prompt of their own where tools are offered."""
_MEDIA_TOKENS = 16_384
"""Bound of one image, document or video that is sent."""
_MEDIA = ("image", "document", "video", "audio")

_BEDROCK_OUTPUT = {"nova": 5000, "llama": 2048, "titan": 3072, "command": 4000, "mistral": 4096, "claude-3-haiku": 4096}
"""Models of Bedrock that refuse a request for 8,192 tokens of answer, by a part of their names, and what they allow."""


def most_input(messages: Sequence[Mapping[str, Any]], tools: Sequence[object] = (), system: str | None = None) -> int:
    """The most tokens a request can be: one for each byte, and bounds for media and for what providers add."""
    blocks = [block for message in messages for block in message["content"]]
    # Nearly all of a long conversation is text; the rest is looked into only where there may be media.
    texts = [str(block["text"]) for block in blocks if block.keys() == {"text"}]
    others: list[object] = [block for block in blocks if block.keys() != {"text"}]
    media = 0
    written = _json(others)
    if '"source"' in written:
        parted = [_without_media(block) for block in others]
        written, media = _json([kept for kept, _ in parted]), sum(found for _, found in parted)
    size = sum(map(_bytes, (system or "", _json(list(tools)), written, *texts)))
    return size + media * _MEDIA_TOKENS + _FRAME_TOKENS + 16 * len(messages)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda one: "" if isinstance(one, bytes) else str(one))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _without_media(value: object) -> tuple[object, int]:
    """The value without its images, documents and videos, and how many there were."""
    found = 0
    if isinstance(value, Mapping):
        kept: dict[str, object] = {}
        for key, inner in cast("Mapping[str, object]", value).items():
            if key in _MEDIA and isinstance(inner, Mapping) and "source" in inner:
                found += 1
            else:
                kept[key], more = _without_media(cast(object, inner))
                found += more
        return kept, found
    if isinstance(value, list):
        items = [_without_media(each) for each in cast("list[object]", value)]
        return [each for each, _ in items], sum(more for _, more in items)
    return value, 0


def most_output(model: Model, otherwise: int = OUTPUT_TOKENS) -> int:
    """The most tokens a model may answer, as it is configured; ``otherwise`` when it has no bound."""
    config = _mapping(model.get_config())
    for place in (config, _mapping(config.get("params")), _mapping(config.get("options"))):
        for key in ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"):
            value: object = place.get(key)
            if isinstance(value, int) and value > 0:
                return value
    return otherwise


def bound_output(model: Model, tokens: int = OUTPUT_TOKENS) -> Model:
    """Tell a model of a known provider that has no bound on its answer the bound that is reserved for it."""
    if most_output(model, 0):
        return model
    kind, config = type(model).__name__, _mapping(model.get_config())
    if kind == "BedrockModel":
        name = str(config.get("model_id"))
        small = [most for part, most in _BEDROCK_OUTPUT.items() if part in name]
        model.update_config(max_tokens=min([tokens, *small]))
    elif kind == "OpenAIModel":
        model.update_config(params={**_mapping(config.get("params")), "max_completion_tokens": tokens})
    elif kind == "OllamaModel":
        model.update_config(max_tokens=tokens)
    return model


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
