"""What Prometheus reads: numbers the board keeps anyway, and what this process is.

Source: Prometheus exposition format, text version 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from starlette.responses import Response

from arbiter.fabrications import FABRICATOR_LANE
from arbiter.serving import GENERIC_LANE
from blackboard.board import STEP_LANE
from blackboard.gauges import gauges
from blackboard.timings import BOUNDS, HISTOGRAMS, Histogram

if TYPE_CHECKING:
    from arbiter.sdk import Arbiter

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


async def answer(served: Arbiter, requests: Mapping[int, int]) -> Response:
    """All metrics of the board, and of the process that answers.

    Args:
        requests: answered by this process, by status.
    """
    return Response(
        "".join([*_process(served, requests), *[part async for part in _board(served)]]), media_type=MEDIA_TYPE
    )


def _process(served: Arbiter, requests: Mapping[int, int]) -> Iterable[str]:
    backend = served.isolation_label
    yield _metric(
        "arbiter_isolation_backend", "gauge", "What generated code runs in here; 1 for the one that is used.",
        [({"backend": backend}, 1)],
    )  # fmt: skip
    yield _metric(
        "arbiter_isolation_sandboxed", "gauge", "0 where an operator lowered the bar to no sandbox.",
        [({}, int(served.sandboxed))],
    )  # fmt: skip
    yield _metric("arbiter_role", "gauge", "Roles this process serves.", [({"role": role}, 1) for role in served.roles])
    yield _metric(
        "arbiter_http_requests_total", "counter", "Requests this process answered, by status.",
        [({"status": str(status)}, count) for status, count in sorted(requests.items())],
    )  # fmt: skip
    counted = [
        ({"queue": one.name, "outcome": outcome}, count)
        for one in served.queues for outcome, count in (("accepted", one.accepted), ("refused", one.refused))
    ]  # fmt: skip
    yield _metric(
        "arbiter_queue_messages_total", "counter", "Messages that this process received from queues, by what became of them.",
        counted,
    )  # fmt: skip
    yield _metric(
        "arbiter_queue_held", "gauge", "Messages that this process holds because the board refuses for the time being.",
        [({"queue": one.name}, one.held) for one in served.queues],
    )  # fmt: skip
    yield from map(_histogram, HISTOGRAMS)


async def _board(served: Arbiter) -> AsyncGenerator[str, None]:
    board = served.board
    lanes = {STEP_LANE, FABRICATOR_LANE, GENERIC_LANE} | {v.manifest.action for v in await served.registry.list()}
    now = await gauges(board, sorted(lanes))
    yield _metric("arbiter_runs", "gauge", "Runs on the board, finished ones included.", [({}, now.runs)])
    yield _metric(
        "arbiter_tasks_ready", "gauge", "Tasks that wait for a worker, by lane.",
        [({"lane": lane}, count) for lane, count in now.ready.items()],
    )  # fmt: skip
    yield _metric("arbiter_tasks_claimed", "gauge", "Tasks that somebody works on.", [({}, now.claimed)])
    yield _metric("arbiter_tasks_delayed", "gauge", "Tasks that wait for another attempt.", [({}, now.delayed)])
    yield _metric("arbiter_dead_letters", "gauge", "Work that was given up.", [({}, now.letters)])
    yield _metric(
        "arbiter_dead_letters_dropped_total", "counter", "Dead letters that made room for later ones.",
        [({}, now.dropped)],
    )  # fmt: skip
    ended: Counter[tuple[str, str]] = Counter()
    for field, count in (await board.outcomes()).items():
        name, _, rest = field.partition("|")
        ended[name, rest.rpartition("|")[2]] += count
    yield _metric(
        "arbiter_tasks_completed_total", "counter", "Tasks that ended, by capability and status.",
        [({"capability": name, "status": status}, count) for (name, status), count in sorted(ended.items())],
    )  # fmt: skip
    levels = [(each.level, unit, report) for each in await served.budgets() for unit, report in each.units.items()]
    for kind, what in (("limit", "may spend"), ("spent", "has spent"), ("reserved", "holds for calls under way")):
        yield _metric(
            f"arbiter_budget_{kind}", "gauge", f"What a level with a budget {what}; money in millionths.",
            [({"level": level, "unit": unit}, getattr(report, kind)) for level, unit, report in levels],
        )  # fmt: skip
    quotas = await served.quotas.report()
    yield _metric(
        "arbiter_quota_running", "gauge", "Attempts, or calls of a model, that a quota counts.",
        [({"subject": one.quota.subject}, one.running) for one in quotas if one.running is not None],
    )  # fmt: skip
    yield _metric(
        "arbiter_quota_tokens", "gauge", "Of the tokens a model has in a minute, those that are taken.",
        [({"subject": one.quota.subject}, one.tokens) for one in quotas if one.tokens is not None],
    )  # fmt: skip
    yield _metric(
        "arbiter_quota_open_runs", "gauge", "Open runs that a quota counts.",
        [({"subject": one.quota.subject}, one.open_runs) for one in quotas if one.open_runs is not None],
    )  # fmt: skip

    subscribed = await served.subscriptions.list()
    yield _metric(
        "arbiter_subscription_waiting", "gauge", "Events that a subscription has not handed out, or that are held.",
        [({"name": one.name}, one.waiting + one.held) for one in subscribed],
    )  # fmt: skip
    yield _metric(
        "arbiter_subscription_lag_seconds", "gauge", "How long the oldest event of a subscription has waited.",
        [({"name": one.name}, one.lag_seconds) for one in subscribed],
    )  # fmt: skip
    yield _metric(
        "arbiter_subscription_gaps_total", "counter", "How often events were gone before a subscription handed them out.",
        [({"name": one.name}, one.lost) for one in subscribed],
    )  # fmt: skip


def _histogram(one: Histogram) -> str:
    return _head(one.name, "histogram", one.help) + "".join(
        _samples(f"{one.name}_bucket", _buckets(each.labels, each.counts))
        + _samples(f"{one.name}_sum", [(each.labels, each.total)])
        + _samples(f"{one.name}_count", [(each.labels, sum(each.counts))])
        for each in one.series()
    )


def _buckets(labels: Mapping[str, str], counts: Sequence[int]) -> list[Sample]:
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    return [({**labels, "le": bound}, up_to) for bound, up_to in zip(bounds, accumulate(counts), strict=True)]


def _metric(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    return _head(name, kind, help) + _samples(name, samples)


def _head(name: str, kind: str, help: str) -> str:
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n"


def _samples(name: str, samples: Iterable[Sample]) -> str:
    lines: list[str] = []
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.17g}\n" if inside else f"{name} {value:.17g}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
