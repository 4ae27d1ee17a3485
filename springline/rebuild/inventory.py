"""Reading the object names of a workspace from whatever an operator has: an inventory, a listing, a file of lines.

Understood are plain lines, CSV with or without a header, a JSON document and JSON lines; gzip is unpacked. A name may
be relative to the workspace, to the bucket, a URL such as `gs://bucket/...`, or a path of a local disk.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import orjson

from springline.errors import Code, Refused, refused
from springline.paths import InvalidPath, Scope, lies_in_a_scope, relative_path

FIELD = "--from-inventory"
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = ("name", "key", "path", "object", "object_name", "objectname")
_LISTS = ("event_paths", "segment_paths", "items", "contents")
_REMEDY = (
    "Give a file of object names: one per line, CSV with a column `name` or `key`, or JSON lines with such a field; "
    "plain or compressed with gzip."
)


def names_of_workspace(data: bytes, scope: Scope) -> tuple[list[str], Counter[str]]:
    """Return the names of the objects of `scope`, relative to it, and how many others there were by reason.

    Raises `Refused` (INVALID_REQUEST) for a file that holds no names.
    """
    others: Counter[str] = Counter()
    found: list[str] = []
    any_name = False
    for name in _names(_unpacked(data)):
        any_name = True
        relative = _relative(name, scope)
        if relative is None:
            others["object of another workspace, or of none"] += 1
        else:
            found.append(relative)
    if not any_name:
        raise _wrong("it holds no names of objects")
    return found, others


def _unpacked(data: bytes) -> str:
    try:
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(f"it cannot be unpacked: {error}") from None
    except UnicodeDecodeError as error:
        raise _wrong(f"it is not UTF-8 at byte {error.start}") from None


def _names(text: str) -> Iterator[str]:
    if text.lstrip().startswith(("{", "[", '"')) and (documents := _documents(text)) is not None:
        for document in documents:
            yield from _names_in(document)
        return
    yield from _names_of_rows(csv.reader(text.splitlines()))


def _documents(text: str) -> Iterable[Any] | None:
    """Return the JSON documents of a text, None if it is no JSON."""
    try:
        return [orjson.loads(text)]
    except orjson.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            documents.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            if number == 1:
                return None  # a CSV file whose cells are quoted begins like JSON
            raise _wrong(f"line {number} is not JSON: {error}") from None
    return documents


def _names_in(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, list):
        for one in document:
            yield from _names_in(one)
    elif isinstance(document, dict):
        fields = {str(name).lower(): value for name, value in document.items()}
        named = next((fields[name] for name in _HEADERS if isinstance(fields.get(name), str)), None)
        if named is not None:
            yield named
            return
        for name in _LISTS:
            yield from _names_in(fields.get(name, []))


def _names_of_rows(rows: Iterable[list[str]]) -> Iterator[str]:
    column: int | None = None
    for number, row in enumerate(row for row in rows if row):
        if number == 0:
            headers = [cell.strip().lower() for cell in row]
            column = next((headers.index(name) for name in _HEADERS if name in headers), None)
            if column is not None:
                continue
        if column is not None:
            if column < len(row):
                yield row[column]
        else:
            # Without a header the name is the one cell that looks like a path; a plain line is one cell.
            yield max((cell.strip() for cell in row), key=lambda cell: cell.count("/"))


def _relative(name: str, scope: Scope) -> str | None:
    """Return a name relative to the workspace, or None if it is not the workspace's."""
    plain = unquote(name) if "%" in name else name
    marker = f"{scope.prefix}/"
    before, found, rest = plain.partition(marker)
    if found and (not before or before.endswith("/")):
        candidate = rest
    elif not plain.startswith("/") and not lies_in_a_scope(plain) and "://" not in plain:
        candidate = plain
    else:
        return None
    try:
        return relative_path(candidate)
    except InvalidPath:
        return None


def _wrong(problem: str) -> Refused:
    return refused(Code.INVALID_REQUEST, f"{FIELD}: {problem}", field=FIELD, remedy=_REMEDY)
