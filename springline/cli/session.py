"""The output format and verbosity of this call of the command line."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from springline.cli.grid import Format


@dataclass(slots=True)
class Session:
    """The user's choices. `level`: how often -v was given, less how often -q."""

    form: Format | None = None
    compact: bool = False
    field: str | None = None
    level: int = 0

    def form_here(self) -> Format:
        """Return the format that the user chose; else a table for a person at a terminal, and JSON for a program."""
        if self.field is not None or (self.compact and self.form is None):
            return Format.JSON
        return self.form or (Format.TABLE if sys.stdout.isatty() else Format.JSON)

    def speaks_to_a_person(self) -> bool:
        """Say whether a person, who did not ask for JSON, reads standard error."""
        return self.form is not Format.JSON and not self.compact and sys.stderr.isatty()

    def log(self) -> None:
        """Show log lines by the verbosity: faults only, with -v what is done, with -vv everything."""
        quiet, shown, all_of_it = logging.ERROR, logging.INFO, logging.DEBUG
        level = {0: logging.WARNING, 1: shown}.get(self.level, quiet if self.level < 0 else all_of_it)
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True)


_sessions = [Session()]


def session() -> Session:
    """Return the choices of this call."""
    return _sessions[-1]


def begin() -> Session:
    """Reset the choices of an earlier call in this process."""
    _sessions[:] = [Session()]
    return _sessions[-1]
