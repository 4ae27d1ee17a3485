"""The output of commands: a document or rows on standard output, as JSON or for people; hints on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from springline.bounds import steers_no_terminal
from springline.cli.grid import Format, csv_of_document, csv_text, table_text
from springline.cli.session import session
from springline.errors import Code, Refused, refused
from springline.exits import EXIT_DONE

Document = Mapping[str, Any] | BaseModel


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows for people, and the same as a document for programs.

    `note`: a hint that goes with the rows; `text`: what people see in place of the rows.
    """

    document: Callable[[], Document]
    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str | None = None
    text: Callable[[], str] | None = None


def described(document: Document, told: Mapping[str, Any]) -> Listing:
    """Return one thing as a document for programs, and what is `told` of it for people."""

    def text() -> str:
        from springline.cli.present import document_text  # noqa: PLC0415 - for people only

        return document_text(told)

    return Listing(lambda: document, ["name", "value"], [[name, value] for name, value in told.items()], text=text)


@dataclass(frozen=True, slots=True)
class DocumentVerdict:
    """The document of a command that did its work and tells its finding by the exit code, such as "they differ"."""

    document: Document | Listing
    code: int


def hint(line: str) -> None:
    """Write a line for a person to standard error, unless the user asked for quiet."""
    if session().level >= 0:
        print(f"springline: {steers_no_terminal(line)}", file=sys.stderr, flush=True)


def emit(document: Document, *, compact: bool = False, field: str | None = None) -> None:
    """Print `document`, or its field at a dotted name, in the format that the user chose.

    Raises `Refused` (INVALID_REQUEST) if there is no such field; nothing is printed then.
    """
    plain = _plain(document)
    here = session()
    field, compact = field or here.field, compact or here.compact
    if field is not None:
        plain = _find(plain, field)
        if isinstance(plain, str):
            _write(plain)
            return
    form = Format.JSON if field is not None or compact else here.form_here()
    if form is Format.TABLE:
        from springline.cli.present import document_text  # noqa: PLC0415 - for people only

        write_for_people(document_text(plain))
    elif form is Format.CSV:
        write_out(csv_of_document(plain))
    else:
        _write(rendered(plain, compact=compact))


def emit_listing(listing: Listing) -> None:
    """Print rows, or the same as a document, in the format that the user chose."""
    form = session().form_here()
    if form is Format.JSON:
        emit(listing.document())
        return
    if form is Format.CSV:
        write_out(csv_text(listing.names, listing.rows))
    elif listing.text is not None:
        write_for_people(listing.text())
    elif sys.stdout.isatty():
        from springline.cli.present import rows_text  # noqa: PLC0415 - for people only

        text, left_out = rows_text(listing.names, listing.rows)
        write_for_people(text)
        if left_out:
            hint(f"there was no room for {', '.join(left_out)}; -o json and -o csv show all")
    else:
        write_out(table_text(listing.names, listing.rows))
    if listing.note is not None:
        hint(listing.note)


def emit_verdict(verdict: DocumentVerdict) -> None:
    """Print the document of `verdict`, or the field of it that the user chose.

    A finding that is not the expected one may be told by a document without that field: all of it is then written to
    standard error, so that the caller sees what is wrong, and the exit code stays the verdict's.

    Raises `Refused` (INVALID_REQUEST) if there is no such field in the document of a command that found all well.
    """
    listed = verdict.document
    try:
        if isinstance(listed, Listing):
            emit_listing(listed)
        else:
            emit(listed)
    except Refused as error:
        if verdict.code == EXIT_DONE or error.refusal.field != "--field":
            raise
        whole = _plain(listed.document() if isinstance(listed, Listing) else listed)
        print(rendered(whole), file=sys.stderr, flush=True)


def _plain(document: Document) -> Any:
    return document.model_dump(mode="json") if isinstance(document, BaseModel) else document


def rendered(plain: Any, *, compact: bool = False) -> str:
    """Return `plain` as JSON: indented by two blanks, or on one line. Terminal control characters are escaped."""
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
    """Write to standard output: to a terminal without control characters, to files and programs unchanged."""
    sys.stdout.write(steers_no_terminal(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_for_people(text: str) -> None:
    """Write a text that we made, whose parts have no control characters, with its colours."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _write(text: str) -> None:
    write_out(text + "\n")
