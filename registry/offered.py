"""The matcher of a registry as each tenant sees it: what a tenant's runs taught speaks for that tenant alone.

A capability of one tenant has that tenant's lessons among its texts. One that tenants share is known once without lessons
and once more for each tenant it served, with the needs it served there; a tenant's search sees its own text where there is
one. So words of one tenant neither rank for another nor stand in the reasons another is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from redis.exceptions import RedisError

from blackboard.errors import ArbiterError
from blackboard.example_needs import ExampleNeeds
from registry.example_needs import contract_hash, wants
from registry.manifest import Manifest
from registry.matching import Candidate, Document, Findings, Matcher
from registry.matching.interface import Encoding, Searching

_log = logging.getLogger(__name__)

_BETWEEN = "\0"
"""Between a name and a tenant: before every character of a name, so that equal scores stay in the order of names."""


class Offered:
    """What is offered, in a matcher.

    Args:
        matcher: knows nothing yet.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self._encoding = matcher if isinstance(matcher, Encoding) else None
        if self._encoding is not None:
            self._encoding.background = True
        self.followed = False
        """True while somebody calls :meth:`encode_some` for what changes."""
        self._manifests: dict[str, Manifest] = {}
        self._lessons: dict[str, dict[str, tuple[str, ...]]] = {}
        self._own: dict[str, set[str]] = {}
        """By tenant: the shared capabilities it has lessons for."""
        self._illustrated: dict[str, ExampleNeeds] = {}
        self._written: dict[str, ExampleNeeds] = {}
        """Those of them that are of what is offered, as it is."""
        self._bare: dict[str, None] = {}

    def add(self, manifest: Manifest) -> None:
        """Offer a capability; replaces what was offered under its name."""
        self.remove(manifest.name)
        self._manifests[manifest.name] = manifest
        self._compare(manifest.name)
        self.matcher.add(manifest.name, self.document(manifest.name))
        for tenant in self._lessons.get(manifest.name, ()):
            self._show(manifest.name, tenant)

    def remove(self, name: str) -> None:
        """Offer a capability no longer; what it was taught is kept."""
        if self._manifests.pop(name, None) is not None:
            self._compare(name)
            self.matcher.remove(name)
            for tenant in self._lessons.get(name, ()):
                self._hide(name, tenant)

    def teach(self, name: str, tenant: str, needs: Sequence[str]) -> None:
        """All the needs a capability served a tenant; without any, what there was is forgotten."""
        known = self._lessons.setdefault(name, {})
        self._hide(name, tenant)
        known.pop(tenant, None)
        if needs:
            known[tenant] = tuple(needs)
        if not known:
            del self._lessons[name]
        manifest = self._manifests.get(name)
        if manifest is None:
            return
        if manifest.tenant == tenant:
            self.matcher.add(name, self.document(name))
        elif needs:
            self._show(name, tenant)

    def illustrate(self, name: str, written: ExampleNeeds | None) -> None:
        """The example needs that are kept for a capability; they count where they were written from what it says now."""
        if written is None:
            self._illustrated.pop(name, None)
        else:
            self._illustrated[name] = written
        before = self._written.get(name)
        self._compare(name)
        if name in self._manifests and self._written.get(name) != before:
            self.matcher.add(name, self.document(name))
            for tenant in self._lessons.get(name, ()):
                self._show(name, tenant)

    def written(self, name: str) -> ExampleNeeds | None:
        """The example needs of a capability, where there are any of what it says now."""
        return self._written.get(name)

    @property
    def bare(self) -> Sequence[str]:
        """The names of what is offered and wants example needs: it has few needs of its own, and none were written."""
        return [*self._bare]

    def lessons(self, name: str) -> Mapping[str, tuple[str, ...]]:
        """The needs a capability served, newest first, by tenant."""
        return dict(self._lessons.get(name, {}))

    def document(self, name: str, tenant: str | None = None) -> Document:
        """The texts of a capability as a tenant sees them; None sees no tenant's lessons but its owner's."""
        manifest = self._manifests[name]
        whose = manifest.tenant if tenant is None or manifest.tenant != "*" else tenant
        written = self._written.get(name)
        return Document.of(manifest, self._lessons.get(name, {}).get(whose, ()), written.needs if written else ())

    def seen_by(self, tenant: str | None) -> Searching:
        """The matcher as a tenant sees it; None sees no tenant's lessons about what tenants share."""
        return _View(self.matcher, self._own.get(tenant or "", set[str]()), tenant or "", self._own)

    @property
    def encodes(self) -> bool:
        """Whether the matcher needs vectors."""
        return self._encoding is not None

    async def encode_some(self) -> bool:
        """Make some of the missing vectors, in a thread; False when none is missing.

        Raises:
            ModelUnavailable: the encoder gave none.
        """
        batch = self._encoding.pending() if self._encoding is not None else ()
        if self._encoding is None or not batch:
            return False
        self._encoding.take(batch, await asyncio.to_thread(self._encoding.made, batch))
        return True

    async def prepare(self, *needs: str) -> None:
        """Have what searches for these needs take from an encoder or a server, so that they wait for nothing.

        Where nobody is making the missing vectors of capabilities, some are made first. What the encoder does not give is
        done without: such a search goes by words.
        """
        if self._encoding is None:
            return
        try:
            if not self.followed:
                await self.encode_some()
            await asyncio.to_thread(self._encoding.prepare, needs)
        except (ArbiterError, RedisError) as error:
            _log.warning("matching goes by words alone: %s", error)

    def _compare(self, name: str) -> None:
        """Hold what is kept for a capability against what it says."""
        self._written.pop(name, None)
        self._bare.pop(name, None)
        manifest, kept = self._manifests.get(name), self._illustrated.get(name)
        if manifest is None:
            return
        if kept is not None and kept.contract == contract_hash(manifest):
            self._written[name] = kept
        elif wants(manifest):
            self._bare[name] = None

    def _show(self, name: str, tenant: str) -> None:
        if self._manifests[name].tenant == "*":
            self._own.setdefault(tenant, set()).add(name)
            self.matcher.add(_key(name, tenant), self.document(name, tenant))

    def _hide(self, name: str, tenant: str) -> None:
        own = self._own.get(tenant)
        if own is not None and name in own:
            own.discard(name)
            if not own:
                del self._own[tenant]
            self.matcher.remove(_key(name, tenant))


class _View:
    """A :class:`~registry.matching.interface.Searching` over the texts one tenant sees."""

    def __init__(self, matcher: Matcher, own: set[str], tenant: str, anybody: Mapping[str, set[str]]) -> None:
        self._matcher, self._own, self._tenant, self._anybody = matcher, own, tenant, anybody

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        if not self._anybody:
            return self._matcher.search(query, k=k, allowed=allowed)

        def seen(key: str) -> bool:
            name, between, tenant = key.partition(_BETWEEN)
            if (tenant != self._tenant) if between else (name in self._own):
                return False
            return allowed is None or allowed(name)

        found = self._matcher.search(query, k=k, allowed=seen)
        return found._replace(candidates=[_named(each) for each in found.candidates])


def _key(name: str, tenant: str) -> str:
    return f"{name}{_BETWEEN}{tenant}"


def _named(candidate: Candidate) -> Candidate:
    return candidate._replace(name=candidate.name.partition(_BETWEEN)[0])
