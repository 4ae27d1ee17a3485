"""What commands print: one JSON document on standard output, or one of its fields; hints on standard error."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer
from pydantic import BaseModel

from springline.bounds import steers_no_terminal
from springline.errors import EXIT_DONE, Code, refused

Document = Mapping[str, Any] | BaseModel


@dataclass(frozen=True, slots=True)
class Verdict:
    """A document of a command that did its work and whose finding is in its exit code, such as "they differ"."""

    document: Document
    code: int


Command = Callable[..., Document | Verdict]
"""A command as it is written: it returns what it prints."""

CompactOption = Annotated[bool, typer.Option("--compact", help="Print the JSON document on one line.")]
FieldOption = Annotated[
    str | None,
    typer.Option(
        "--field", metavar="A.B.C", help="Print only this field of the document; text without quotes, for scripts."
    ),
]


def hint(line: str) -> None:
    """Write a line for a person to standard error."""
    print(f"springline: {steers_no_terminal(line)}", file=sys.stderr, flush=True)


def printing(command: Command) -> Callable[..., None]:
    """Make a command print the document it returns, in the form that its added options ask for.

    The command gets the options `--compact` and `--field`; Typer finds them in the signature.
    """
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(*, compact: bool, field: str | None, **arguments: Any) -> None:
        said = command(**arguments)
        verdict = said if isinstance(said, Verdict) else Verdict(said, EXIT_DONE)
        emit(verdict.document, compact=compact, field=field)
        if verdict.code != EXIT_DONE:
            raise typer.Exit(verdict.code)

    keyword_only = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("compact", keyword_only, default=False, annotation=CompactOption),
        inspect.Parameter("field", keyword_only, default=None, annotation=FieldOption),
    ]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added], return_annotation=None
    )
    return run


def emit(document: Document, *, compact: bool = False, field: str | None = None) -> None:
    """Print `document`, or the one of its fields that a dotted name leads to.

    Raises `Refused` (INVALID_REQUEST) if there is no such field; nothing is printed then.
    """
    plain: Any = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    if field is not None:
        plain = _find(plain, field)
        if isinstance(plain, str):
            _write(plain)
            return
    _write(rendered(plain, compact=compact))


def rendered(plain: Any, *, compact: bool = False) -> str:
    """Return `plain` as JSON: indented by two blanks, or on one line. What could steer a terminal is escaped."""
    return steers_no_terminal(orjson.dumps(plain, option=0 if compact else orjson.OPT_INDENT_2).decode())


def _find(plain: Any, field: str) -> Any:
    found = plain
    for part in field.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            offered = _offered(found)
            raise refused(
                Code.INVALID_REQUEST,
                f"the document has no field {field!r}: {part!r} is not there",
                field="--field",
                value=field,
                remedy=f"Choose one of: {offered}.",
            )
    return found


def _offered(found: Any) -> str:
    if isinstance(found, Mapping):
        return ", ".join(found)
    return (
        f"{len(found)} items, counted from 0" if isinstance(found, list) else "what is before it, which has no fields"
    )


def write_out(text: str) -> None:
    """Write to standard output: to a terminal nothing that could steer it, to files and programs the text as it is."""
    sys.stdout.write(steers_no_terminal(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _write(text: str) -> None:
    write_out(text + "\n")
