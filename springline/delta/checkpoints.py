"""Facts about a table in a checkpoint, apart from its files: the pointer, and protocol and metadata.

Source: the Delta transaction protocol, "Last Checkpoint File" and "Checkpoint Specs". Reads only what a coordinator
needs, without files and their statistics.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from springline.paths import MAX_VERSION

_V2_NAME = re.compile(r"[0-9]{20}\.checkpoint\.[0-9A-Za-z-]{1,64}\.(?:json|parquet)")
_MAX_PARTS = 10_000


class CheckpointKind(StrEnum):
    """How an attempt to write a checkpoint ended."""

    WRITTEN = "written"
    CURRENT = "current"
    """The latest version has one already, or there is no version."""
    SKIPPED = "skipped"
    """The library cannot make one for this table; readers work without it."""


class CheckpointResult(BaseModel):
    """The result of writing a checkpoint: its version (-1: the table has none), and why it was skipped."""

    model_config = ConfigDict(frozen=True)

    kind: CheckpointKind
    version: int
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointHint:
    """The newest checkpoint according to `_last_checkpoint`.

    `parts` is the number of files of a multi-part checkpoint, else None. `v2_name` is the file name of a
    checkpoint of the second specification that has a unique name, else None.
    """

    version: int
    parts: int | None = None
    v2_name: str | None = None


def parse_last_checkpoint(data: bytes) -> CheckpointHint | None:
    """Parse the `_last_checkpoint` object; None if it is not usable.

    The object is only a hint, and it is overwritten in place: a damaged one counts as absent.
    """
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    version, parts = fields.get("version"), fields.get("parts")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= MAX_VERSION:
        return None
    if isinstance(parts, bool) or not isinstance(parts, int) or not 1 <= parts <= _MAX_PARTS:
        parts = None
    v2 = fields.get("v2Checkpoint")
    path = v2.get("path") if isinstance(v2, dict) else None
    name = path.rsplit("/", 1)[-1] if isinstance(path, str) else None
    if name is not None and (not _V2_NAME.fullmatch(name) or int(name[:20]) != version):
        name = None
    return CheckpointHint(version, parts, name)


def protocol_of_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the `protocol` struct of a Parquet checkpoint in the form it has in the log."""
    return {key: value for key, value in row.items() if value is not None}


def metadata_of_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the `metaData` struct of a Parquet checkpoint in the form it has in the log.

    Maps arrive as lists of pairs; absent optional fields are left out.
    """
    fields = {key: value for key, value in row.items() if value is not None}
    fields["configuration"] = _as_object(fields.get("configuration"))
    if isinstance(fields.get("format"), dict):
        file_format = {key: value for key, value in fields["format"].items() if value is not None}
        fields["format"] = {**file_format, "options": _as_object(file_format.get("options"))}
    return fields


def _as_object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {str(key): item for key, item in value} if isinstance(value, list) else {}
