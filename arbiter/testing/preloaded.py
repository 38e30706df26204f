"""What every process of a crash case has imported and read when it is forked; doing it again for each would cost a second.

Nothing here opens a connection or starts a thread: what is forked shares neither with another case.
"""

import gc
import importlib
import logging
from importlib.resources import files

from arbiter.testing import clock
from blackboard import _script
from registry.matching import meaning, related

for _name in (
    "arbiter.dead_letters",
    "arbiter.delivering",
    "arbiter.display",
    "arbiter.planner",
    "arbiter.schedules",
    "arbiter.standing_runs",
    "arbiter.testing.__main__",
    "arbiter.testing.desk",
    "arbiter.testing.player",
    "cryptography.hazmat.primitives.serialization",
    "fabricator.conversing",
    "fabricator.pipeline",
    "re2",
    "strands.models",
    "wrapper.addresses",
    "wrapper.execute",
    "wrapper.isolation.brokered_model",
    "wrapper.isolation.detection",
    "wrapper.models.scripted",
):
    importlib.import_module(_name)

clock.install()

_folder = files("blackboard") / "lua"
_lua = {file.name.removesuffix(".lua") for file in _folder.iterdir() if file.name.endswith(".lua")}
_BEHIND = {"entry": ("_entries", "_noticing"), "topic": ("_entries",)}
"""Preludes by the first word of a script's name, where that is no prelude."""
for _name in sorted(_lua):
    _kind = "_" + _name.partition("_")[0]
    for _prelude in _BEHIND.get(_kind[1:], (_kind,) if _kind in _lua else ("_board", "_results")):
        if _kind != "_":
            _script.load(_name, _prelude)

related.shipped()
meaning.shipped()
logging.disable(logging.CRITICAL)
gc.collect()
gc.freeze()
