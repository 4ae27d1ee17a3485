"""What waits to be launched, found in the rows however their files are encoded."""

from __future__ import annotations

import pytest

from springline.projection.schema import RUN_KEY_INDEX
from springline.published.lists import unlike
from springline.published.snapshot import TableRows
from springline.runs.loading import is_of_a_manifest

MANIFEST = "01JHMPDTN0000AQKFF00000001"


@pytest.mark.parametrize("rows", [1, 3, 400])
@pytest.mark.parametrize("versions", [(MANIFEST,), (None, MANIFEST), ("git-abc", MANIFEST, None)])
def test_requests_without_a_run_are_found_among_others(rows: int, versions: tuple[str | None, ...]) -> None:
    index = TableRows.of(
        RUN_KEY_INDEX,
        [
            ("acme", "prod", f"k{number:04}", f"run_{number}", "f", versions[number % len(versions)], number, MANIFEST)
            for number in range(rows)
        ],
    )
    begun = [f"run_{number}" for number in range(0, rows, 2)]
    found = index.select(unlike(index.table, "run_id", begun, "code_version", is_of_a_manifest))
    assert [row[3] for row in found] == [
        f"run_{number}" for number in range(1, rows, 2) if versions[number % len(versions)] == MANIFEST
    ]
    assert len(index.select(unlike(index.table, "run_id", [], "code_version", is_of_a_manifest))) >= rows // 3
