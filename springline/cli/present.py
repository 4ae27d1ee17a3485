"""Documents, rows and errors for a person: columns that fit the terminal, names and values, colours.

Values may be any text: each is put on one line, without control characters.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence, Set
from typing import Any, TextIO

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from springline.bounds import on_one_line
from springline.cli.grid import instant, plain

_GAP = 2
_WIDEST = 60
_NARROWEST = 12
"""The least width of a column; one that would have to be narrower is left out."""
_LONGEST_WORD = 40
"""Ids and times are useful only whole: a column whose words are no longer than this is not made narrower at all."""
_TO_COPY = frozenset({"next"})
"""Names of values that are commands."""
_MOST_ITEMS = 20
_UNLIMITED = 1_000
_LONGEST_VALUE = 2_000


def console(stream: TextIO | None = None) -> tuple[Console, io.StringIO]:
    """Return a console that renders for `stream`, by default standard output, and the text that it collects.

    Colours are only for terminals, and only if NO_COLOR is not set; text for other outputs is not wrapped.
    """
    stream = stream or sys.stdout
    collected = io.StringIO()
    live = stream.isatty()
    colours = live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = None if live else _UNLIMITED
    return Console(
        file=collected, force_terminal=colours, no_color=not colours, width=width, highlight=False
    ), collected


def document_text(document: Any) -> str:
    """Return a document as lines of a name and a value; nested values are indented below, lists are tables."""
    shown, collected = console()
    _put(shown, document, 0)
    return trimmed(collected.getvalue())


def rows_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[str]]:
    """Return rows as columns that fit the terminal, and the names of columns for which there was no room."""
    shown, collected = console()
    table, left_out = _table(names, rows, shown.width)
    shown.print(table)
    return trimmed(collected.getvalue()), left_out


def error_text(body: Mapping[str, Any], stream: TextIO | None = None) -> str:
    """Return why something failed in one line for `stream`, standard error: code, field, message and remedy."""
    shown, collected = console(stream or sys.stderr)
    line = Text()
    line.append(f"{body['code']}: ", style="bold red")
    line.append(_sentences(body["message"]), style="red")
    if body.get("field"):
        value = "" if body.get("value") is None else f" = {on_one_line(_scalar(body['value'], ''), 200)}"
        line.append(f" [{on_one_line(str(body['field']))}{value}]", style="dim")
    if body.get("remedy"):
        line.append(f" {_sentences(body['remedy'])}")
    if body.get("requestId"):
        line.append(f" (request {on_one_line(str(body['requestId']))})", style="dim")
    shown.print(line, soft_wrap=True)
    return collected.getvalue()


def _sentences(text: Any) -> str:
    """Return a message on one line: its line ends are blanks there, and no escapes."""
    return on_one_line(" ".join(str(text).split()), _LONGEST_VALUE)


def _put(shown: Console, value: Any, indent: int) -> None:
    if not isinstance(value, Mapping):
        _put_list(shown, value if isinstance(value, list | tuple) else [value], indent)
        return
    labels = {name: on_one_line(str(name), _WIDEST) for name in value}
    width = max((cell_len(labels[name]) for name, one in value.items() if not _has_parts(one)), default=0)
    for name, one in value.items():
        label = labels[name]
        if _has_parts(one):
            shown.print(Padding(Text(label, style="bold cyan"), (0, 0, 0, indent)))
            _put(shown, one, indent + _GAP)
            continue
        text = _valued(one, str(name))
        if str(name) in _TO_COPY or (
            " " not in text.plain and cell_len(text.plain) > shown.width - indent - width - _GAP
        ):
            # Only the terminal breaks such a line, so that it is copied as one.
            begin = f"{' ' * indent}{label}{' ' * (width - cell_len(label) + _GAP)}"
            shown.print(Text.assemble((begin, "cyan"), text), soft_wrap=True)
            continue
        grid = Table.grid(padding=(0, _GAP, 0, 0))
        grid.add_column(width=width, no_wrap=True, style="cyan")
        grid.add_column(overflow="fold")
        grid.add_row(Text(label), text)
        shown.print(Padding(grid, (0, 0, 0, indent), expand=False))


def _put_list(shown: Console, items: Sequence[Any], indent: int) -> None:
    objects = [one for one in items if isinstance(one, Mapping)]
    cut = items[:_MOST_ITEMS]
    if len(objects) == len(items):
        names = list(dict.fromkeys(str(name) for one in objects for name in one))
        rows = [[_shown(one.get(name), name) for name in names] for one in objects[:_MOST_ITEMS]]
        table, left_out = _table(names, rows, shown.width - indent)
        shown.print(Padding(table, (0, 0, 0, indent), expand=False))
        if left_out:
            shown.print(Padding(Text(f"without {', '.join(left_out)}", style="dim"), (0, 0, 0, indent)))
    else:
        for one in cut:
            shown.print(Padding(_valued(one, ""), (0, 0, 0, indent), expand=False))
    if len(items) > len(cut):
        said = f"... and {len(items) - len(cut):,} more; -o json shows all"
        shown.print(Padding(Text(said, style="dim"), (0, 0, 0, indent)))


def _has_parts(value: Any) -> bool:
    """Say whether a value is shown on lines of its own, unlike empty values and lists of few short ones."""
    if isinstance(value, Mapping):
        return bool(value)
    if isinstance(value, list | tuple):
        return any(isinstance(one, Mapping | list) for one in value) or len(_joined(value)) > _WIDEST
    return False


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(_scalar(one, "") for one in values)


def _valued(value: Any, name: str) -> Text:
    text = Text(on_one_line(_scalar(value, name), _LONGEST_VALUE))
    empty = value is None or value in ("", [], {})
    text.stylize("dim" if empty else "green" if value is True else "red" if value is False else "")
    return text


def _scalar(value: Any, name: str) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(one, Mapping | list) for one in value):
        return _joined(value) if value else "none"
    shown = _shown(value, name)
    return "-" if shown is None or shown == "" else "none" if shown == {} else str(shown)


def _shown(value: Any, name: str) -> Any:
    """Return a value for people: instants as RFC 3339, yes and no; nested values as JSON."""
    value = plain(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith(("_at_ms", "timestamp_ms")):
        return instant(value) or value
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode() if value else "none"
    return value


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> tuple[Table, list[str]]:
    """Lay out rows in `width` columns of the terminal: long texts are cut, and columns without room left out."""
    cells = [[on_one_line(_cell(value), _UNLIMITED) for value in row] for row in rows]
    titles = [on_one_line(name, _WIDEST) for name in names]
    widths = [max(map(cell_len, [title, *(row[place] for row in cells)])) for place, title in enumerate(titles)]
    words = [
        all(" " not in row[place] for row in cells) and widths[place] <= _LONGEST_WORD for place in range(len(widths))
    ]
    least = [
        wide if word else min(wide, max(_NARROWEST, cell_len(title)))
        for wide, word, title in zip(widths, words, titles, strict=True)
    ]
    empty = {place for place in range(len(widths)) if rows and all(row[place] is None for row in rows)}
    shares, left_out = _shares(titles, widths, least, empty, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", pad_edge=False, show_edge=False)
    for place, share in shares.items():
        numbers = bool(rows) and all(isinstance(row[place], int | float | None) for row in rows)
        justify: Any = "right" if numbers and not all(row[place] is None for row in rows) else "left"
        table.add_column(Text(titles[place]), no_wrap=True, overflow="ellipsis", width=share, justify=justify)
    for row in cells:
        table.add_row(*(Text(row[place], style="dim" if row[place] == "-" else "") for place in shares))
    return table, left_out


def _cell(value: Any) -> str:
    shown = _shown(value, "")
    return "-" if shown is None else str(shown)


def _shares(
    titles: Sequence[str], widths: Sequence[int], least: Sequence[int], empty: Set[int], width: int
) -> tuple[dict[int, int], list[str]]:
    """Return the width of each column by its position, and the titles of columns that are left out.

    Those that are `empty` are left out first, and then the last ones.
    """
    places = list(range(len(widths)))
    left_out: list[int] = []
    while True:
        room = max(1, width - _GAP * (len(places) - 1))
        if sum(least[place] for place in places) <= room or len(places) <= 1:
            break
        out = max([place for place in places if place in empty] or places)
        places.remove(out)
        left_out.append(out)
    shares = {place: least[place] for place in places}
    spare = room - sum(shares.values())
    # The narrowest columns get their full width first, so that the longest texts are cut.
    for place in sorted(places, key=lambda one: widths[one]):
        more = max(0, min(spare, widths[place] - shares[place]))
        shares[place] += more
        spare -= more
    return {place: max(1, min(share, room)) for place, share in shares.items()}, [
        titles[place] for place in sorted(left_out)
    ]


def trimmed(text: str) -> str:
    """Return text without the blanks with which lines were filled up to the terminal's width."""
    return "".join(line.rstrip() + "\n" for line in text.splitlines())
