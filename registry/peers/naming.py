"""Names of capabilities for what remote systems call their tools: legal, unique, the same in every process."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from blackboard.errors import BadInput
from registry.tables import legal_name

_MOST = 64
_MARK = 6


def names(prefix: str, tools: Sequence[str]) -> dict[str, str]:
    """A capability name for each tool: ``files`` and ``readText`` make ``files_read_text``.

    Where several tools would get the same name, or one has nothing legal in it or is too long, those whose own name was
    changed get a mark made from it. So a name depends on the tool and its neighbours, never on their order.
    """
    plain = {tool: _plain(prefix, tool) for tool in tools}
    count = Counter(plain.values())
    return {
        tool: name
        if name and (count[name] == 1 or name == f"{prefix}_{tool}") and len(name) <= _MOST
        else _marked(name or prefix, tool)
        for tool, name in plain.items()
    }


def _plain(prefix: str, tool: str) -> str:
    try:
        return f"{prefix}_{legal_name(tool if tool[:1].isalpha() else f'n_{tool}')}"
    except BadInput:
        return ""


def _marked(name: str, tool: str) -> str:
    mark = hashlib.sha256(tool.encode("utf-8", "replace")).hexdigest()[:_MARK]
    return f"{name[: _MOST - _MARK - 1].rstrip('_')}_{mark}"
