"""Attacks on the broker: more than was granted, for somebody else's money, or in somebody else's name."""

from __future__ import annotations

from collections.abc import Iterable

from attack import Family
from outside import World

from wrapper.isolation import Outcome

FAMILY = Family("broker", {"open_on": ("naive",), "layers": ("broker",)})
attack = FAMILY.attack


def succeeded(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """The breach had no consequence for the run."""
    if outcome.status == "succeeded":
        yield "the breach was not noticed"


attack(
    "without_a_grant",
    tries="Calls a model although nothing was granted, through the public way and by its own frame.",
    shows="The broker was asked.",
    body="""
    from wrapper import sdk
    attempt(sdk.call, "model.invoke", {"messages": []})
    send({"t": "call", "id": 77, "method": "model.invoke", "args": {"messages": []}})
    time.sleep(0.1)
    """,
)
attack(
    "other_methods",
    tries="Calls methods beside the one it was granted.",
    shows="The broker was asked for them.",
    grants=("model.invoke",),
    body="""
    from wrapper import sdk
    for method in ("model.list", "secrets.get", "http.fetch", "blackboard.read", "tool.shell", "model.invoke.raw"):
        attempt(sdk.call, method, {"task": "another", "tenant": "another"})
    """,
)
attack(
    "at_once",
    tries="Sends fifty calls at once, before the first is counted against the budget.",
    shows="More than four were open at once.",
    grants=("model.invoke",),
    wall=1.5,
    body="""
    for number in range(50):
        send({"t": "call", "id": number + 1, "method": "model.invoke", "args": {"messages": []}})
    time.sleep(20)
    """,
)
attack(
    "oversize_prompt",
    tries="Sends a prompt of three megabytes past the check of its own end.",
    shows="The broker was asked with it.",
    grants=("model.invoke",),
    shown=succeeded,
    body="""
    send({"t": "call", "id": 1, "method": "model.invoke", "args": {"messages": ["x" * (3 << 20)]}})
    time.sleep(0.2)
    return 1
    """,
)
attack(
    "after_the_result",
    tries="Goes on calling after its result, for the account of whoever comes next.",
    shows="A call was answered after the result, or the result counted.",
    grants=("model.invoke",),
    shown=succeeded,
    body="""
    send({"t": "done", "value": 1})
    for number in range(5):
        send({"t": "call", "id": number + 1, "method": "model.invoke", "args": {"messages": []}})
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "for_somebody_else",
    tries="Sends calls that say they come from another task, run or tenant.",
    shows="The call was taken as it is.",
    grants=("model.invoke",),
    shown=succeeded,
    body="""
    send({"t": "call", "id": 1, "method": "model.invoke", "args": {}, "task": "another", "tenant": "another"})
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "prompts_of_others",
    tries="Searches its memory, files and frames for the prompts of attempts that run beside it.",
    shows="The other's prompt is in the result.",
    layers=("single use",),
    body="""
    import gc
    found = [repr(frame.f_locals) for frame in sys._current_frames().values()]
    for frame in sys._current_frames().values():
        while frame is not None:
            found.append(repr(frame.f_locals))
            frame = frame.f_back
    for each in gc.get_objects():
        if isinstance(each, dict):
            found += [value for value in list(each.values()) if isinstance(value, str) and "sibling" in value]
    return [each[:3000] for each in found if "SECRET" in each]
    """,
)
attack(
    "deep_arguments",
    tries="Calls with arguments nested deeper than any reader's stack.",
    shows="The host fails.",
    grants=("model.invoke",),
    body="""
    send(b'{"t":"call","id":1,"method":"model.invoke","args":' + b"[" * 100000 + b"]" * 100000 + b"}")
    time.sleep(0.2)
    """,
)
attack(
    "words_of_the_host",
    tries="Has the host fail over an answer and reads what it says of that, where paths, addresses and passwords stand.",
    shows="The secret that stands in the host's error is in the result.",
    grants=("breaks",),
    body="""
    from wrapper import sdk
    said = []
    for _ in range(3):
        try:
            sdk.call("breaks", None)
        except sdk.CallError as error:
            said += [str(error), repr(error), error.message, repr(vars(error)), repr(error.__cause__)]
    return said
    """,
)
attack(
    "number_below_the_first",
    tries="Sends calls with numbers below any that was used, which a host that only looks for repeats would count again.",
    shows="The breach had no consequence.",
    grants=("model.invoke",),
    shown=succeeded,
    body="""
    for number in (-1, 0, -(1 << 70)):
        send({"t": "call", "id": number, "method": "model.invoke", "args": {"messages": []}})
    time.sleep(0.1)
    return 1
    """,
)
