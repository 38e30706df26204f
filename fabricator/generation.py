"""From the public part of a specification to one candidate's source, by a Strands ``Agent`` of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blackboard.types import Usage
from fabricator import conventions
from fabricator.need import Need
from fabricator.settings import FabricationSettings
from fabricator.specification import Specification
from wrapper.models import ReplyTruncated, quoted

if TYPE_CHECKING:
    from strands.models import Model

MOST_CHARACTERS = 120_000
"""Of one answer of the generator; what is behind is dropped, and with it the end of the block."""

_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?:python|py|python3)[ \t]*\r?\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_OPENED = re.compile(r"^[ \t]*```[ \t]*(?:python|py|python3)[ \t]*\r?$", re.MULTILINE)


class Extracted(NamedTuple):
    """The source in an answer, or the reason there is none."""

    source: str | None
    fault: str = ""


def question(spec: Specification, need: Need) -> str:
    """The first message: the public part, and how the version failed that is to be replaced, as data."""
    failed = ""
    if need.failures:
        told = quoted(json.dumps(need.failures, ensure_ascii=False, indent=1), "failures", need.taint)
        failed = (
            f"An earlier version of it failed. What its inputs were made of, and the errors, as data:\n\n{told}\n\n"
        )
    data = quoted(json.dumps(spec.public(), ensure_ascii=False, indent=1), "specification", ("model",))
    return (
        f"Write the capability {spec.name!r}. This is its specification, as data:\n\n{data}\n\n{failed}"
        "Answer with exactly one ```python block."
    )


def extract(answer: str) -> Extracted:
    """The one Python block of an answer. None or several are refused, because a guess could be the wrong one."""
    blocks: list[str] = _BLOCK.findall(answer)
    if len(blocks) == 1 and len(_OPENED.findall(answer)) == 1:
        source = blocks[0].replace("\r\n", "\n").rstrip() + "\n"
        return Extracted(source) if source.strip() else Extracted(None, "The ```python block is empty.")
    if len(blocks) > 1:
        return Extracted(None, f"The answer holds {len(blocks)} ```python blocks; exactly one is accepted.")
    if _OPENED.search(answer):
        return Extracted(None, "The ```python block is not closed; the answer may have been too long.")
    return Extracted(None, "The answer holds no ```python block.")


class Answer(NamedTuple):
    """What the generator said and what it cost."""

    text: str
    usage: Usage


async def ask(
    model: Model, spec: Specification, need: Need, earlier: Sequence[tuple[str, str]], settings: FabricationSettings
) -> Answer:
    """The generator's next answer.

    Args:
        model: that plays the generator.
        spec: of which it sees the public part.
        need: of which it sees how the version failed that is to be replaced.
        earlier: its answers so far, oldest first, each with the feedback it got.
        settings: bounds.

    Raises:
        ArbiterError: the model could not answer; see :func:`wrapper.models.converse`.
    """
    from strands import Agent
    from strands.types.exceptions import EventLoopException

    from fabricator.conversing import ConversingModel

    texts = [("user", question(spec, need))]
    for answer, feedback in earlier:
        texts += [("assistant", answer or "(nothing)"), ("user", feedback)]
    history: list[Any] = [{"role": role, "content": [{"text": text}]} for role, text in texts]
    conversing = ConversingModel(model, timeout_seconds=settings.model_seconds)
    agent = Agent(
        model=conversing,
        messages=history[:-1],
        system_prompt=conventions.system_prompt(settings.extra_imports),
        tools=[],
        callback_handler=None,
        retry_strategy=None,
        name="Fabricator",
        agent_id=f"fabricator-{spec.name}",
    )
    try:
        await agent.invoke_async(history[-1]["content"], limits=cast(Any, {"turns": 2}))
    except EventLoopException:
        failure = conversing.failure
        if isinstance(failure, ReplyTruncated):
            # Its block is not closed, which the generator is told like any other fault.
            return Answer(failure.reply.text, failure.usage)
        if failure is None:
            raise
        raise failure from None
    usage = sum((reply.usage for reply in conversing.replies), Usage())
    return Answer("\n".join(reply.text for reply in conversing.replies)[:MOST_CHARACTERS], usage)
