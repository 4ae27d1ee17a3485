"""Watching a document: updated in place on a terminal, else printed as JSON for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel

from springline.cli.documents import Document, emit, hint
from springline.cli.grid import Format
from springline.cli.session import session

EVERY_SECONDS = 1.0

_TALL = "Taller than this window: printed anew when it changes. Ctrl-C ends it."

WatchOption = Annotated[
    bool, typer.Option("--watch", help="Go on, and show it anew when it changes; Ctrl-C ends it, with exit code 130.")
]


def watched(look: Callable[[], Document], *, pause: Callable[[float], object] = time.sleep) -> NoReturn:
    """Show the result of `look`, again whenever it has changed, until Ctrl-C; raises the errors of `look`."""
    if session().form_here() is Format.TABLE:
        _in_place(look, pause)
    _as_documents(look, pause)


D = TypeVar("D")


def watched_until(
    look: Callable[[], D],
    *,
    text: Callable[[D], str],
    line: Callable[[D], str],
    is_over: Callable[[D], bool],
    interrupted: str,
) -> D:
    """Look until what is seen is over, and return it; raises the errors of `look`.

    On a terminal its `text` is updated in place and gone in the end; elsewhere its `line` is a hint for each change.
    `interrupted`: the hint after Ctrl-C.
    """
    try:
        if session().form_here() is Format.TABLE and sys.stdout.isatty():
            return _in_place_until(look, text, is_over)
        last = ""
        while True:
            seen = look()
            if (said := line(seen)) != last:
                hint(said)
                last = said
            if is_over(seen):
                return seen
            time.sleep(EVERY_SECONDS)
    except KeyboardInterrupt:
        hint(interrupted)
        raise


def _in_place_until(look: Callable[[], D], text: Callable[[D], str], is_over: Callable[[D], bool]) -> D:
    from rich.live import Live  # noqa: PLC0415 - for people only
    from rich.text import Text  # noqa: PLC0415

    with Live(auto_refresh=False, transient=True, vertical_overflow="ellipsis") as live:
        while True:
            seen = look()
            if is_over(seen):
                return seen
            live.update(Text.from_ansi(text(seen)), refresh=True)
            time.sleep(EVERY_SECONDS)


def _as_documents(look: Callable[[], Document], pause: Callable[[float], object]) -> NoReturn:
    last: Any = None
    while True:
        plain = _plain(look())
        if plain != last:
            emit(plain, compact=session().form is not Format.CSV)
            last = plain
        pause(EVERY_SECONDS)


def _in_place(look: Callable[[], Document], pause: Callable[[float], object]) -> NoReturn:
    from rich.live import Live  # noqa: PLC0415 - for people only
    from rich.text import Text  # noqa: PLC0415

    from springline.cli.present import document_text  # noqa: PLC0415

    last = ""
    with Live(auto_refresh=False) as live:
        while True:
            shown = document_text(_plain(look()))
            # rich would cut a text that is taller than the window, and its end may be the part that changes.
            if shown.count("\n") < live.console.height:
                live.update(Text.from_ansi(shown), refresh=True)
            else:
                if shown != last:
                    live.console.print(Text.from_ansi(shown), soft_wrap=True)
                live.update(Text(_TALL, style="dim"), refresh=True)
            last = shown
            pause(EVERY_SECONDS)


def _plain(document: Document) -> Any:
    return document.model_dump(mode="json") if isinstance(document, BaseModel) else document
