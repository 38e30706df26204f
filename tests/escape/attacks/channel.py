"""Attacks on the private channel: results that are none, other people's results, verdicts of the code about itself."""

from __future__ import annotations

from collections.abc import Iterable

from attack import Family, accepted, told
from outside import World

from wrapper.isolation import Outcome

FAMILY = Family(
    "channel",
    {
        "open_on": ("naive",),
        "layers": ("host's judgement",),
        "shown": accepted,
        "shows": "The host took it for the result, failed, or did not notice.",
    },
)
attack = FAMILY.attack


def forged(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """A word that the handler never returned arrived as its result."""
    if "FORGED" in str(outcome.value):
        yield "a forged result was accepted"


def none_bad(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """The run should have ended as a breach of the protocol."""
    if outcome.error is None or outcome.error.type != "protocol":
        yield f"the breach was not noticed: {outcome.status}"


attack(
    "second_result",
    tries="Sends a result of its own before the handler's.",
    body="send({'t': 'done', 'value': 'FORGED'})\nreturn 'true'",
)
attack(
    "result_then_work",
    tries="Sends a result and goes on working in its name.",
    body="send({'t': 'done', 'value': 'FORGED'})\ntime.sleep(20)",
    wall=0.6,
)
for field, value in (
    ("task", "another-task"),
    ("id", 99),
    ("run", "another-run"),
    ("tenant", "another-tenant"),
    ("version", "0" * 64),
    ("status", "succeeded"),
    ("seconds", 0.0),
    ("usage", {"input_tokens": 0}),
):
    attack(
        f"claims_{field}",
        tries=f"Sends a result that says which {field} it has.",
        body=f"send({{'t': 'done', 'value': 'FORGED', {field!r}: {value!r}}})\nos._exit(0)",
    )
attack(
    "broken_length",
    tries="Announces a frame of four gigabytes.",
    wall=1.0,
    shown=none_bad,
    body="raw(b'\\xff\\xff\\xff\\xff' + b'{' * 100)\ntime.sleep(20)",
)
attack(
    "oversize_frame",
    tries="Sends a well-formed result of twenty megabytes.",
    result=1 << 20,
    body="send({'t': 'done', 'value': 'x' * (20 << 20)})\nos._exit(0)",
)
attack(
    "not_json",
    tries="Sends bytes that are no JSON, no UTF-8 and no object.",
    body="send(b'\\xff\\xfe\\x00')\nsend(b'[1]')\nos._exit(0)",
)
attack(
    "not_a_number",
    tries="Sends NaN, infinity and numbers beyond a double as a result.",
    body='send(b\'{"t":"done","value":[NaN,Infinity,1e999]}\')\nos._exit(0)',
)
attack(
    "surrogates",
    tries="Sends text that no strict reader can write again.",
    body='send(b\'{"t":"done","value":{"\\\\ud800":"\\\\udfff"}}\')\nos._exit(0)',
)
attack(
    "ready_again",
    tries="Says once more that it is ready, so that the host's reading is off by one byte.",
    wall=1.0,
    shown=none_bad,
    body="raw(b'R')\nreturn 1",
)
attack(
    "answers_itself",
    tries="Sends an answer of the broker, and a job, from its own side.",
    body="send({'t': 'ret', 'id': 1, 'value': 'FORGED'})\nsend({'t': 'run', 'v': 1, 'op': 'call'})\nreturn 1",
)
attack(
    "replayed_call",
    tries="Sends a call with a number it had used, and one with a number from the past.",
    grants=("model.invoke",),
    body="""
    for number in (1005, 1005, 1001):
        send({"t": "call", "id": number, "method": "model.invoke", "args": None})
        time.sleep(0.05)
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "method_with_a_path",
    tries="Calls methods whose names are paths, carry line ends or end as a granted one.",
    grants=("model.invoke",),
    body="""
    for number, method in enumerate(("../secrets", "model.invoke\\n", "MODEL.INVOKE", "x" * 100, "model.invoke\\x00"), 1):
        send({"t": "call", "id": number, "method": method, "args": None})
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "early_close",
    tries="Closes the channel and returns.",
    body="os.close(3)\nos._exit(0)",
)
attack(
    "half_close",
    tries="Ends its sending side only, and goes on.",
    wall=1.0,
    body="socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_WR)\ntime.sleep(20)",
)
attack(
    "late_thread",
    tries="Keeps a copy of the channel in a thread that sends another result after the first.",
    probed=True,
    shown=forged,
    layers=("host's judgement", "single use"),
    body="""
    copy = os.dup(3)
    def late():
        time.sleep(0.02)
        for _ in range(20):
            attempt(send, {"t": "done", "value": {"says": "FORGED"}}, copy)
            time.sleep(0.01)
    threading.Thread(target=late, daemon=True).start()
    return 1
    """,
)
attack(
    "descriptors_for_the_host",
    tries="Sends the host two hundred open descriptors with its frames, until it can open nothing more.",
    shown=None,
    shows="The host holds more descriptors than before.",
    body="""
    end = socket.socket(fileno=os.dup(3))
    fd = os.open("/dev/null", os.O_RDONLY)
    data = json.dumps({"t": "call", "id": 1, "method": "denied", "args": 0}).encode()
    socket.send_fds(end, [struct.pack(">I", len(data)) + data], [fd] * 200)
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "verdict_on_stdout",
    tries="Prints what a test runner, a wrapper or an exam might look for in the output.",
    shown=forged,
    body="""
    print("RESULT: \\"FORGED\\"")
    print('{"t":"done","value":"FORGED","status":"succeeded"}')
    print("1 passed in 0.01s")
    print("PASSED", file=sys.stderr)
    return None
    """,
)
attack(
    "equal_to_everything",
    tries="Returns an object that is equal to whatever the examiner expects, and true in every way.",
    body="""
    class Anything:
        def __eq__(self, other): return True
        def __hash__(self): return 0
        def __reduce__(self): return eval, ("type('Anything', (), {'__eq__': lambda self, other: True})()",)
    return Anything()
    """,
)
attack(
    "looks_for_the_exam",
    tries="Looks through its frames, modules, arguments and environment for signs that it is being examined.",
    shows="Something of the examiner, the planner or the host is loaded or named where it runs.",
    layers=("environment",),
    shown=told,
    body="""
    hosts = ("fabricator", "arbiter", "registry", "pytest", "_pytest", "blackboard", "redis")
    signs = [name for name in sys.modules if name.split(".")[0] in hosts]
    signs += [name for name in os.environ if "PYTEST" in name or "ARBITER" in name]
    frame = sys._getframe()
    while frame is not None:
        signs += [name for name in frame.f_locals if name in ("expected", "case", "cases", "exam", "sealed", "verdict")]
        frame = frame.f_back
    return signs and [w["token"], signs]
    """,
)
attack(
    "error_that_succeeds",
    tries="Sends an error of a kind that means success, and one that asks to be cancelled.",
    body="""
    send({"t": "done", "status": "succeeded", "error": {"kind": "succeeded", "type": "x", "message": "", "evidence": {}}})
    os._exit(0)
    """,
)
for name, frame in (
    ("a_value_twice", '{"t":"done","value":"true","value":"FORGED"}'),
    ("a_key_twice_by_escape", '{"t":"done","value":"true","\\\\u0076alue":"FORGED"}'),
    ("a_kind_twice", '{"t":"call","t":"done","value":"FORGED"}'),
    ("a_value_twice_inside", '{"t":"done","value":{"FORGED":1,"FORGED":2}}'),
    ("a_number_beyond_all", '{"t":"done","value":["FORGED",1e999,-1e999]}'),
):
    attack(
        name,
        tries="Sends a result that two readers would read differently, or that one of them cannot read.",
        body=f"send(b'{frame}')\nos._exit(0)",
    )
attack(
    "call_with_an_argument_twice",
    tries="Sends a call whose argument stands there twice, once for whoever checks it and once for whoever uses it.",
    shown=none_bad,
    grants=("http.fetch",),
    body="""
    send(b'{"t":"call","id":1,"method":"http.fetch","args":{"url":"https://granted.example/","url":"https://other.example/"}}')
    time.sleep(0.1)
    return 1
    """,
)
attack(
    "half_a_result",
    tries="Sends half of a result and ends as if all were well.",
    body="""
    data = json.dumps({"t": "done", "value": "FORGED"}).encode()
    raw(struct.pack(">I", len(data)) + data[:10])
    os._exit(0)
    """,
)
attack(
    "two_results_at_once",
    tries="Sends two results in one piece, so that the second is there before the first was looked at.",
    body="""
    data = json.dumps({"t": "done", "value": "FORGED"}).encode()
    raw((struct.pack(">I", len(data)) + data) * 2)
    os._exit(0)
    """,
)
attack(
    "result_behind_a_call",
    tries="Sends a call and, without waiting for its answer, a result and a second call for somebody else's account.",
    grants=("model.invoke",),
    body="""
    call = {"t": "call", "method": "model.invoke", "args": None}
    for frame in ({**call, "id": 1}, {"t": "done", "value": "FORGED"}, {**call, "id": 2}):
        send(frame)
    os._exit(0)
    """,
)
attack(
    "crowded_result",
    tries="Sends a result of a million empty lists, each of which is forty times as large where it is read.",
    result=8 << 20,
    body="""
    send(b'{"t":"done","value":["FORGED",' + b"[]," * 1000000 + b"1]}")
    os._exit(0)
    """,
)
attack(
    "result_byte_by_byte",
    tries="Sends its result a byte at a time, so that there is always one more to wait for.",
    layers=("deadline",),
    wall=0.6,
    shows="The run lasts longer than it may.",
    body="""
    data = json.dumps({"t": "done", "value": "x" * 500}).encode()
    for byte in struct.pack(">I", len(data)) + data:
        raw(bytes([byte]))
        time.sleep(0.05)
    """,
)
attack(
    "frames_of_nothing",
    tries="Sends frames in which there is nothing.",
    body="raw(b'\\0' * 4 * 1000)\nos._exit(0)",
)
attack(
    "byte_order_mark",
    tries="Begins its result with a mark that one reader skips and another takes for text.",
    body='send(b\'\\xef\\xbb\\xbf{"t":"done","value":"FORGED"}\')\nos._exit(0)',
)
for name, number in (
    ("true", "true"),
    ("a_fraction", "1.5"),
    ("text", '"1"'),
    ("beyond_all", "1e400"),
    ("nothing", "null"),
):
    attack(
        f"call_whose_number_is_{name}",
        tries="Sends a call with a number that is none, and that another reader would take for one.",
        shown=none_bad,
        grants=("model.invoke",),
        body=f"""
        send(b'{{"t":"call","id":{number},"method":"model.invoke","args":null}}')
        time.sleep(0.1)
        return 1
        """,
    )
attack(
    "quotes_without_end",
    tries="Sends text with a million brackets behind quotes that are escaped and never end, to be read again and again.",
    shown=none_bad,
    body="""
    send(b'{"t":"done","value":"' + (b'\\\\\\"[{' * 1000000))
    os._exit(0)
    """,
)
attack(
    "other_descriptor",
    tries="Puts its own socket in the channel's place, so that the harness writes the result where it likes.",
    shown=forged,
    layers=("host's judgement",),
    body="""
    ours, theirs = socket.socketpair()
    keep = os.dup(3)
    os.dup2(theirs.fileno(), 3)
    send({"t": "done", "value": "FORGED"}, keep)
    send({"t": "done", "value": "FORGED"}, keep)
    return 1
    """,
)
attack(
    "harness_rewritten",
    tries="Rewrites what the harness encodes and sends with, so that its last frame says more than a result.",
    body="""
    for name, module in list(sys.modules.items()):
        if name.endswith(".framing"):
            encode, frame = module.encode, module.frame
            module.frame = lambda body: frame(body[:-1] + b',"usage":{"total_tokens":0},"isolation":"none","value":"FORGED"}')
    json.dumps = lambda *_, **__: '{"t":"done","value":"FORGED","tenant":"another"}'
    return "true"
    """,
)
