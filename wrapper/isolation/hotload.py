"""Source text to result, inside the child: verify, compile, import, bind, call, encode. Every failure has its word.

The module is loaded through ``importlib`` from the text itself (never a file), under a name unique to its hash. The
text was decoded as strict UTF-8 before it came here and is compiled as text, so an encoding declaration in it has no
effect.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.abc
import importlib.util
import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

from wrapper import context, failing
from wrapper.isolation import framing, imports, inspection, mutation

_MESSAGE_CHARS = 4_000
_LINES = 12
_NAMES = 50


class _Ended(Exception):
    """A typed end of the run that is not a result."""

    def __init__(self, kind: str, type: str, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.kind, self.type, self.message, self.evidence = kind, type, message, evidence


class VerifiedSource(importlib.abc.InspectLoader):
    """Loader over source text that was checked against its hash."""

    def __init__(self, source: str, filename: str) -> None:
        self._source, self._filename = source, filename

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self._filename, "exec", dont_inherit=True)


def module_name(sha256: str) -> str:
    """Name in ``sys.modules``, unique to the content."""
    return f"{imports.PREFIX}{sha256[:32]}"


def forget(sha256: str) -> None:
    """Undo the traces of a load."""
    sys.modules.pop(module_name(sha256), None)
    linecache.clearcache()


def perform(run: Mapping[str, object]) -> bytes:
    """Carry out one ``run`` frame and return the body of its ``done`` frame. Catches everything the code can raise."""
    limits = cast("Mapping[str, int]", run["limits"])
    filename = f"<{run['name']}@{str(run['sha256'])[:12]}>"
    try:
        value = _value(run, filename)
        encoded = _encoded(value, int(limits["result_bytes"]))
        return b'{"t":"done","value":' + encoded + b"}"
    except _Ended as end:
        return _failure(end, end.__cause__, filename)
    except BaseException as error:
        # The boundary between the code and the report of what it did.
        return _failure(_raised(error, limits), error, filename)


def _raised(error: BaseException, limits: Mapping[str, int]) -> _Ended:
    text = _text(error)
    facts: dict[str, object] = {"names": failing.class_names(error)}
    if (seconds := failing.wait(error)) is not None:
        facts["retry_after_seconds"] = seconds
    if isinstance(error, MemoryError):
        facts["limit"] = "memory_bytes"
        text = f"{text or 'no more memory'} (of its {limits['memory_bytes'] >> 20} MiB; use less, or raise limits.memory_mb)"
    return _Ended(failing.kind(error), _type_name(error), text, **facts)


def _value(run: Mapping[str, object], filename: str) -> object:
    source = cast(str, run["source"])
    if hashlib.sha256(source.encode()).hexdigest() != run["sha256"]:
        raise _Ended("hash_mismatch", "HashMismatch", "the source received is not the source that was verified")
    if task := run.get("task"):
        context.fill(context.TaskContext(**cast("dict[str, Any]", task)))
    if run["op"] == "inspect":
        return inspection.inspect_source(source, filename)
    if run["op"] == "mistakes":
        return mutation.mistakes(source, cast("Mapping[str, int]", run["input"])["most"])
    if (packages := run.get("packages")) is not None:
        imports.fence(cast("list[str]", packages))
    module = _load(source, filename, cast(str, run["sha256"]))
    handler = _handler(module)
    if run["op"] == "import":
        return {"handler": inspection.describe(handler)}
    arguments = cast("dict[str, object]", run["input"])
    _bind(handler, arguments)
    return _call(handler, arguments)


def _load(source: str, filename: str, sha256: str) -> ModuleType:
    name = module_name(sha256)
    loader = VerifiedSource(source, filename)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        code = loader.get_code(name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _Ended("syntax_error", _type_name(error), _text(error), **inspection.syntax_evidence(error)) from error
    spec = importlib.util.spec_from_loader(name, loader, origin=filename)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = filename
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except SystemExit as error:
        raise _exit(error, "import") from error
    except BaseException as error:
        # Whatever a module raises while it is imported is an import error of that module.
        missing = {"module": error.name} if isinstance(error, ImportError) and error.name else {}
        raise _Ended("import_error", _type_name(error), _text(error), **missing) from error
    return module


def _exit(error: SystemExit, where: str) -> _Ended:
    code = error.code
    number = code if isinstance(code, int) else 0 if code is None else 1
    message = f"the code called sys.exit({_text(code) if code is not None else ''}) during {where}"
    return _Ended("exited", "SystemExit", message, exit_code=number)


def _handler(module: ModuleType) -> Callable[..., object]:
    handler: object = getattr(module, "handler", None)
    if handler is None:
        raise _Ended("missing_handler", "MissingHandler", "the module defines no 'handler'")
    if not callable(handler):
        message = f"'handler' is {type(handler).__name__}, not a function"
        raise _Ended("missing_handler", "MissingHandler", message)
    return handler


def _fits(handler: Callable[..., object], arguments: Mapping[str, object]) -> bool:
    """Whether a plain function takes these arguments, told from its code alone: for the common case, in which
    ``inspect.signature`` costs more time and memory than all the rest. False says nothing."""
    if type(handler) is not FunctionType or handler.__dict__:
        return False
    code = handler.__code__
    if code.co_posonlyargcount:
        return False
    positional = code.co_varnames[: code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    required = [*positional[: len(positional) - len(handler.__defaults__ or ())]]
    required += [name for name in named if name not in (handler.__kwdefaults__ or {})]
    open_ended = code.co_flags & inspect.CO_VARKEYWORDS
    return all(name in arguments for name in required) and bool(
        open_ended or all(name in positional or name in named for name in arguments)
    )


def _bind(handler: Callable[..., object], arguments: Mapping[str, object]) -> None:
    if _fits(handler, arguments):
        return
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return  # a callable without a signature is judged by calling it
    try:
        signature.bind(**arguments)
        return
    except TypeError as error:
        reason = str(error)
    parameters = signature.parameters.values()
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    missing = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in arguments
    ]
    raise _Ended(
        "signature_mismatch",
        "SignatureMismatch",
        f"handler{signature} cannot take the input: {reason}",
        missing=missing[:_NAMES],
        unexpected=[] if open_ended else [name[:200] for name in arguments if name not in by_name][:_NAMES],
        positional_only=[p.name for p in parameters if p.kind is p.POSITIONAL_ONLY][:_NAMES],
        signature=f"handler{signature}"[:500],
    )


async def _awaited(result: Awaitable[object]) -> object:
    return await result


def _call(handler: Callable[..., object], arguments: Mapping[str, object]) -> object:
    try:
        result = handler(**arguments)
        if inspect.isawaitable(result):
            return asyncio.run(_awaited(result))
        return result
    except SystemExit as error:
        raise _exit(error, "the handler") from error


def _encoded(value: object, limit: int) -> bytes:
    try:
        encoded = framing.encode(value)
    except framing.NotJson as error:
        raise _Ended("not_json", "NotJson", str(error), path=error.path, reason=error.reason) from None
    except MemoryError as error:
        raise _Ended("result_too_large", "MemoryError", "the result could not be encoded within memory") from error
    if len(encoded) > limit:
        message = f"the encoded result is {len(encoded)} bytes; at most {limit} are accepted"
        raise _Ended("result_too_large", "ResultTooLarge", message, bytes=len(encoded), limit=limit)
    return encoded


def _type_name(value: object) -> str:
    return type(value).__qualname__[:200]


def _text(value: object) -> str:
    """``str(value)`` of an object the code made, which may itself raise."""
    try:
        return str(value)[:_MESSAGE_CHARS]
    except Exception as error:
        return f"<{_type_name(value)} whose str() raised {_type_name(error)}>"


def _frames(error: BaseException, filename: str) -> list[dict[str, object]]:
    frames: list[dict[str, object]] = [
        {"line": frame.lineno, "function": frame.name, "code": frame.line or ""}
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == filename
    ]
    return frames[-_LINES:]


def _trace(error: BaseException) -> list[str]:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-_LINES))
    except Exception as other:
        return [f"<traceback could not be formatted: {_type_name(other)}>"]
    # Frames of this room say nothing to the author of the code.
    here = os.path.dirname(__file__)
    lines: list[str] = []
    skipping = False
    for line in text.splitlines():
        if line.startswith("  File "):
            skipping = here in line
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            lines.append(line[:500])
    return lines[-3 * _LINES :]


def _failure(end: _Ended, cause: BaseException | None, filename: str) -> bytes:
    evidence: dict[str, object] = dict(end.evidence)
    if cause is not None and end.kind != "syntax_error":
        frames = _frames(cause, filename)
        if frames:
            evidence.setdefault("line", frames[-1]["line"])
            evidence["frames"] = frames
        evidence["traceback"] = _trace(cause)
    error = {"kind": end.kind, "type": end.type, "message": end.message[:_MESSAGE_CHARS], "evidence": evidence}
    return framing.encode({"t": "done", "error": _sayable(error)}, framing.DEPTH + 4)


def _sayable(value: object) -> object:
    """Evidence quotes the code, which may hold text that strict JSON cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {str(_sayable(k)): _sayable(v) for k, v in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_sayable(each) for each in cast("list[object]", value)]
    return value if value is None or isinstance(value, int | float) else _text(value)
