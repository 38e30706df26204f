"""``python -m arbiter`` is the command ``arbiter``."""

from arbiter.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
