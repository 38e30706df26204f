"""Attacks on whoever comes next: something is left behind for, or changed under, a later attempt of the same worker."""

from __future__ import annotations

from attack import Family

FAMILY = Family(
    "persistence",
    {
        "open_on": ("naive",),
        "layers": ("single use",),
        "probed": True,
        "shows": "A later attempt finds its token, or finds something else than it would have found.",
    },
)
attack = FAMILY.attack

attack(
    "modules",
    tries="Puts modules of its own, and changed ones, into sys.modules.",
    body="""
    import types
    sys.modules[w["token"]] = types.ModuleType(w["token"])
    sys.modules["statistics"] = types.ModuleType("statistics")
    setattr(os, w["token"], 1)
    """,
)
attack(
    "builtins",
    tries="Replaces print, open, len and __import__ for everybody.",
    body="""
    import builtins
    inner = builtins.__import__
    builtins.__import__ = lambda *arguments, **named: inner(*arguments, **named)
    builtins.leaked = builtins.open
    builtins.print = lambda *_, **__: None
    builtins.repr = lambda each: w["token"]
    """,
)
attack(
    "working_files",
    tries="Leaves files in its folder and in the folder for temporary files.",
    open_on=("naive",),
    body="""
    import tempfile
    open(w["token"], "w").write("x")
    tempfile.mkdtemp(prefix=w["token"])
    """,
)
attack(
    "shared_memory",
    tries="Leaves named shared memory and a named semaphore.",
    layers=("box", "landlock"),
    open_on=(),
    body="""
    from multiprocessing import shared_memory, resource_tracker
    resource_tracker.register = lambda *_: None
    resource_tracker.ensure_running = lambda *_: None
    attempt(shared_memory.SharedMemory, w["token"], True, 100)
    libc.sem_open.restype = ctypes.c_void_p
    libc.sem_open(("/" + w["token"]).encode(), os.O_CREAT, 0o600, 1)
    """,
)
attack(
    "system_v",
    tries="Leaves System V shared memory, semaphores and a message queue.",
    layers=("box", "seccomp"),
    open_on=(),
    shows="They are there.",
    body="""
    key = int(w["token"][3:11], 16) & 0x7FFFFFFF
    libc.shmget(key, 4096, 0o1666)
    libc.semget(key, 1, 0o1666)
    libc.msgget(key, 0o1666)
    """,
)
attack(
    "message_queue",
    tries="Leaves a POSIX message queue.",
    layers=("box", "limits", "seccomp"),
    open_on=(),
    shown=lambda world, outcome, token: (
        ["a message queue of its name can be opened from outside"] if _queue_left(token) else []
    ),
    body="syscall('mq_open', w['token'].encode(), os.O_CREAT | os.O_RDWR, 0o666, None)",
)
attack(
    "threads",
    tries="Leaves threads running.",
    body="""
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """,
)
attack(
    "signals_and_timers",
    tries="Leaves signal handlers, a blocked signal mask and an alarm.",
    body="""
    libc.signal(signal.SIGUSR2, 1)
    libc.alarm(100)
    libc.siginterrupt(signal.SIGUSR2, 1)
    """,
)
attack(
    "environment",
    tries="Changes the environment, in Python and below it.",
    body="""
    os.environ[w["token"]] = "1"
    os.environ["PYTHONPATH"] = "/tmp/" + w["token"]
    libc.setenv(b"LD_PRELOAD", w["token"].encode(), 1)
    """,
)
attack(
    "working_folder",
    tries="Changes the working folder, the umask, the locale and the priority.",
    body="""
    import locale
    attempt(os.chdir, "/")
    os.umask(0)
    attempt(locale.setlocale, locale.LC_ALL, "C")
    attempt(os.nice, 3)
    """,
)
attack(
    "import_caches",
    tries="Poisons the caches of imports, of source lines and of bytecode.",
    body="""
    import linecache
    sys.path_importer_cache.clear()
    linecache.cache["<x>"] = (1, None, [w["token"]], "<x>")
    sys.path.insert(0, os.getcwd())
    open("secrets.py", "w").write("forged = True")
    sys.dont_write_bytecode = False
    sys.pycache_prefix = "/tmp/" + w["token"]
    """,
)
attack(
    "settings",
    tries="Changes what the whole process computes with: decimal precision, recursion, collector, time zone, limits.",
    body="""
    import decimal, gc, resource, warnings
    decimal.DefaultContext.prec = 3
    sys.setrecursionlimit(500)
    gc.disable()
    warnings.filterwarnings("ignore", message=w["token"])
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    sys.set_int_max_str_digits(0)
    sys.setswitchinterval(1)
    socket.setdefaulttimeout(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    """,
)
attack(
    "logging",
    tries="Adds log handlers, an except hook and replaced output streams.",
    body="""
    import io, logging
    logging.root.setLevel(1)
    logging.root.addHandler(logging.StreamHandler(io.StringIO()))
    sys.excepthook = lambda *_: None
    sys.argv.append(w["token"])
    """,
)
attack(
    "memory_of_the_parent",
    tries="Keeps its token in every shared or inherited page it can write, hoping that the next child is forked from it.",
    body="""
    import gc
    gc.unfreeze()
    for each in gc.get_objects():
        if type(each) is dict and "__builtins__" in each and "__name__" in each:
            each[w["token"]] = w["token"]
    """,
)


def _queue_left(token: str) -> bool:
    import ctypes
    import os

    if os.uname().machine != "x86_64":
        return False
    libc = ctypes.CDLL(None)
    found: int = libc.syscall(240, token.encode(), os.O_RDONLY, 0, None)
    if found >= 0:
        os.close(found)
        libc.syscall(241, token.encode())
    return found >= 0
