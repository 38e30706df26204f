"""``python -m benchmarks.peers NAME queue|work|ask COUNT``: take one part in the comparison; answers are JSON lines."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    name, role, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    module = importlib.import_module(f"benchmarks.peers.{name}")
    match role:
        case "queue":
            module.queue(count)
            print(json.dumps("queued"), flush=True)
        case "work":
            module.work()
        case "ask":
            print(json.dumps(module.ask(count)), flush=True)
        case _:
            raise SystemExit(f"{role} is no role; use queue, work or ask")


if __name__ == "__main__":
    main()
