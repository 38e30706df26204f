"""What isolated code may ask for beside computing: a model, an HTTP answer, a file, to keep an output.

This side holds the credentials, checks the grant before it does anything, and meters. Code that asks for more than its
manifest declares is not told and left to go on: :attr:`AttemptBroker.exceeded` is set, and whoever runs it ends it.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from blackboard.blobs import reference
from blackboard.budgets import BudgetExhausted
from blackboard.errors import BadInput
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.taint import UNKNOWN, Ruling, Taint, TaintPolicy, merged, source
from blackboard.types import Usage
from registry import Manifest, origin
from wrapper.carrying import Carrying, Withheld
from wrapper.entry_broker import METHODS as ENTRY_METHODS
from wrapper.entry_broker import EntryBroker
from wrapper.isolation import BrokerError, NotGranted
from wrapper.model_choice import choose
from wrapper.model_request import check
from wrapper.models import ModelCallFailed, ReplyTruncated, converse, model_source
from wrapper.secrets import Secrets, redacted

if TYPE_CHECKING:
    from strands.models import Model

    from blackboard.entries import Entries, Holder
    from blackboard.permits import Answer, Question
    from wrapper.addresses import Network
    from wrapper.fetching import Fetcher
    from wrapper.uses import Uses

MODEL_INVOKE = "model.invoke"
HTTP_FETCH = "http.fetch"
FILE_READ = "file.read"
OUTPUT_WRITE = "output.write"
INPUT_BYTES = 16 * 1024 * 1024
"""Largest file that is given to code."""
OUTPUT_BYTES = 16 * 1024 * 1024
"""Most bytes of all outputs of one attempt together."""
OUTPUTS = 32
"""Most outputs of one attempt."""
_CHUNK_BYTES = 1024 * 1024
_NAME_CHARACTERS = 100
_KERNEL = ("/proc/", "/sys/", "/dev/")
_CAUTIOUS = TaintPolicy()

Permit = Callable[[Carrying, Taint], Awaitable[tuple["Answer", "Question"]]]
"""Asks a person whether a request may carry secrets, on content from these sources: what was said, and what was asked."""
Keep = Callable[[str, JsonValue], Awaitable[JsonValue]]
"""Stores an output with the run: name and value to a reference."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What this worker lets granted requests reach. Nothing of it is a grant: those are in manifests.

    Attributes:
        secrets: where values of handles come from.
        private: networks that brokered requests may go to although they are not public.
        authorities: file with certificates that they trust besides the public ones.
        policy: which sources are trusted, and what content from the others may do.
    """

    secrets: Secrets
    private: Sequence[Network] = ()
    authorities: str | None = None
    policy: TaintPolicy = _CAUTIOUS


class AttemptBroker:
    """Answers the calls of one attempt.

    Which model is asked is decided by :func:`wrapper.model_choice.choose`; what else the code configures is not honoured.

    Where nothing outside is to be reached, as in most exams, calls are answered as they are in production on a bad day: a
    host that cannot be found, a file that is not there. An output is then taken and not kept.

    Args:
        manifest: of the capability that runs; its grants and limits are enforced here.
        model: gives the configured model, or None when this wrapper has none.
        outside: what granted requests may reach; None reaches nothing.
        keep: stores an output; None only says where it would be.
        named: gives another model that the grants name.
        uses: is told what is used of what was granted.
        taint: where the task's input comes from. What the attempt brings in under its own grants counts as well for its
            secrets as soon as it asked a model: until then only the code decides, which was signed with those grants.
        permit: asks a person whether a request may carry secrets, where the policy wants that; None refuses it.
        entries: those of the attempt's run; needed where topics are granted.
        task: the claim under which they are written.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: Callable[[], Model] | None,
        outside: Outside | None = None,
        keep: Keep | None = None,
        named: Callable[[str], Model] | None = None,
        uses: Uses | None = None,
        taint: Taint = UNKNOWN,
        permit: Permit | None = None,
        entries: Entries | None = None,
        task: Holder | None = None,
    ) -> None:
        self._manifest, self._model, self._outside, self._named = manifest, model, outside, named
        self._keep = keep or _not_kept
        self._uses, self._taint, self._permit = uses, taint, permit
        self._entries = EntryBroker(manifest, entries, task, merged(taint, origin(manifest)))
        self._asked: set[str] = set()
        self._opened: set[str] = set()
        self._model_calls = 0
        self._fetcher: Fetcher | None = None
        self._inputs: dict[str, bytes] = {}
        self._drafts: dict[str, bytearray] = {}
        self._written = 0
        self.exceeded = asyncio.Event()
        """Set when the code asked for more than its manifest declares."""
        self.excess = ""
        """For what."""
        self.ruling: Ruling | None = None
        """Why secrets were withheld, which ended it as well."""
        self.withheld = ""
        """Which, and from where: ``KEY@api.example.com``."""
        self.question: Question | None = None
        """The request that a person has to look at first, which ended it."""
        self.usage = Usage()
        """What the attempt's model calls consumed so far."""
        self.exhausted: BudgetExhausted | None = None
        """The last budget that had no room for a call."""
        self.failed: ModelCallFailed | None = None
        """Why the last call was not answered; None when it was, or was not made."""

    async def __call__(self, method: str, args: JsonValue) -> JsonValue:
        """Answer one call.

        Raises:
            BrokerError: it is not granted, a limit is reached, or it failed.
        """
        if self.exceeded.is_set():
            raise BrokerError("denied", "It asked for more than was granted.")
        answers: dict[str, Callable[[JsonValue], Awaitable[JsonValue]]] = {
            MODEL_INVOKE: self._ask, HTTP_FETCH: self._fetch, FILE_READ: self._read, OUTPUT_WRITE: self._write,
        }  # fmt: skip
        if method not in answers and method not in ENTRY_METHODS:
            raise self._exceeds(f"There is no broker for {method!r}.")
        try:
            if method in ENTRY_METHODS:
                self._entries.tainted(self.sources)
                return await self._entries(method, args)
            return await answers[method](args)
        except NotGranted as error:
            raise self._exceeds(error.message) from None

    @property
    def sources(self) -> Taint:
        """What the attempt brought in so far: places it sent requests to, files and entries it read, models it asked."""
        reached = self._fetcher.reached if self._fetcher is not None else ()
        return merged(reached, self._opened, self._asked, self._entries.found)

    async def _gate(self, request: Carrying) -> Withheld | None:
        ruling = (self._outside.policy if self._outside else _CAUTIOUS).judge(
            "secret", merged(self._taint, self.sources if self._asked else ())
        )
        if ruling is None or ruling.rule == "allow":
            return None
        if ruling.rule == "refuse":
            return Withheld(
                ruling,
                request.secrets,
                "The operator's taint policy says so; with 'secret' at 'ask' there a person decides.",
            )
        if self._permit is None:
            return Withheld(ruling, request.secrets)
        if self._manifest.effects == "irreversible" and self._fetcher is not None and self._fetcher.reached:
            # An answer comes to another attempt, which begins anew.
            return Withheld(ruling, request.secrets, "Nobody was asked, because what it did before cannot be repeated.")
        answer, question = await self._permit(request, ruling.untrusted)
        if answer.state == "approved":
            return None
        if answer.state == "waiting":
            self.question = self.question or question
            return Withheld(ruling, request.secrets, "A person has to permit it first.")
        reason = f": {answer.reason}" if answer.reason else ""
        said = "Nobody permitted it in time." if answer.state == "expired" else f"{answer.by} refused it{reason}."
        return Withheld(ruling, request.secrets, said)

    def clean(self, text: str) -> str:
        """A text without the values of secrets that were used."""
        return redacted(text, self._fetcher.used.items()) if self._fetcher is not None else text

    def _exceeds(self, message: str) -> BrokerError:
        self.excess = message
        self.exceeded.set()
        return BrokerError("denied", message)

    async def _fetch(self, args: JsonValue) -> JsonValue:
        from wrapper.fetching import Fetcher

        grants = self._manifest.grants
        if not grants.http_hosts:
            raise self._exceeds(f"{self._manifest.name} was granted no host; its manifest must name them.")
        if self._fetcher is None:
            outside = self._outside or Outside(Secrets({}))
            self._fetcher = Fetcher(
                grants,
                outside.secrets,
                outside.private,
                authorities=outside.authorities,
                uses=self._uses,
                gate=self._gate,
            )
        if self._outside is None:
            raise self._fetcher.unreachable(args)
        try:
            return await self._fetcher.fetch(args)
        except Withheld as error:
            self.ruling, self.withheld = error.ruling, ", ".join(error.secrets)
            raise self._exceeds(error.message) from None

    async def _read(self, args: JsonValue) -> JsonValue:
        """A part of a granted file: ``{"handle", "offset"}`` to ``{"data": base64, "size"}``."""
        handle, offset = (args.get("handle"), args.get("offset")) if isinstance(args, dict) else (None, None)
        if not isinstance(handle, str) or not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise BrokerError("bad_request", "file.read takes an object with handle and offset.")
        path = self._manifest.grants.inputs().get(handle)
        if path is None:
            raise self._exceeds(f"{self._manifest.name} was not granted the file {handle!r:.200}.")
        if handle not in self._inputs:
            try:
                if self._outside is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                self._inputs[handle] = await asyncio.to_thread(_content, path)
            except OSError as error:
                raise BrokerError("file", f"The file {handle!r} cannot be read: {error.strerror}.") from None
            if self._uses is not None:
                self._uses.count("files", handle)
        self._opened.add(source("file", handle))
        content = self._inputs[handle]
        part = content[offset : offset + _CHUNK_BYTES]
        return {"data": base64.b64encode(part).decode(), "size": len(content)}

    async def _write(self, args: JsonValue) -> JsonValue:
        """A part of an output: ``{"name", "data": base64, "last": bool}``; the last part's answer is the reference."""
        if not isinstance(args, dict) or set(args) != {"name", "data", "last"}:
            raise BrokerError("bad_request", "output.write takes an object with name, data and last.")
        name, data = args["name"], args["data"]
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS or not name.isprintable():
            raise BrokerError("bad_request", f"Name the output in 1 to {_NAME_CHARACTERS} printable characters.")
        if "\\" in name or {"", ".", ".."}.intersection(name.split("/")):
            # Nothing here makes a path of it. Whoever takes outputs out may.
            raise BrokerError(
                "bad_request", "Name the output like a file in a folder: no / at an end, no \\, no . or .."
            )
        try:
            part = base64.b64decode(cast(str, data), validate=True)
        except (ValueError, TypeError):
            raise BrokerError("bad_request", "The data is not base64.") from None
        most = min(OUTPUT_BYTES, self._manifest.limits.output_bytes)
        self._written += len(part)
        if self._written > most:
            raise BrokerError("limit", f"The outputs of one attempt have at most {most:,} bytes.")
        if name not in self._drafts and len(self._drafts) >= OUTPUTS:
            raise BrokerError("limit", f"One attempt writes at most {OUTPUTS} outputs.")
        draft = self._drafts.setdefault(name, bytearray())
        draft += part
        if args["last"] is not True:
            return None
        content, self._drafts[name] = bytes(draft), bytearray()
        value: dict[str, JsonValue] = {"name": name, "base64": base64.b64encode(content).decode()}
        reference = await self._keep(name, value)
        return {
            "name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "stored": reference
        }  # fmt: skip

    async def _ask(self, args: JsonValue) -> JsonValue:
        if not self._manifest.grants.model:
            raise self._exceeds(f"{self._manifest.name} was not granted a model; its manifest must say so.")
        if not isinstance(args, dict) or not isinstance(args.get("messages"), list):
            raise BrokerError("protocol", "model.invoke takes an object with messages.")
        check(args)
        limits = self._manifest.limits
        if self.usage.total_tokens >= limits.tokens:
            raise BrokerError("limit", f"The attempt used its {limits.tokens:,} tokens.")
        if self._model_calls >= limits.model_calls:
            raise BrokerError("limit", f"The attempt made its {limits.model_calls:,} model calls.")
        self._model_calls += 1
        request = cast("dict[str, Any]", args)
        self.failed = None
        model = await choose(self._manifest.grants, request.get("model_id"), self._model, self._named)
        self._asked.add(model_source(model))
        try:
            reply = await converse(
                model,
                request["messages"],
                tools=request.get("tool_specs") or (),
                system=request.get("system_prompt"),
                tool_choice=request.get("tool_choice"),
            )
        except ReplyTruncated as error:
            self.usage += error.usage
            raise BrokerError("model_error", "The model reached its output limit; its reply is incomplete.") from error
        except ModelCallFailed as error:
            self.usage += error.usage
            self.failed = error
            if error.code == "context_overflow":
                raise BrokerError("ContextWindowOverflowException", "The conversation is too long.") from error
            # Providers' words name accounts and addresses; the completion has them, for people.
            raise BrokerError("model_error", f"The model gave no answer: {error.code}.") from error
        except BudgetExhausted as error:
            self.exhausted = error
            raise BrokerError("limit", str(error)) from error
        except BadInput as error:
            raise BrokerError("bad_request", str(error)) from error
        self.usage += reply.usage
        return {
            "message": cast(JsonValue, reply.message),
            "stopReason": reply.stop_reason,
            "usage": {
                "inputTokens": reply.usage.input_tokens,
                "outputTokens": reply.usage.output_tokens,
                "totalTokens": reply.usage.total_tokens,
            },
        }


async def _not_kept(name: str, value: JsonValue) -> JsonValue:
    """Where an output would be kept, without keeping it."""
    return dict(await reference(dump(value, f"output {name}", PAYLOAD_BYTES), value))


def _content(path: str) -> bytes:
    """The content of a regular file; a pipe or a device would keep the reader for ever.

    What the kernel makes up for whoever reads it is none, though it looks like one: it would be about this process.
    """
    if os.path.realpath(path).startswith(_KERNEL):
        raise OSError(0, "it is no regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file")
        if status.st_size > INPUT_BYTES:
            raise OSError(0, f"it is larger than {INPUT_BYTES:,} bytes")
        parts: list[bytes] = []
        while part := os.read(descriptor, _CHUNK_BYTES):
            parts.append(part)
            if len(parts) > INPUT_BYTES // _CHUNK_BYTES:
                break  # it grows while it is read
        return b"".join(parts)
    finally:
        os.close(descriptor)
