"""How this one call of the command line speaks: in which form, and how much."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

from springline.cli.grid import Format


@dataclass(slots=True)
class Session:
    """What was asked for. `level`: how often -v was given, less how often -q."""

    form: Format | None = None
    compact: bool = False
    field: str | None = None
    level: int = 0

    def form_here(self) -> Format:
        """Return the form that was asked for; else a table for a person at a terminal, and JSON for a program."""
        if self.field is not None or (self.compact and self.form is None):
            return Format.JSON
        return self.form or (Format.TABLE if sys.stdout.isatty() else Format.JSON)

    def speaks_to_a_person(self) -> bool:
        """Say whether whoever reads standard error is a person who did not ask for JSON."""
        return self.form is not Format.JSON and not self.compact and sys.stderr.isatty()

    def log(self) -> None:
        """Show log lines as it was asked for: faults only, with -v what is done, with -vv everything."""
        quiet, shown, all_of_it = logging.ERROR, logging.INFO, logging.DEBUG
        level = {0: logging.WARNING, 1: shown}.get(self.level, quiet if self.level < 0 else all_of_it)
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True)


_sessions = [Session()]


def session() -> Session:
    """Return what this call was asked for."""
    return _sessions[-1]


def begin() -> Session:
    """Forget what an earlier call in this process was asked for."""
    _sessions[:] = [Session()]
    return _sessions[-1]
