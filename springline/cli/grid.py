"""Rows as text: as columns for people, as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

_WIDEST_CELL = 60
_SAFE_INTEGER = 1 << 63

Rows = Sequence[Sequence[Any]]


class Format(StrEnum):
    """Output formats."""

    JSON = "json"
    TABLE = "table"
    CSV = "csv"


def instant(unix_ms: int | None) -> str | None:
    """Return an instant as RFC 3339; None for None, and for a number out of range."""
    try:
        moment = None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a value in JSON's types: instants as RFC 3339, values of other types as text."""
    match value:
        case None | bool() | str() | float():
            return value
        case int():
            return value if -_SAFE_INTEGER <= value < _SAFE_INTEGER else str(value)
        case datetime():
            return value.isoformat(timespec="milliseconds" if value.microsecond % 1000 == 0 else "auto") + (
                "Z" if value.tzinfo is None else ""
            )
        case timedelta():
            return value.total_seconds()
        case date() | time():
            return value.isoformat()
        case Decimal():
            return float(value)
        case list() | tuple():
            return [plain(one) for one in value]
        case dict():
            return {str(name): plain(one) for name, one in value.items()}
        case _:
            return str(value)


def _text(value: Any) -> str:
    shown = plain(value)
    return "" if shown is None else shown if isinstance(shown, str) else str(shown)


def csv_text(names: Sequence[Any], rows: Rows) -> str:
    """Return rows as comma-separated values, with their names in the first line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(value) for value in row] for row in rows)
    return text.getvalue()


def csv_of_document(document: Any) -> str:
    """Return a document as lines of a dotted name and a value."""
    return csv_text(["name", "value"], list(_leaves(document, "")))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    elif name:
        yield name, value
    for key, one in inner:
        yield from _leaves(one, f"{name}.{key}" if name else str(key))


def table_text(names: Sequence[str], rows: Rows) -> str:
    """Return rows as aligned columns, numbers to the right; long texts are cut."""
    cells = [[_cut(name) for name in names], *([_cut(_text(value)) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(names))]
    right = [
        bool(rows) and all(isinstance(row[place], int | float | Decimal | None) for row in rows)
        for place in range(len(names))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def _cut(text: str) -> str:
    # A table or log may contain any text: its control characters must not reach the terminal.
    line = "".join(one if one.isprintable() else " " for one in text)
    return line if len(line) <= _WIDEST_CELL else line[: _WIDEST_CELL - 3] + "..."
