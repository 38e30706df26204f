"""Attacks by what can be asked of memory: that others feel it, or learn from how long it takes what they do."""

from __future__ import annotations

from attack import Family, told

FAMILY = Family("memory", {"shows": "The kernel did what it was asked for.", "shown": told, "layers": ("seccomp",)})
attack = FAMILY.attack

_AREA = '''
import mmap
def advised(place, number):
    """Whether the kernel took an advice about memory."""
    return libc.madvise(ctypes.c_void_p(place), ctypes.c_size_t(4096), number) == 0
def anonymous():
    area = mmap.mmap(-1, 4096)
    area.write(b"x" * 4096)
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))
def library():
    """Where a page of a library lies that all processes share."""
    libc.mmap.restype = ctypes.c_void_p
    fd = os.open(os.__file__, os.O_RDONLY)
    return fd, libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))
'''


def _body(text: str) -> str:
    lines = "\n".join("    " + line for line in text.strip("\n").splitlines())
    return _AREA.lstrip("\n") + "def handler(w):\n" + lines + "\n"


attack(
    "merged_pages",
    _body("""
area, place = anonymous()
if advised(place, 12): return w["token"]
"""),
    tries="Has its pages merged with equal ones of others, and could tell by the time of a write what they hold.",
)
attack(
    "pages_sent_out",
    _body("""
fd, place = library()
given = [number for number in (20, 21) if advised(place, number)]
return given and [w["token"], given]
"""),
    tries="Has pages of libraries that others use sent out of memory, or be the next to go.",
)
attack(
    "pages_fetched",
    _body("""
area, place = anonymous()
given = [number for number in (22, 23, 25) if advised(place, number)]
return given and [w["token"], given]
"""),
    tries="Has the kernel fetch, write and collapse pages ahead of their use.",
)
attack(
    "cache_emptied",
    """
    with open(os.__file__, "rb") as file:
        for advice in (0, 3, 4):
            if attempt(lambda: os.posix_fadvise(file.fileno(), 0, 0, advice) is None):
                return w["token"]
    """,
    tries="Has the cached pages of a library dropped that everybody reads, and tells by them what others run.",
)
attack(
    "locked_by_the_map",
    """
    import mmap
    for size in (1 << 20, 4 << 20):
        if attempt(mmap.mmap, -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000) is not None:
            return w["token"]
    """,
    tries="Maps megabytes that are locked from the beginning, for which no call to lock is needed.",
    layers=("limits",),
)
