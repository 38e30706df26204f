"""The static gate: what a candidate may not contain, with a message that says what to write instead.

It judges facts that an isolated child read from the syntax tree; the source is never parsed here. It is a gate for
quality and a precise teacher for the repair loop, **not** a wall: names are checked, not objects, and code that passes
is trusted no more than code that does not. Isolation is the wall.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from fabricator.catalogue import COMMUNITY, VENDED, catalogue
from registry import Grants

MOST_BYTES = 64 * 1024
_MOST_VIOLATIONS = 20

_ALLOWED_MODULES_WORDS = """
__future__ abc array asyncio base64 binascii bisect calendar cmath codecs collections colorsys configparser contextlib
copy csv dataclasses datetime decimal difflib enum fractions functools graphlib hashlib heapq hmac html io ipaddress
itertools json keyword logging math numbers operator pprint random re secrets statistics string struct textwrap time
tomllib typing typing_extensions unicodedata urllib.parse uuid warnings xml.etree zlib zoneinfo
"""
ALLOWED_MODULES = frozenset(_ALLOWED_MODULES_WORDS.split())

_NETWORK_WORDS = """
requests httpx urllib urllib3 aiohttp http socket ssl ftplib smtplib imaplib poplib telnetlib websockets websocket
paramiko asyncssh xmlrpc socketserver selectors select
"""
_NETWORK = frozenset(_NETWORK_WORDS.split())
_EVENTS_WORDS = """
redis boto3 botocore aioboto3 celery kombu kafka pika aiokafka aio_pika nats
arbiter blackboard registry fabricator wrapper
"""
_EVENTS = frozenset(_EVENTS_WORDS.split())
_HOST_WORDS = """
os sys subprocess shutil pathlib tempfile glob importlib builtins ctypes cffi gc inspect pickle marshal shelve dill
multiprocessing threading signal resource runpy code codeop platform pty fcntl mmap site sysconfig traceback types
atexit pkgutil zipimport zipfile tarfile sqlite3 dbm getpass pwd concurrent faulthandler tracemalloc
"""
_HOST = frozenset(_HOST_WORDS.split())
_REEXPORTED = frozenset({"os", "sys", "subprocess", "builtins", "importlib", "ctypes", "posix", "shutil"})
_MEMBERS = {
    "create_subprocess_exec": "it starts processes",
    "create_subprocess_shell": "it starts processes",
    "subprocess_exec": "it starts processes",
    "open_connection": "it opens connections",
    "open_unix_connection": "it opens connections",
    "start_server": "it opens a server",
    "start_unix_server": "it opens a server",
    "create_connection": "it opens connections",
    "FileIO": "it opens files",
    "open_code": "it opens files",
    "FileHandler": "it writes files",
}
_FILES = frozenset({"io.open", "codecs.open", "gzip.open"})
_POSTING = frozenset({"put_events", "xadd", "send_message", "complete_task", "post_event", "publish_event"})
_BUILTINS = {
    "input": "nobody answers on a terminal; take the data as a parameter",
    "exit": "return a result or raise ValueError",
    "quit": "return a result or raise ValueError",
    "breakpoint": "remove it",
    "getattr": "write the attribute itself, or use a dict",
    "setattr": "write the assignment itself, or use a dict",
    "delattr": "write the statement itself, or use a dict",
    "vars": "use a dict",
    "dir": "name what you need",
    "globals": "name what you need",
    "locals": "name what you need",
}
_DUNDER_WORDS = """
name doc all init post_init repr str eq ne lt le gt ge hash len iter next contains getitem setitem delitem enter exit
aenter aexit aiter anext call bool int float index add radd iadd sub rsub mul rmul truediv floordiv mod pow neg pos abs
and or xor invert slots missing match_args reversed round format version author
"""
_DUNDERS = frozenset(f"__{name}__" for name in _DUNDER_WORDS.split())
_REACHING_TEXT = re.compile(
    r"__(class|globals|builtins|subclasses|mro|bases?|dict|import|code|closure|getattribute|reduce(_ex)?|func|self|loader"
    r"|spec|wrapped)__"
)


class Violation(NamedTuple):
    """One thing a candidate may not contain."""

    rule: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


def violations(facts: Mapping[str, Any], grants: Grants, extra_imports: Iterable[str] = ()) -> list[Violation]:
    """What a candidate contains and may not.

    Args:
        facts: what ``inspect`` found, see :func:`wrapper.isolation.inspection.inspect_source`.
        grants: of the capability; they open modules.
        extra_imports: further top-level modules that are allowed.

    Returns:
        At most twenty violations, by line.
    """
    syntax = facts.get("syntax_error")
    if syntax:
        said = f"{syntax.get('message')}: {str(syntax.get('text') or '').strip()!r}"
        return [Violation("syntax", int(syntax.get("line") or 0), f"It is not Python: {said}.")]
    found = sorted(
        dict.fromkeys(
            [
                *_size(facts),
                *_imports(facts, grants, frozenset(extra_imports)),
                *_names(facts),
                *_builtins(facts, grants),
                *_attributes(facts, grants),
                *_texts(facts),
            ]
        ),
        key=lambda each: each.line,
    )
    return found[:_MOST_VIOLATIONS]


def _entries(facts: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", facts.get(kind) or [])


def _size(facts: Mapping[str, Any]) -> Iterator[Violation]:
    size = int(facts.get("source_bytes", 0))
    if size > MOST_BYTES:
        yield Violation("size", 0, f"The module has {size} bytes; at most {MOST_BYTES} are accepted.")
    if facts.get("truncated"):
        yield Violation("size", 0, "The module has more names than can be checked; write it shorter.")


def _imports(facts: Mapping[str, Any], grants: Grants, extra: frozenset[str]) -> Iterator[Violation]:
    for each in _entries(facts, "imports"):
        line, module, names = int(each["line"]), str(each["module"]), [str(name) for name in each["names"]]
        if each["level"]:
            yield Violation("import", line, "A relative import has nothing to refer to; the module stands alone.")
        elif "*" in names:
            yield Violation("import", line, f"Import the names you need from {module} instead of '*'.")
        elif message := _refused_import(module, names, grants, extra):
            yield Violation("import", line, message)
        else:
            for name in (name for name in names if name.startswith("_")):
                yield Violation("import", line, f"{module}.{name} is private; use what {module} offers publicly.")
            for name in sorted(set(names) & _REEXPORTED):
                yield Violation("import", line, f"{module}.{name} reaches the machine; it is not allowed.")
            for name in names:
                if name in _MEMBERS or f"{module}.{name}" in _FILES:
                    yield Violation(
                        "import", line, f"{module}.{name} is not allowed: {_MEMBERS.get(name) or _files(grants)}."
                    )


def _refused_import(module: str, names: list[str], grants: Grants, extra: frozenset[str]) -> str | None:
    top = module.split(".")[0]
    if top in extra or top in grants.packages or _allowed(module, names):
        return None
    if module == "wrapper.sdk" or (module == "wrapper" and names == ["sdk"]):
        if grants == Grants():
            return (
                f"{module} needs the model grant, or that of a host, a file or a topic, and this capability has none. "
                "Compute the result yourself."
            )
        return None
    if top in ("strands", COMMUNITY):
        if not grants.model:
            return f"{module} needs the model grant, which this capability does not have. Compute the result yourself."
        return _refused_tool(module, names)
    if top in _EVENTS:
        return (
            f"{module} is not allowed, and no grant opens it: a handler returns its result and the caller reports it. It posts "
            "no events and reaches no queue, store or cloud service."
        )
    if top in _NETWORK:
        if grants.http_hosts:
            return f"{module} cannot be used: the box has no network of its own. Ask the broker: wrapper.sdk.fetch(…)."
        return f"{module} needs an http grant, which this capability does not have. Take the data as a parameter."
    if top in _HOST:
        return f"{module} reaches the machine, which no grant allows. Take what you need as a parameter."
    if top in sys.stdlib_module_names:
        return f"{module} is not among the allowed modules, and no grant opens it. Use those you were given."
    return (
        f"{module} needs the packages grant for {top}, which only the operator gives, and this capability does not have. "
        "Use the standard library modules you were given."
    )


def _allowed(module: str, names: list[str]) -> bool:
    parts = module.split(".")
    if any(".".join(parts[: n + 1]) in ALLOWED_MODULES for n in range(len(parts))):
        return True
    return bool(names) and all(f"{module}.{name}" in ALLOWED_MODULES for name in names)


def _refused_tool(module: str, names: list[str]) -> str | None:
    if not module.startswith((VENDED, COMMUNITY)):
        return None
    refused = {tool.name: tool for tool in catalogue() if not tool.usable and module.startswith(tool.package)}
    for name in (*module.split("."), *(each.removeprefix("make_") for each in names)):
        if name in refused:
            reached = ", ".join(refused[name].reaches)
            return f"The tool {name} reaches {reached}, which is not granted. Take the data as a parameter."
    return None


def _names(facts: Mapping[str, Any]) -> Iterator[Violation]:
    for each in _entries(facts, "non_ascii_identifiers"):
        yield Violation("identifier", int(each["line"]), f"{each['name']!r} is not ASCII; rename it.")
    for each in _entries(facts, "dunders"):
        if each["name"] not in _DUNDERS:
            yield Violation("dunder", int(each["line"]), f"{each['name']} is not allowed; write it without.")


def _files(grants: Grants) -> str:
    """What to do instead of opening a file."""
    if grants.files:
        return f"read what was granted with wrapper.sdk.open_input(…): {', '.join(grants.inputs())}"
    return "reading a file needs a files grant, which this capability does not have; take the data as a parameter"


def _builtins(facts: Mapping[str, Any], grants: Grants) -> Iterator[Violation]:
    handler = cast("Mapping[str, Any]", facts.get("handler") or {})
    parameters = {str(each["name"]) for each in handler.get("parameters") or ()}
    for each in _entries(facts, "builtins"):
        name = str(each["name"])
        if name in parameters:
            continue
        instead = _files(grants) if name == "open" else _BUILTINS.get(name, "write what it should do directly")
        yield Violation("builtin", int(each["line"]), f"{name} is not allowed: {instead}.")


def _attributes(facts: Mapping[str, Any], grants: Grants) -> Iterator[Violation]:
    for each in _entries(facts, "attributes"):
        name, line = str(each["name"]), int(each["line"])
        root, *parts = name.split(".")
        last = parts[-1] if parts else ""
        if last in _POSTING:
            yield Violation("events", line, f"{name} is not allowed: return the result, the caller reports it.")
        elif last in _MEMBERS or name in _FILES:
            yield Violation("attribute", line, f"{name} is not allowed: {_MEMBERS.get(last) or _files(grants)}.")
        elif last in _REEXPORTED:
            yield Violation("attribute", line, f"{name} reaches the machine; it is not allowed.")
        elif last.startswith("_") and not last.startswith("__") and root not in ("self", "cls"):
            yield Violation("attribute", line, f"{name} is private; use what its owner offers publicly.")


def _texts(facts: Mapping[str, Any]) -> Iterator[Violation]:
    for each in _entries(facts, "strings"):
        if found := _REACHING_TEXT.search(str(each["name"])):
            yield Violation("text", int(each["line"]), f"A text names {found[0]}; write it without.")


def as_evidence(found: Iterable[Violation]) -> list[JsonValue]:
    """Violations as JSON, for events and completions."""
    return [{"rule": each.rule, "line": each.line, "message": each.message} for each in found]
