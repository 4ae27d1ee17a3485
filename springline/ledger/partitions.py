"""The one text of a partition's dimensions (docs/formats.md#partition-text)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime


def canonical_partition(dimensions: Mapping[str, str | int | bool | date | datetime | None]) -> str:
    """Return the canonical text of a partition: `name=value` sorted by name and joined by commas.

    A value carries its type: `d:` date, `t:` instant (in UTC, with six digits), `i:` integer, `b:` boolean, `n:` none,
    `s:` the URL-safe base64 of a string. Raises `ValueError` for an instant without a zone, and for other types.
    """
    return ",".join(f"{name}={_value(name, dimensions[name])}" for name in sorted(dimensions))


def _value(name: str, value: str | int | bool | date | datetime | None) -> str:
    if value is None:
        return "n:null"
    if isinstance(value, bool):
        return "b:true" if value else "b:false"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, str):
        return f"s:{base64.urlsafe_b64encode(value.encode()).rstrip(b'=').decode()}"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"dimension {name} is an instant without a zone: give one in UTC")
        return f"t:{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    if isinstance(value, date):
        return f"d:{value.isoformat()}"
    raise ValueError(f"dimension {name} is a {type(value).__name__}: give a string, integer, boolean, date or instant")
