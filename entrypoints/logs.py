"""Log lines of the processes: text for people, JSON for collectors."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from springline.bounds import encodable, on_one_line
from springline.cli.variables import unknown_variables
from springline.config import Settings

_log = logging.getLogger("springline.settings")

MAX_MESSAGE = 10_000
"""Characters of a record's message; tracebacks come on top."""


class TextFormatter(logging.Formatter):
    """One line a record, tracebacks below it, indented.

    Messages and errors often repeat a caller's input: line breaks and control characters in a message
    are escaped, and traceback lines are indented, so that the input cannot forge log lines.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        record.message = on_one_line(record.message, MAX_MESSAGE)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, indented."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """Return the stack, indented."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(f"    {on_one_line(line, MAX_MESSAGE)}" for line in text.splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time, level, logger, message, and the traceback if there is one."""
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": encodable(record.getMessage()[:MAX_MESSAGE]),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure_logging(settings: Settings) -> None:
    """Send all logs to standard error in the configured form, first of all what in the environment nobody reads."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name, nearest in unknown_variables(os.environ).items():
        # A setting that is misspelt must not pass for one that is not set.
        _log.warning("%s is set, and nothing reads it%s", name, f": did you mean {nearest}?" if nearest else "")
