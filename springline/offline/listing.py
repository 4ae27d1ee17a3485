"""Which events are to be folded, and in which order they are delivered: a local file of paths.

See docs/formats.md#rebuild-manifest.
"""

from __future__ import annotations

import gzip
import random
import re
import zlib
from pathlib import Path

import orjson

from springline.errors import Code, Refused, refused
from springline.paths import event_id_from_ledger_path

FIELD = "--manifest"
ORDER_FIELD = "--order"
_GZIP_MAGIC = b"\x1f\x8b"
_RANDOM = re.compile(r"random:(0|-?[1-9][0-9]{0,18})")
_REMEDY = 'Give a file with {"event_paths": ["..."]}, plain or compressed with gzip.'


def event_paths(file: Path) -> list[str]:
    """Return the paths that a file lists, in its order, repetitions included.

    Raises `Refused` (INVALID_REQUEST) if it cannot be read or holds anything else.
    """
    try:
        data = file.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _wrong(f"file {str(file)!r} cannot be read: {said}", str(file)) from None
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _wrong(f"file {str(file)!r} is not JSON: {error}", str(file)) from None
    paths = content.get("event_paths") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths:
        raise _wrong(f"file {str(file)!r} has no list `event_paths` with at least one path", str(file))
    for number, path in enumerate(paths):
        if not isinstance(path, str):
            raise _wrong(f"event_paths[{number}] is no text", path)
    return paths


def ordered(paths: list[str], order: str) -> list[str]:
    """Return `paths` in the order in which they are delivered.

    `listed`: as they are; `id`: by event id; `random:SEED`: shuffled, the same way for the same integer. Raises
    `Refused` (INVALID_REQUEST) for another order.
    """
    match = _RANDOM.fullmatch(order)
    if order == "listed":
        return list(paths)
    if order == "id":
        return sorted(paths, key=lambda path: (event_id_from_ledger_path(path) or "", path))
    if match is None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{order!r} is no order",
            field=ORDER_FIELD,
            value=order,
            remedy="Give listed, id, or random:SEED with an integer, such as random:7.",
        )
    shuffled = list(paths)
    random.Random(int(match[1])).shuffle(shuffled)
    return shuffled


def _wrong(message: str, value: object) -> Refused:
    return refused(Code.INVALID_REQUEST, message, field=FIELD, value=value, remedy=_REMEDY)
