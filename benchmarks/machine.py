"""On what was it measured?"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from blackboard.testing import RedisServer


def facts() -> Mapping[str, str]:
    """What a reader needs to judge the numbers, measured load included."""
    with RedisServer() as server, server.client() as client:
        redis = str(client.info("server")["redis_version"])  # pyright: ignore[reportUnknownMemberType]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{os.cpu_count()} × {_processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis-server": redis,
        "redis-py": version("redis"),
        "strands-agents": version("strands-agents"),
        "commit": _commit(),
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    folder = Path(__file__).parent
    found = subprocess.run([git, "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"
