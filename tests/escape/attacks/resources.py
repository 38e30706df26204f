"""Attacks by using more than was allowed, with code that does not cooperate in being stopped.

All are bounded: where nothing stops them they take some hundred megabytes and end.
"""

from __future__ import annotations

from attack import Family, accepted, told

FAMILY = Family(
    "resources", {"open_on": ("naive",), "layers": ("deadline",), "shows": "The run did not end at its deadline."}
)
attack = FAMILY.attack

attack(
    "loop_in_c",
    tries="Runs a loop in C that never gives Python a chance to see a signal.",
    wall=0.5,
    body="""
    import itertools
    mark(w)
    sum(itertools.repeat(1, 1 << 40))
    """,
)
attack(
    "power",
    tries="Computes a power of some hundred million digits, in C, with the interpreter's lock held.",
    wall=0.5,
    body="mark(w)\nreturn (7 ** (3 ** 17)) % 7",
)
attack(
    "backtracking",
    tries="Matches a regular expression that backtracks for years.",
    wall=0.5,
    body="import re\nreturn re.match('(a+)+$', 'a' * 60 + 'b')",
)
attack(
    "sleep",
    tries="Sleeps past its deadline, in the main thread and in others, and joins them.",
    wall=0.4,
    body="""
    threads = [threading.Thread(target=time.sleep, args=(20,)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """,
)
attack(
    "leader_gone",
    tries="Ends the thread its process is known by and goes on in another one, with every signal blocked.",
    wall=0.6,
    body="""
    def on():
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        time.sleep(20)
    threading.Thread(target=on).start()
    libc.syscall(60 if _X86 else 93, 0)
    """,
)
attack(
    "slow_import",
    tries="Does its work while it is imported, before anyone calls it.",
    wall=0.4,
    bare=True,
    body="import time\ntime.sleep(20)\ndef handler(w):\n    return 1\n",
)
attack(
    "slow_encoding",
    tries="Returns an object whose encoding never ends.",
    wall=0.4,
    body="""
    class Endless(dict):
        def items(self):
            while True: time.sleep(1)
        __iter__ = keys = items
    return Endless(a=1)
    """,
)
attack(
    "processor_time",
    tries="Burns processor time in several threads and catches the signal that says it is used up.",
    layers=("limits",),
    open_on=(),
    shows="It used more than a second beyond its limit.",
    wall=20.0,
    cpu=1.0,
    watched=True,
    body="""
    import itertools
    mark(w)
    attempt(signal.signal, signal.SIGXCPU, lambda *_: None)
    while time.process_time() < 2.8:
        sum(itertools.repeat(1, 1 << 20))
    """,
)
attack(
    "fork_bomb",
    tries="Forks sixty times, as fast as it can.",
    layers=("seccomp",),
    open_on=(),
    shows="Sixty processes carry its token.",
    watched=True,
    body="""
    mark(w)
    for _ in range(60):
        if attempt(os.fork) == 0:
            time.sleep(5)
            os._exit(0)
    time.sleep(0.1)
    """,
)
attack(
    "thread_bomb",
    tries="Starts two thousand threads.",
    layers=("limits",),
    open_on=(),
    shows="More than 512 threads ran.",
    watched=True,
    body="""
    mark(w)
    threading.stack_size(32768)
    done = threading.Event()
    started = 0
    for _ in range(2000):
        thread = threading.Thread(target=done.wait, args=(3,), daemon=True)
        if attempt(thread.start) is None and thread.ident:
            started += 1
        elif not thread.ident:
            break
    time.sleep(0.1)
    os._exit(1)
    """,
)
_MEMORY = {"memory": 128 << 20, "watched": True, "shows": "It held more memory than allowed."}
attack(
    "memory_objects",
    tries="Holds half a gigabyte in objects.",
    layers=("limits",),
    open_on=(),
    body="""
    mark(w)
    held = [bytearray(b"x") * (8 << 20) for _ in range(64)]
    time.sleep(0.1)
    """,
    **_MEMORY,
)
attack(
    "memory_mmap",
    tries="Maps half a gigabyte of anonymous and shared memory, in pieces and with more threads' stacks.",
    layers=("limits",),
    open_on=(),
    body="""
    import mmap
    mark(w)
    held = []
    for number in range(64):
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if number % 2 else mmap.MAP_PRIVATE)
        each = attempt(mmap.mmap, -1, 8 << 20, flags)
        if each is not None:
            for at in range(0, 8 << 20, 4096): each[at] = 1
            held.append(each)
    time.sleep(0.1)
    """,
    **_MEMORY,
)
attack(
    "memory_limit_raised",
    tries="Raises its own limits before it takes half a gigabyte.",
    layers=("limits",),
    open_on=(),
    body="""
    import resource
    mark(w)
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        attempt(resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        attempt(resource.prlimit, 0, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    held = [bytearray(b"x") * (8 << 20) for _ in range(64)]
    time.sleep(0.1)
    """,
    **_MEMORY,
)
_SHARED = """
    mark(w)
    block, held = b"x" * (4 << 20), []
    for number in range(40):
        def take():
            fd = {open}
            held.append(fd)
            for _ in range(3): os.write(fd, block)
        attempt(take)
    time.sleep(0.1)
"""
attack(
    "memory_files",
    tries="Writes half a gigabyte into files in memory, which no address space counts.",
    layers=("seccomp",),
    open_on=(),
    body=_SHARED.format(open='os.memfd_create("x")'),
    alone=True,
    **_MEMORY,
)
attack(
    "shared_memory",
    tries="Writes half a gigabyte to /dev/shm.",
    layers=("box", "landlock"),
    open_on=(),
    body=_SHARED.format(open="os.open(f\"/dev/shm/{w['token']}{number}\", os.O_RDWR | os.O_CREAT)"),
    alone=True,
    **_MEMORY,
)
attack(
    "disk",
    tries="Fills its scratch folder with a quarter of a gigabyte, in files of the size it is allowed.",
    wall=15.0,
    layers=("scratch",),
    open_on=("process",),
    shows="More than 64 MiB are there.",
    watched=True,
    body="""
    mark(w)
    block = b"x" * (4 << 20)
    for number in range(20):
        def fill():
            with open(f"fill{number}", "wb") as file:
                for _ in range(3): file.write(block)
        attempt(fill)
    time.sleep(0.3)
    """,
)
attack(
    "inodes",
    tries="Makes six thousand files in its scratch folder.",
    wall=15.0,
    layers=("scratch",),
    open_on=("process",),
    shows="More than 4,096 are there.",
    watched=True,
    body="""
    mark(w)
    for number in range(6000):
        attempt(lambda: os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY)))
    time.sleep(0.3)
    """,
)
attack(
    "large_file",
    tries="Writes one file larger than allowed, and a sparse one.",
    layers=("limits",),
    open_on=(),
    shows="More than the limit was written.",
    file=1 << 20,
    shown=lambda world, outcome, token: (
        ["a file beyond the limit was written"] if str(outcome.value) == "[6291456]" else []
    ),
    body="""
    attempt(signal.signal, signal.SIGXFSZ, signal.SIG_IGN)
    import tempfile
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(6):
            attempt(file.write, b"x" * (1 << 20))
        attempt(file.truncate, 6 << 20)
        return [os.fstat(file.fileno()).st_size]
    """,
)
attack(
    "descriptors",
    tries="Opens as many descriptors as it can, of every cheap kind.",
    layers=("limits",),
    open_on=(),
    shows="More than 256 were open.",
    watched=True,
    body="""
    mark(w)
    held = []
    for _ in range(900):
        held.append(attempt(os.dup, 1))
    attempt(os.pipe)
    time.sleep(0.15)
    for fd in held:
        if fd is not None: os.close(fd)
    """,
)
_FLOOD = {"log": 1 << 16, "file": 1 << 20, "shows": "The host kept more than its limit."}
attack(
    "stdout_flood",
    tries="Prints thirty megabytes, through Python and past it.",
    layers=("host's judgement",),
    shown=lambda world, outcome, token: (
        [f"{len(outcome.stdout)} characters were kept"] if len(outcome.stdout) > (1 << 17) else []
    ),
    body="""
    attempt(signal.signal, signal.SIGXFSZ, signal.SIG_IGN)
    for _ in range(20):
        print("x" * (1 << 20))
        attempt(os.write, 1, b"y" * (1 << 19))
    """,
    **_FLOOD,
)
attack(
    "stderr_flood",
    tries="Does the same to the error output, and moves its position so that a sparse flood looks endless.",
    layers=("host's judgement",),
    shown=lambda world, outcome, token: (
        [f"{len(outcome.stderr)} characters were kept"] if len(outcome.stderr) > (1 << 17) else []
    ),
    body="""
    attempt(signal.signal, signal.SIGXFSZ, signal.SIG_IGN)
    for _ in range(20):
        print("x" * (1 << 20), file=sys.stderr)
        attempt(os.write, 2, b"y" * (1 << 19))
    attempt(os.lseek, 2, 1 << 40, 0)
    attempt(os.ftruncate, 2, 1 << 40)
    """,
    **_FLOOD,
)
attack(
    "large_result",
    tries="Returns more than a result may have.",
    shows="The host has it.",
    layers=("host's judgement",),
    result=1 << 20,
    shown=lambda world, outcome, token: (
        ["a result beyond the limit was accepted"] if len(str(outcome.value)) > (1 << 20) + 100 else []
    ),
    body="""
    send({"t": "done", "value": "x" * (3 << 20)})
    return "x" * (3 << 20)
    """,
)
attack(
    "deep_result",
    tries="Sends a result nested a hundred thousand deep, past the check of its own end.",
    shows="The host fails.",
    layers=("host's judgement",),
    body="""
    send(b'{"t":"done","value":' + b"[" * 100000 + b"]" * 100000 + b"}")
    os._exit(0)
    """,
)
attack(
    "unread_answers",
    tries="Asks for as many megabytes as it may at once and never reads an answer.",
    layers=("deadline", "host's judgement"),
    wall=0.6,
    grants=("large",),
    body="""
    for number in range(1001, 1005):
        send({"t": "call", "id": number, "method": "large", "args": None})
    time.sleep(20)
    """,
)
attack(
    "flooded_channel",
    tries="Sends calls as fast as it can.",
    shows="More calls were answered, or open at once, than allowed.",
    layers=("host's judgement",),
    grants=("model.invoke",),
    wall=1.0,
    body="""
    for number in range(3000):
        send({"t": "call", "id": number + 1, "method": "model.invoke", "args": None})
    time.sleep(20)
    """,
)
attack(
    "half_a_frame",
    tries="Announces a frame, sends half of it and waits.",
    layers=("deadline",),
    wall=0.4,
    body="raw(struct.pack('>I', 1000) + b'{')\ntime.sleep(20)",
)
attack(
    "closed_and_busy",
    tries="Closes every descriptor it has and goes on computing.",
    layers=("kill",),
    wall=0.6,
    shown=accepted,
    body="""
    mark(w)
    os.closerange(0, 256)
    while True: pass
    """,
)
attack(
    "pipe_memory",
    tries="Makes its pipes hold sixteen times what they do, which no limit of a process counts.",
    layers=("seccomp",),
    open_on=(),
    shows="It was given the memory.",
    shown=told,
    body="""
    import fcntl
    reader, writer = os.pipe()
    if attempt(fcntl.fcntl, writer, 1031, 1 << 20):
        return w["token"]
    """,
)
attack(
    "socket_memory",
    tries="Makes its sockets hold megabytes each, gigabytes in all, which no limit of a process counts.",
    layers=("seccomp",),
    open_on=(),
    shows="It was given the memory.",
    shown=told,
    body="""
    pair = socket.socketpair()
    before = pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        attempt(pair[0].setsockopt, socket.SOL_SOCKET, option, before)
    if pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before:
        return w["token"]
    """,
)
attack(
    "record_locks",
    tries="Has the kernel keep locks on parts of its files, any number of them, which no limit of a process counts.",
    layers=("seccomp",),
    open_on=(),
    shows="A lock is really kept: it stands in the way of one of the other kind.",
    shown=told,
    body="""
    import fcntl
    with open("locked", "w") as one, open("locked", "w") as other:
        fcntl.lockf(one, fcntl.LOCK_EX, 1, 10)
        try:
            fcntl.fcntl(other, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10, 1, 0))
        except BlockingIOError:
            return w["token"]
    """,
)
attack(
    "locked_memory",
    tries="Locks memory so that the machine cannot take it back.",
    layers=("seccomp",),
    open_on=(),
    shows="It was locked.",
    shown=told,
    body="""
    import mmap
    area = mmap.mmap(-1, 4096)
    if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(area))), ctypes.c_size_t(4096)) == 0:
        return w["token"]
    """,
)
