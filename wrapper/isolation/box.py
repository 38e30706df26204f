"""The box a zygote lives in: own user, network, ipc, host name, process and mount namespaces, and a root of its own.

Built by the zygote's own process before it imports anything else, from the interpreter the host started with a clean
environment. The new root is an empty read-only file system into which exactly what Python needs is bound, read-only:
libraries, the standard library, site-packages, the few files of this package the zygote imports, three device nodes.
There is no /etc, no /home, no data folder, no socket and no process of the host in it.

Inside, the zygote runs as the unprivileged user 65534 and keeps one capability, CAP_SYS_ADMIN over its own namespaces,
with which it gives each child namespaces of its own. Children keep none.

As root, that user is 65534 outside too. As anybody else, it is that user outside, who owns nothing inside.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from typing import NoReturn

from wrapper.isolation import kernel, lockdown

USER = 65534
"""``nobody``: owns no file anywhere."""
_EVERYTHING = (1 << 32) - 1
_SYSTEM = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib32", "/lib64", "/nix/store")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_OWN = ("__init__", "binary", "context", "failing", "sdk")
_PACKAGES = ("site-packages", "dist-packages")
_ROOT_SIZE = "size=1m,mode=0755"
_BUILDING_PLACES = ("/mnt", "/media", "/srv", "/sys", "/tmp")
"""Directories to build on: in a mount namespace of its own, where only the new root is left in the end."""


class CannotBox(RuntimeError):
    """This machine does not let this user build the box; the message names the step."""


def runtime(preload: Sequence[str]) -> list[str]:
    """Absolute paths of what Python needs, none inside another: what a zygote and its children may read."""
    found = [path for path in (*_SYSTEM, *_SYSTEM_FILES) if os.path.exists(path)]
    found += [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if os.path.isdir(path)]
    for prefix in {sys.base_prefix, sys.base_exec_prefix}:
        found += [path for path in (f"{prefix}/lib", f"{prefix}/lib64") if os.path.isdir(path)]
    found += [path for name in ("stdlib", "platstdlib") if os.path.isdir(path := sysconfig.get_path(name))]
    found += [path for path in sys.path if os.path.basename(path) in _PACKAGES and os.path.isdir(path)]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found += [f"{here}/isolation", *(f"{here}/{name}.py" for name in _OWN)]
    for name in preload:
        found += package(name.partition(".")[0])
    return _outermost(found)


def package(name: str) -> Iterator[str]:
    """Where a top-level module to preload lies, which for an editable install is beside site-packages."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    if spec.submodule_search_locations:
        yield from map(os.path.abspath, spec.submodule_search_locations)
    elif spec.origin and os.path.isabs(spec.origin):
        yield spec.origin


def scratch(paths: Sequence[str]) -> str:
    """Where a child's own file system is mounted: a place that hides nothing it needs."""
    return "/tmp" if _free("/tmp", paths) else "/scratch"


def _free(place: str, paths: Sequence[str]) -> bool:
    return not any(path == place or path.startswith(place + "/") for path in paths)


