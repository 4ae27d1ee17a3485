"""The table registry's records (design 10): one entry per table, one claim per root and per name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TableEntry(BaseModel):
    """A registered table. `root` is scope-relative, without leading or trailing slash."""

    model_config = ConfigDict(frozen=True)

    table_id: str
    name: str
    root: str
    created_at_ms: int
    properties: dict[str, str] = {}


class Claim(BaseModel):
    """A root or a name claimed by a table; create-only, so that two tables never share one."""

    model_config = ConfigDict(frozen=True)

    table_id: str
    value: str
