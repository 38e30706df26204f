"""What every process of a crash case has imported when it is forked; importing it again for each would cost a second."""

import importlib
import logging

for _name in (
    "strands.models",
    "arbiter.planner",
    "arbiter.testing.desk",
    "arbiter.testing.player",
    "fabricator",
    "wrapper.execute",
    "wrapper.isolation",
    "wrapper.models.scripted",
):
    importlib.import_module(_name)

logging.disable(logging.CRITICAL)
