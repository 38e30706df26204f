"""Which model does this string name?"""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blackboard.errors import BadInput, MissingExtra, ModelUnavailable

if TYPE_CHECKING:
    from strands.models import Model

FORMS = ("bedrock:ID", "anthropic:ID", "openai:ID", "ollama:ID[@host]", "scripted:FILE", "recorded:FILE")
"""The forms of a model string."""
_USE = f"Use {', '.join(FORMS)} or a Strands Model object."
_DEFAULT = "No model was named, so this is the default. Name another with model=, --model or ARBITER_MODEL."

_LARGEST_REPLY_TOKENS = 8192
"""Anthropic's interface demands a bound; this one leaves room for a generated module."""

_FAMILIES = {
    "claude": "anthropic",
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "llama": "ollama",
    "qwen": "ollama",
    "mistral": "ollama",
    "gemma": "ollama",
}


def resolve(spec: str | Model | None = None, **options: Any) -> Model:
    """Turn a model string into a Strands model whose client does not retry on its own.

    ``bedrock`` alone uses the default model of Strands. ``ollama:llama3.2:3b@gpu-box:11434`` names a host; without one
    OLLAMA_HOST or http://localhost:11434 is used.

    Args:
        spec: one of :data:`FORMS`, or a Strands model, which is returned as it is. None means the environment variable
            ARBITER_MODEL, or ``bedrock``.
        options: passed to the model: configuration such as ``max_tokens`` and ``temperature``; for bedrock also
            ``region_name``, ``endpoint_url``, ``api_key`` and ``read_timeout_seconds``; for anthropic and openai
            ``client_args``; for scripted those of ``ScriptedModel``; for recorded ``record=<model or string>`` to
            record instead of replaying, ``ignore`` and ``append``.

    Raises:
        BadInput: the string has no known form, lacks its part after the colon, or names an unusable file.
        MissingExtra: the provider's client library is not installed; the message has the command.
        ModelUnavailable: a credential is missing or the provider's configuration is unusable.
    """
    if spec is None and not os.environ.get("ARBITER_MODEL"):
        try:
            return _bedrock("", options)
        except ModelUnavailable as error:
            raise ModelUnavailable(f"{error} {_DEFAULT}") from None
    if spec is None:
        spec = os.environ["ARBITER_MODEL"]
    if not isinstance(spec, str):
        return _model_object(spec, options)
    provider, _, name = spec.strip().partition(":")
    build = _BUILDERS.get(provider)
    if build is None:
        raise BadInput("model", spec, _USE + _suggestion(spec, provider, name))
    if not name and provider != "bedrock":
        form = next(form for form in FORMS if form.startswith(provider))
        raise BadInput("model", spec, f"Write {form}.")
    return build(name, options)


def _model_object(spec: object, options: Mapping[str, Any]) -> Model:
    # A duck-typed check, because naming the class would import Strands for an input that may be nonsense.
    if not callable(getattr(spec, "stream", None)) or not callable(getattr(spec, "get_config", None)):
        raise BadInput("model", spec, _USE)
    if options:
        raise BadInput("model", spec, f"Options apply to model strings; configure the object ({', '.join(options)}).")
    return cast("Model", spec)


def _suggestion(spec: str, provider: str, name: str) -> str:
    close = difflib.get_close_matches(provider.lower(), _BUILDERS, n=1, cutoff=0.6)
    if close and name:
        return f" Did you mean {close[0]}:{name}?"
    if close:
        return f" Did you mean {next(form for form in FORMS if form.startswith(close[0]))}?"
    if Path(spec).suffix in (".json", ".jsonl"):
        return f" Did you mean {'scripted' if Path(spec).suffix == '.json' else 'recorded'}:{spec}?"
    if spec.startswith("arn:") or ("." in provider and provider.split(".")[0].isalpha()):
        return f" Did you mean bedrock:{spec}?"
    family = next((maker for start, maker in _FAMILIES.items() if spec.lower().startswith(start)), None)
    return f" Did you mean {family}:{spec}?" if family else ""


def _bedrock(name: str, options: dict[str, Any]) -> Model:
    from wrapper.models.bedrock import bedrock_model

    return bedrock_model(name or None, **options)


def _require(extra: str) -> None:
    if importlib.util.find_spec(extra) is None:
        raise MissingExtra(f"{extra} is not installed. Run: pip install 'arbiter[{extra}]'")


def _credential(provider: str, options: Mapping[str, Any], *variables: str) -> dict[str, Any]:
    """Client arguments with retries off; refuses to go on without a key."""
    arguments = {**cast("Mapping[str, Any]", options.get("client_args") or {}), "max_retries": 0}
    keyed = any(os.environ.get(variable) for variable in variables) or "api_key" in arguments
    if not keyed:
        raise ModelUnavailable(f"{provider}: {variables[0]} is not set. Set it to your API key.")
    return arguments


def _anthropic(name: str, options: dict[str, Any]) -> Model:
    _require("anthropic")
    arguments = _credential("anthropic", options, "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    from strands.models.anthropic import AnthropicModel

    config: dict[str, Any] = {
        "max_tokens": _LARGEST_REPLY_TOKENS,
        **options,
        "client_args": arguments,
        "model_id": name,
    }
    return AnthropicModel(**config)


def _openai(name: str, options: dict[str, Any]) -> Model:
    _require("openai")
    arguments = _credential("openai", options, "OPENAI_API_KEY")
    from strands.models.openai import OpenAIModel

    config: dict[str, Any] = {**options, "client_args": arguments, "model_id": name}
    for key in ("max_tokens", "temperature"):
        if key in config:
            config.setdefault("params", {})
            config["params"] = {**config["params"], key: config.pop(key)}
    return OpenAIModel(**config)


def _ollama(name: str, options: dict[str, Any]) -> Model:
    _require("ollama")
    from strands.models.ollama import OllamaModel

    model_id, _, host = name.partition("@")
    if not model_id:
        raise BadInput("model", f"ollama:{name}", "Write ollama:ID[@host].")
    return OllamaModel(host or os.environ.get("OLLAMA_HOST") or "http://localhost:11434", model_id=model_id, **options)


def _scripted(name: str, options: dict[str, Any]) -> Model:
    from wrapper.models.scripted import ScriptedModel

    try:
        return ScriptedModel.from_file(name, **options)
    except BadInput as error:
        raise _about_model("scripted", name, error) from error


def _recorded(name: str, options: dict[str, Any]) -> Model:
    from wrapper.models.recorded import RecordedModel

    record: str | Model | None = options.pop("record", None)
    try:
        if record is None:
            return RecordedModel(name, **options)
        return RecordedModel(name, "record", resolve(record), **options)
    except BadInput as error:
        raise error if error.field == "model" else _about_model("recorded", name, error) from error


def _about_model(provider: str, name: str, error: BadInput) -> BadInput:
    """The same refusal, seen from the one who wrote the model string."""
    place = "" if error.field in ("script", "path") else f"In {error.field}: {error.value!r}. "
    return BadInput("model", f"{provider}:{name}", place + error.remedy)


_BUILDERS: Mapping[str, Callable[[str, dict[str, Any]], Model]] = {
    "bedrock": _bedrock,
    "anthropic": _anthropic,
    "openai": _openai,
    "ollama": _ollama,
    "scripted": _scripted,
    "recorded": _recorded,
}
