"""The log as JSON lines: one object to a line, whatever a message contains."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from blackboard import current, tracing


class JsonLines(logging.Formatter):
    """Makes a line of a record: ``time``, ``level``, ``logger``, ``message``, and where they are known ``run``, ``task``,
    ``attempt``, ``tenant``, ``capability``, ``trace_id``, ``span_id`` and ``exception``. Everything beyond ASCII is escaped, so
    nothing in a record ends its line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        if (claim := getattr(record, "claim", None) or current.claim.get()) is not None:
            fields |= {
                "run": claim.run_id,
                "task": claim.task_id,
                "attempt": claim.attempt,
                "tenant": claim.tenant,
                "capability": claim.capability,
            }
        fields |= tracing.current()
        if record.exc_text or record.exc_info:
            fields["exception"] = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else "")
        return json.dumps(fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit: a line all the same
        return f"{record.msg} {record.args!r}"
