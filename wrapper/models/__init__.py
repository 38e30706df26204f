"""Models: from a string to a Strands model, from a model to one whole reply, and the two models that are not real.

What enters: a model string or any Strands ``Model``; a conversation in Bedrock shape. What leaves: a :class:`Reply`,
or an error that says whether trying later makes sense (``as_failure``: as the failure of a task).

``resolve``     which model does this string name?
``describe``    what do people read where it is named?
``converse``    ask once, get a whole reply (``reply`` assembles it, ``failures`` judges errors, ``estimate`` counts)
``quoting``     how is data put into a prompt, so that it cannot be taken for instructions?
``scripted``    :class:`ScriptedModel`, for tests and demonstrations (``script``: its format, ``template``: its answers)
``recorded``    :class:`RecordedModel`, record and replay

Strands and boto3 take half a second to import: the two model classes load on first use, and nothing else here needs
them before it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# These three share their names with their modules. Imported here, the functions are what the package shows for good.
from wrapper.models.converse import converse
from wrapper.models.describe import describe, model_source
from wrapper.models.failures import (
    ContextOverflow,
    ModelCallFailed,
    ModelTransient,
    ReplyTruncated,
    StreamCut,
    as_failure,
)
from wrapper.models.quoting import quoted
from wrapper.models.reply import Reply, ToolUse
from wrapper.models.resolve import resolve

if TYPE_CHECKING:
    from wrapper.models.recorded import RecordedModel, RecordingDrift
    from wrapper.models.scripted import ScriptedModel, ScriptExhausted
    from wrapper.models.template import TemplateUnresolved

__all__ = [
    "ContextOverflow",
    "ModelCallFailed",
    "ModelTransient",
    "RecordedModel",
    "RecordingDrift",
    "Reply",
    "ReplyTruncated",
    "ScriptExhausted",
    "ScriptedModel",
    "StreamCut",
    "TemplateUnresolved",
    "ToolUse",
    "as_failure",
    "converse",
    "describe",
    "model_source",
    "quoted",
    "resolve",
]

_HOMES = {
    "RecordedModel": "recorded",
    "RecordingDrift": "recorded",
    "ScriptExhausted": "scripted",
    "ScriptedModel": "scripted",
    "TemplateUnresolved": "template",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
