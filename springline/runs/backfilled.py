"""Which backfills have something left to do, and are ours: whoever looks after runs looks after them as well."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from springline.control.backfills.deciding import OPEN_STATES
from springline.ledger.member import BackfillMember
from springline.projection.rows import BackfillRow, DefinitionRow
from springline.projection.schema import BACKFILL, X_CHUNKS
from springline.published.lists import equals
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_of_a_manifest

TABLES: Final = ("backfills", "backfill_chunks", "x_chunks", "x_definitions")
"""What is needed of the published state to tell how far a backfill is."""


def settings_of(snapshot: StateSnapshot, row: BackfillRow) -> BackfillMember | None:
    """Return the settings of a backfill, None if it is another system's: without any, or of no deployed manifest."""
    own: Any = snapshot["x_definitions"].get((BACKFILL, row.backfill_id))
    if own is None or not is_of_a_manifest(row.code_version) or not row.chunk_size:
        return None
    said = json.loads(DefinitionRow(*own).settings or "{}")
    # A newer build may say more.
    return BackfillMember(**{name: said[name] for name in BackfillMember.__struct_fields__ if name in said})


def open_backfills(snapshot: StateSnapshot) -> list[BackfillRow]:
    """Return the backfills of ours that are not over, or whose chunks are not."""
    rows = [BackfillRow(*cast(Any, row)) for row in snapshot["backfills"]]
    return [
        row
        for row in rows
        if settings_of(snapshot, row) is not None
        and (row.state in OPEN_STATES or None in _outcomes(snapshot, row.backfill_id))
    ]


def _outcomes(snapshot: StateSnapshot, backfill_id: str) -> set[str | None]:
    of_it = equals(X_CHUNKS, "backfill_id", [backfill_id])
    found = snapshot["x_chunks"].columns(("outcome",), start=f"{backfill_id}:", before=f"{backfill_id};", where=of_it)
    return set(found.column("outcome").unique().to_pylist())
