"""What a capability's code is allowed beside computing, as data: hosts, files, secrets, models, packages, topics of the board."""

from __future__ import annotations

import re
import sys
from typing import Any, Self, cast

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, model_serializer, model_validator

from blackboard.errors import BadInput
from blackboard.topics import check_pattern
from blackboard.types import Settings
from registry.hosts import check_host

SECRET_HANDLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_INPUT_HANDLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ROOMS = frozenset({"arbiter", "blackboard", "fabricator", "registry", "wrapper"})
_STRANDS = ("strands", "strands_tools")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PROVIDERS = ("bedrock", "anthropic", "openai", "ollama")
_MODEL = re.compile(rf"({'|'.join(_PROVIDERS)}):[A-Za-z0-9._:/*-]{{1,200}}")


class TopicGrants(Settings):
    """The topics of its own run on which a capability's code may read and write entries."""

    read: tuple[str, ...] = Field(default=(), max_length=50)
    """Patterns such as ``claims.invoice.*`` or ``claims.>``."""
    write: tuple[str, ...] = Field(default=(), max_length=50)
    """The same. To take an entry off the board both are needed."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for name in ("read", "write"):
            for pattern in getattr(self, name):
                check_pattern(pattern, name)
        return self


class Grants(Settings):
    """What a capability's code is allowed beside computing. Nothing by default."""

    model: bool = False
    """It may call the brokered model."""
    models: tuple[str, ...] = ()
    """Which models it may ask for, such as ``bedrock:us.amazon.nova-lite-v1:0`` or ``anthropic:*``. Without any, it talks to the
    one the wrapper is configured with, whatever it names."""
    http_hosts: tuple[str, ...] = ()
    """Hosts it may reach through the broker, such as ``api.example.com``, ``*.example.com``, ``host:8443`` or
    ``[2001:db8::7]``."""
    http_methods: tuple[str, ...] = ("GET",)
    """Methods it may use there."""
    files: tuple[str, ...] = ()
    """Files it may read, each by a handle: ``HANDLE=/absolute/path``, or the path alone, whose last part is the handle."""
    secrets: tuple[str, ...] = ()
    """Handles of secrets the broker may use on its behalf, never the secrets themselves: ``HANDLE@api.example.com`` for that
    host, or the handle alone for every granted host."""
    packages: tuple[str, ...] = ()
    """Top-level modules it may import beside the standard library, such as ``numpy``."""
    topics: TopicGrants = TopicGrants()
    """Topics of the board it may read and write, in the scope of its run."""

    @model_validator(mode="after")
    def _plausible(self, info: ValidationInfo) -> Self:
        if was_checked(info):
            return self
        for named in self.models:
            if not self.model:
                raise BadInput("models", named, "Grant a model at all: model=True.")
            if not _MODEL.fullmatch(named):
                raise BadInput(
                    "models",
                    named,
                    f"Write PROVIDER:ID with one of {', '.join(_PROVIDERS)}; '*' stands for any part of the id.",
                )
        for host in self.http_hosts:
            check_host(host)
        if self.http_hosts and not self.http_methods:
            raise BadInput("http_methods", [], f"Name those that may be used at http_hosts: {', '.join(_METHODS)}.")
        for method in self.http_methods:
            if method not in _METHODS:
                raise BadInput("http_methods", method, f"Use any of {', '.join(_METHODS)}.")
        handles: set[str] = set()
        for given in self.files:
            handle, path = _input(given)
            if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
                raise BadInput("files", given, "Give an absolute path without '..', or HANDLE=/path.")
            if not _INPUT_HANDLE.fullmatch(handle) or handle in handles:
                raise BadInput("files", given, "Give each file a handle of its own: HANDLE=/path.")
            handles.add(handle)
        for given in self.secrets:
            handle, at, host = given.partition("@")
            if not SECRET_HANDLE.fullmatch(handle):
                raise BadInput("secrets", given, "Begin a handle with a letter; then letters, digits, '_' and '-'.")
            if at and host not in self.http_hosts:
                raise BadInput("secrets", given, "Bind a secret to one of http_hosts, written the same way.")
        for name in self.packages:
            check_package(name, "packages")
            if name in sys.stdlib_module_names:
                raise BadInput("packages", name, "Leave it out: the standard library needs no grant.")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a later field that says nothing new: what was registered before it existed keeps its content hash."""
        fields = cast("dict[str, Any]", dump(self))
        if self.http_methods == ("GET",):
            fields.pop("http_methods", None)
        if not self.packages:
            fields.pop("packages", None)
        if not self.models:
            fields.pop("models", None)
        if self.topics == TopicGrants():
            fields.pop("topics", None)
        return fields

    def importable(self) -> tuple[str, ...]:
        """Top-level modules beside the standard library that the code may import.

        Strands needs no grant: what it does without a model is nothing, and asking for one is what ends the code.
        """
        return (*self.packages, *_STRANDS)

    def inputs(self) -> dict[str, str]:
        """Handle of each readable file to its path."""
        return dict(map(_input, self.files))

    def secret_hosts(self, handle: str) -> tuple[str, ...] | None:
        """The hosts a secret may be sent to; None when it is not granted."""
        bound: list[str] = []
        granted = False
        for given in self.secrets:
            name, at, host = given.partition("@")
            if name == handle:
                granted = True
                bound += [host] if at else self.http_hosts
        return tuple(bound) if granted else None


def check_package(name: str, field: str) -> None:
    """Refuse what no code can be granted to import.

    Raises:
        BadInput: it is no name of a top-level module, or one of ours.
    """
    if not _PACKAGE.fullmatch(name) or name in _ROOMS:
        raise BadInput(field, name, "Give the name of an importable top-level module, not one of Arbiter's.")


def was_checked(info: ValidationInfo) -> bool:
    """Whether this is read from where only what was checked is written: by the rules of its day, which it is held to."""
    return info.context is not None and info.context.get("checked")


def _input(given: str) -> tuple[str, str]:
    handle, equals, path = given.partition("=")
    return (handle, path) if equals and not given.startswith("/") else (given.rpartition("/")[2], given)
