"""G10 as an unprivileged user: the attacks and the controls once more, in a process that is nobody."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
_ROOT = Path(__file__).resolve().parents[2]
_CORE = "-k 'not (channel- or broker- or deserialisation- or interpreter- or bubblewrap or without_a_box)'"
"""Without what the host judges, which is the same for everybody, and without the other walls."""
_HOME = f"/tmp/arbiter-nobody-{os.getpid()}"


def _closed(path: str) -> str | None:
    """The first folder above a path that others may not pass."""
    for folder in reversed([path, *map(str, Path(path).parents)]):
        if not os.stat(folder).st_mode & 0o001:
            return folder
    return None


def _opened() -> str | None:
    """Shell commands that show an interpreter and this repository to everybody, in a mount namespace of its own.

    A Python in root's home cannot be started by anybody else; there it is bound over an empty home.
    """
    needed = {sys.base_prefix, sys.prefix, str(_ROOT), *(each for each in sys.path if "site-packages" in each)}
    behind: dict[str, list[str]] = {}
    for path in sorted(needed):
        if (closed := _closed(path)) is not None:
            if closed == path:
                return None
            behind.setdefault(closed, []).append(path)
    lines = ["set -e"]
    for closed, paths in behind.items():
        kept: list[str] = []
        for path in paths:
            if not any(path.startswith(each + "/") for each in kept):
                kept.append(path)
        lines += [f"hold{n}=$(mktemp -d); mount --bind {shlex.quote(path)} $hold{n}" for n, path in enumerate(kept)]
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(closed)}")
        lines += [
            f"mkdir -p {shlex.quote(path)}; mount --bind $hold{n} {shlex.quote(path)}; umount $hold{n}; rmdir $hold{n}"
            for n, path in enumerate(kept)
        ]
    # Temporary files in a place of its own: nobody may be kept out of the machine's.
    if not any(path.startswith("/tmp/") for path in needed):
        lines.append("mount -t tmpfs -o mode=1777 none /tmp")
    lines += [f"mkdir {_HOME}", f"chown {NOBODY}:{NOBODY} {_HOME}"]
    return "\n".join(lines)


def _as_nobody(tests: str) -> int:
    """How many tests pass in a process that is nobody; all of them have to."""
    if os.geteuid() != 0:
        pytest.skip("this is an unprivileged user already")
    if missing := [name for name in ("setpriv", "unshare", "mount") if shutil.which(name) is None]:
        pytest.skip(f"{missing} would be needed to become nobody")
    opened = _opened()
    if (
        opened is None
        or subprocess.run(["unshare", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode
    ):
        pytest.skip("nobody cannot be given an interpreter here: its folder is closed, and nothing may be mounted")
    become = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --bounding-set -all --inh-caps -all"
    pytest_ = f"{sys.executable} -m pytest -o addopts=--strict-markers -p no:cacheprovider -p no:xdist --basetemp {_HOME}/base"
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
            f"{opened}\nexec {become} {pytest_} {tests}",
        ],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "HOME": _HOME, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    shutil.rmtree(_HOME, ignore_errors=True)  # it is the machine's own where nothing was mounted over its place
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    return int(passed[1])


def test_g10_nobody_gets_out_as_nobody_either() -> None:
    assert _as_nobody(f"tests/escape/test_contained.py tests/escape/test_controls.py {_CORE}") > 150


def test_g10_which_isolation_is_used_is_decided_for_nobody_as_for_root() -> None:
    """With namespaces, without them, without Landlock, without both: the strongest that is left, or none."""
    outcomes = "can_be_had or are_refused or without_landlock or not_replaced or said_loudly"
    assert _as_nobody(f"tests/wrapper/test_isolation_detection.py -k '{outcomes}'") >= 4