def _outermost(paths: list[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted({os.path.abspath(each) for each in paths}):
        # A symbolic link, such as /lib, is made again in the box and does not cover what is named through it.
        if not (kept and path.startswith(kept[-1] + "/") and not os.path.islink(kept[-1])):
            kept.append(path)
    return kept


def enter(host: int, paths: Sequence[str], without: frozenset[str]) -> None:
    """Return inside the box, as the first process of its pid namespace; the calling process stays behind and waits.

    Raises:
        CannotBox: a step was refused. Nothing of the host's is changed.
    """
    root = os.geteuid() == 0
    try:
        _own_user_namespace(root)
        kernel.unshare(kernel.CLONE_NEWPID)
    except OSError as error:
        raise CannotBox(f"user and pid namespaces: {error}") from error
    if (inner := os.fork()) != 0:
        _stay_behind(inner, host)
    lockdown.die_with_parent(signal.SIGKILL, 0)
    try:
        network = 0 if "network" in without else kernel.CLONE_NEWNET
        kernel.unshare(
            kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP | network
        )
        kernel.set_hostname("box")
        _build(paths)
        become_nobody(root, kernel.CAP_SYS_ADMIN)
    except OSError as error:
        raise CannotBox(str(error)) from error
    # Giving up an identity also gives up this signal; see prctl(2).
    lockdown.die_with_parent(signal.SIGKILL, 0)


def _own_user_namespace(root: bool) -> None:
    """As root, every id keeps its number, so that root's own files can be bound; otherwise one id, 65534, is this user.

    Only a process outside may write a map of many ids, so one is forked for that.
    """
    user, group = os.geteuid(), os.getegid()
    if not root:
        kernel.unshare(kernel.CLONE_NEWUSER)
        kernel.tell("/proc/self/setgroups", "deny")
        kernel.tell("/proc/self/uid_map", f"{USER} {user} 1")
        kernel.tell("/proc/self/gid_map", f"{USER} {group} 1")
        return
    unshared_read, unshared = os.pipe()
    me = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        code = 1
        try:
            os.close(unshared)
            if os.read(unshared_read, 1):
                kernel.tell(f"/proc/{me}/uid_map", f"0 0 {_EVERYTHING}")
                kernel.tell(f"/proc/{me}/gid_map", f"0 0 {_EVERYTHING}")
                code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.write(unshared, b".")
    finally:
        os.close(unshared)
        os.close(unshared_read)
        _, status = os.waitpid(mapper, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(code, f"ids could not be mapped: {os.strerror(code) if code > 0 else code}")


def _stay_behind(inner: int, host: int) -> NoReturn:
    """The process the host started: holds nothing, ends when the zygote ends, and takes it along when it is killed."""
    code = 1
    try:
        os.closerange(0, 1 << 16)
        lockdown.die_with_parent(signal.SIGKILL, host)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        # Its death is to kill the zygote, which as root has another identity by then; the kernel asks whether it may.
        kernel.keep_capabilities(kernel.CAP_KILL)
        code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _build(paths: Sequence[str]) -> None:
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    new = next((each for each in _BUILDING_PLACES if os.path.isdir(each) and _free(each, paths)), None)
    if new is None:
        raise OSError(2, f"none of {', '.join(_BUILDING_PLACES)} is a directory to build the box on")
    kernel.mount("box", new, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _ROOT_SIZE)
    os.umask(0o022)
    for path in paths:
        _bind(path, new + path)
    for path in DEVICES:
        _touch(new + path)
        kernel.mount(path, new + path, None, kernel.MS_BIND)
    for path in ("/proc", scratch(paths)):
        os.makedirs(new + path, exist_ok=True)
    kernel.mount("proc", new + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    os.chdir(new)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, "/", None, flags)


def _bind(path: str, target: str) -> None:
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if stat.S_ISDIR(os.stat(path).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        _touch(target)
    kernel.mount(path, target, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.make_read_only(target)


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def become_nobody(root: bool, *capabilities: int) -> None:
    """Give up identity and privileges, except the named capabilities, for good."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() == 0 or capabilities:
        kernel.drop_bounding_set()
    if root:
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 0)
    kernel.keep_capabilities(*capabilities)


def bubblewrap(preload: Sequence[str], without: frozenset[str]) -> list[str]:
    """The command that starts an interpreter in the same box, built by ``bwrap``; the interpreter's follows it.

    It is used where only that program may make user namespaces, and not for root: the user inside would be root outside.
    """
    paths = runtime(preload)
    program = os.path.realpath(sys.executable)
    # To find its libraries a new interpreter also needs itself, the link to it, and the file that makes a venv of it.
    paths = _outermost([*paths, program, *_venv()])
    binds: list[str] = []
    for path in paths:
        if os.path.islink(path):
            binds += ["--symlink", os.readlink(path), path]
        else:
            binds += ["--ro-bind", path, path]
    for path in DEVICES:
        binds += ["--dev-bind", path, path]
    return [
        "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        *([] if "network" in without else ["--unshare-net"]),
        "--uid", str(USER), "--gid", str(USER), "--hostname", "box", "--die-with-parent",
        "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP",
        *binds, "--proc", "/proc", "--dir", scratch(paths), "--remount-ro", "/", "--chdir", "/", "--",
    ]  # fmt: skip


def _venv() -> list[str]:
    if sys.prefix == sys.base_prefix:
        return []
    links: list[str] = []
    link = os.path.abspath(sys.executable)
    while os.path.islink(link):
        links.append(link)
        link = os.path.abspath(os.path.join(os.path.dirname(link), os.readlink(link)))
    return [*links, *(path for path in [f"{sys.prefix}/pyvenv.cfg"] if os.path.exists(path))]


def settle() -> None:
    """In a box that ``bwrap`` built: give up what it left.

    Raises:
        CannotBox: a step was refused.
    """
    try:
        become_nobody(False, kernel.CAP_SYS_ADMIN)
        lockdown.die_with_parent(signal.SIGKILL, os.getppid())
    except OSError as error:
        raise CannotBox(str(error)) from error


def lower(paths: Sequence[str], without: frozenset[str]) -> None:
    """Without a box: give up privileges, and as root the identity too.

    Where others may not read the runtime, root's number stays in force for files; threads count as the other user's, since
    the kernel does not limit root's.
    """
    root = os.geteuid() == 0 and "identity" not in without
    readable = all(map(_open_to_all, paths))
    if root and not readable:
        os.setgroups([])
        os.setresuid(USER, 0, 0)
    become_nobody(root and readable)


def _open_to_all(path: str) -> bool:
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:
            return False
        while (path := os.path.dirname(path)) != "/":
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False
    return True
