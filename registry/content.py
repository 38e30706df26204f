"""The one JSON text of a value, and the hashes that identify content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue

from blackboard.errors import BadInput


def canonical(value: JsonValue | Mapping[str, Any]) -> str:
    """The one JSON text of a value: keys sorted, no spaces, only numbers JSON has.

    Raises:
        BadInput: NaN, an infinity, half of a surrogate pair, or something that is not JSON.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput("manifest", str(error), "Use plain JSON values: no NaN, no infinity, text as UTF-8.") from None
    return text


def sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 form, in hex.

    Raises:
        BadInput: the text holds half of a surrogate pair.
    """
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise BadInput("source", text, "It holds half of a surrogate pair; write it as UTF-8.") from None


def text_hash(manifest_text: str, artifact_sha: str | None) -> str:
    """The content hash of a stored manifest text and the hash of its artifact."""
    content = cast(dict[str, JsonValue], json.loads(manifest_text))
    content.pop("provenance", None)
    return sha256(canonical({"manifest": content, "source": artifact_sha}))
