"""Names of the board's keys. Nothing outside this package knows one.

Everything a run touches carries the hash tag of its shard, ``{<namespace>/<board>#<k>}``, so that each script works in
one slot of a cluster; ``k = crc32(run id) mod S`` with S fixed when the board is made.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

_FIXED = ("tasks", "data", "out", "lease", "wait", "due", "ev", "vt", "runs", "index", "ckpt", "outcomes",
          "quotas", "use", "dead", "deadx", "audit")  # fmt: skip


class Shard:
    """The keys of one shard."""

    def __init__(self, namespace: str, board: str, number: int) -> None:
        self.number = number
        self.prefix = f"arb:{{{namespace}/{board}#{number}}}:"
        self.fixed = [self.prefix + name for name in _FIXED]
        self.feed = self.prefix + "ev"
        self.lease = self.prefix + "lease"
        self.wait = self.prefix + "wait"
        self.runs = self.prefix + "runs"
        self.index = self.prefix + "index"
        self.tasks = self.prefix + "tasks"
        self.data = self.prefix + "data"
        self.outcomes = self.prefix + "outcomes"
        self.use = self.prefix + "use"
        self.dead = self.prefix + "dead"
        self.deadx = self.prefix + "deadx"
        self.audit = self.prefix + "audit"
        self.confirmed = self.prefix + "confirmed"
        self.topics = self.prefix + "topics"
        self.triggers = self.prefix + "triggers"
        self.subscriptions = self.prefix + "subs"
        self._call = [self.prefix + name for name in ("tasks", "data", "lease", "due", "ev", "runs")]

    def lane(self, lane: str) -> list[str]:
        return [f"{self.prefix}{kind}:{lane}" for kind in "qrb"]

    def bell(self, lane: str) -> str:
        return f"{self.prefix}b:{lane}"

    def log(self, run_id: str) -> str:
        return f"{self.prefix}run:{run_id}:log"

    def open(self, run_id: str) -> str:
        return f"{self.prefix}run:{run_id}:open"

    def turns(self, run_id: str) -> str:
        return f"{self.prefix}run:{run_id}:turns"

    def blobs(self, run_id: str) -> str:
        return f"{self.prefix}run:{run_id}:blobs"

    def entries(self, owner: str) -> list[str]:
        """What the entries of a run, or of another scope, are found by; the entries themselves are in its log."""
        return [f"{self.prefix}e:{owner}:{name}" for name in ("heads", "vers", "ops", "index", "links", "ends")]

    def rewritten(self, owner: str) -> str:
        """The log that is being written in place of another."""
        return f"{self.prefix}e:{owner}:log"

    def compacted(self, owner: str) -> str:
        """How far the past of a scope was compacted."""
        return f"{self.prefix}e:{owner}:compacted"

    def declare_entries(self, owner: str) -> list[str]:
        """KEYS of a script of entries."""
        return [self.tasks, self.runs, self.feed, self.topics, self.log(owner), *self.entries(owner)]

    def results(self, run_id: str) -> list[str]:
        """What a script that ends tasks needs beside :meth:`declare`, to write what they came to on their run's board."""
        heads, vers, _, index, links, _ = self.entries(run_id)
        return [heads, vers, index, links, self.triggers, self.agenda(run_id)[2], self.topics]

    def last_claim(self, worker: str) -> str:
        return f"{self.prefix}w:{worker}"

    def declare(self, lanes: Sequence[str], run_id: str | None = None) -> list[str]:
        """KEYS of a board script: the fixed ones, three for each lane, then those of the run."""
        keys = list(self.fixed)
        for lane in lanes:
            keys += self.lane(lane)
        if run_id is not None:
            keys += [self.log(run_id), self.open(run_id), self.turns(run_id), self.agenda(run_id)[0]]
        return keys

    def declare_call(self, run_id: str, counted: bool) -> list[str]:
        """KEYS of the script that ends a call; ``counted``: the outcome of its version is."""
        prefix = self.prefix
        keys = [*self._call, f"{prefix}run:{run_id}:log", f"{prefix}run:{run_id}:open"]
        return [*keys, self.outcomes, self.use] if counted else keys

    def declare_subscriptions(self) -> list[str]:
        """KEYS of a script of subscriptions."""
        return [*self.fixed, self.subscriptions]

    def agenda(self, run_id: str) -> list[str]:
        """A run's agenda, what waits on it, and what is still to be made of its entries."""
        return [f"{self.prefix}run:{run_id}:{name}" for name in ("agenda", "waiting", "more")]

    def declare_agenda(self, lanes: Sequence[str], run_id: str) -> list[str]:
        """KEYS of a script of agendas."""
        return [*self.declare(lanes, run_id), self.triggers, *self.agenda(run_id)[1:]]

    def declare_noticing(self, lane: str, run_id: str) -> list[str]:
        """KEYS of a script of entries that may trigger."""
        return [
            *self.declare([lane], run_id), self.topics, *self.entries(run_id), self.triggers, *self.agenda(run_id)[1:]
        ]  # fmt: skip


def shard_number(run_id: str, shards: int) -> int:
    return zlib.crc32(run_id.encode()) % shards


def budgets(namespace: str, board: str) -> str:
    """What the keys of the board's budgets begin with."""
    return f"arb:{{{namespace}/{board}#budget}}:"


def schedules(shard: Shard) -> list[str]:
    """The keys of the board's schedules, which are on its first shard: definitions, states, and when each is due."""
    return [f"{shard.prefix}schedule:{name}" for name in ("defs", "state", "due")]


def standings(shard: Shard) -> list[str]:
    """The keys of the board's standing watches, beside its schedules and in their shape; nothing is ever due."""
    return [f"{shard.prefix}standing:{name}" for name in ("defs", "state", "due")]


def webhooks(shard: Shard) -> list[str]:
    """The keys of the board's outgoing webhooks, beside its schedules and in their shape; nothing is ever due."""
    return [f"{shard.prefix}webhook:{name}" for name in ("defs", "state", "due")]


def quotas(namespace: str, board: str) -> str:
    """The hash of the board's quotas as they were given; each shard has its part of them."""
    return f"arb:{{{namespace}/{board}}}:quotas"


def meta(namespace: str, board: str) -> str:
    """The hash that holds what was fixed when the board was made."""
    return f"arb:{{{namespace}/{board}}}:meta"
