"""Tasks that are posted with what they came to in the run their own goes on from: they are over as soon as they are posted.

The script that posts such a task ends it, as it succeeded there, with all that follows from it. Nobody claims it, nothing is
paid, and it counts as no success of its version. What another task of the run has taken over meanwhile is worked on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from blackboard import results
from blackboard.errors import Stale, Unfitting
from blackboard.payloads import PAYLOAD_BYTES, dump, join
from blackboard.taint import merged
from blackboard.types import Completion, Status, TaskSpec

if TYPE_CHECKING:
    from blackboard._calling import Calling

PRELUDE = "_taking_over"
"""Behind which a script is that posts such tasks."""
_FIELDS = 9
_ATTEMPTS = 5


async def sent(
    board: Calling,
    run_id: str,
    tasks: Sequence[TaskSpec],
    send: Callable[[list[str]], Awaitable[Any]],
    *,
    entered: bool,
) -> Any:
    """Send a script what it takes of some tasks, once more where the schemas of topics were changed meanwhile.

    Returns:
        What the script replied.

    Raises:
        Stale: they are changed again and again.
    """
    for again in range(_ATTEMPTS, -1, -1):
        try:
            return await send(counted(await told(board, run_id, tasks, entered=entered)))
        except Stale:
            if not again:
                raise


async def told(board: Calling, run_id: str, tasks: Sequence[TaskSpec], *, entered: bool, first: int = 1) -> list[str]:
    """What a script is told of those tasks that are over at once. :func:`counted` puts it in the form it takes.

    What does not fit the schema its entry would have to fit now is left out, and so done again.

    Args:
        tasks: in the order of their specs; one stands behind those it waits for.
        entered: what they come to stands on the board of the run.
        first: number of the first of them among the specs.

    Raises:
        BlobUnavailable: the store of large values cannot be used.
    """
    told: list[str] = []
    if entered and any(task.taken_over for task in tasks):
        await board.schemas.fetch(board.shard_of(run_id))
    for number, task in enumerate(tasks, first):
        if (was := task.taken_over) is None:
            continue
        schemas = ""
        if entered:
            topic = results.named(results.RESULTS, task.capability, task.key)
            try:
                schemas = await board.schemas.judged(board.shard_of(run_id), board.checker, topic, was.data, _as_is)
            except Unfitting:
                continue
        taint = merged(task.taint, was.taint)
        done = Completion(
            orchestration_id=run_id, tool_use_id=task.tool_use_id, node=task.capability, status=Status.SUCCEEDED,
            version=was.version, taint=taint, taken_over_from=was.task,
        )  # fmt: skip
        text = dump(was.data, "taken_over.data", PAYLOAD_BYTES)
        data = await board.blobs.check(run_id, text, was.data, results.INLINE_BYTES if entered else None)
        completion = join(done.model_dump_json(exclude_defaults=True, exclude={"data"}), "data", data)
        # Nobody who understands what it says has compared it with triggers: control does.
        entry = [*results.succeeded(data, taint), "", "?", schemas] if entered else [""] * 5
        told += [str(number), was.task, was.version or "", completion, *entry]
    return told


def counted(told: Sequence[str]) -> list[str]:
    """What a script takes; empty where there is nothing to take over."""
    return [str(len(told) // _FIELDS), *told] if told else []


async def _as_is(schemas: str) -> str:
    return schemas
