"""The table registry's records (docs/formats.md#table-registry): one entry per table, one claim per root and per
name.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TableEntry(BaseModel):
    """A registered table.

    `root` is a folder of the workspace (`springline.paths.workspace_path`): one of its tables area if it begins with a
    slash, else one under its prefix. It has no slash at its end.
    """

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
