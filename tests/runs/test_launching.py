"""What waits to be launched: found in the rows however their files are encoded, and read once."""

from __future__ import annotations

import pytest

from springline.caches import Recent
from springline.deployed.reading import ManifestReader
from springline.ledger.events import RunRequested
from springline.paths import canonical_ulid_event
from springline.projection.schema import RUN_KEY_INDEX
from springline.published.lists import unlike
from springline.published.snapshot import TableRows
from springline.runs.launching import launch
from springline.runs.loading import is_of_a_manifest
from tests.damage.run_objects import FIRST, SECOND, UNDER_WAY, RunPlace, make, run_id_of
from tests.support.local_api import ACME

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


async def test_a_look_at_many_requests_leaves_runs_alone_and_reads_each_request_once() -> None:
    place, known = RunPlace((await make()).store()), Recent[RunRequested](10)

    async def look(*, runs: bool, most: int) -> int:
        looked = await launch(
            place.store,
            place.reader,
            ManifestReader(),
            place.ledger,
            place,
            ACME,
            None,
            runs=runs,
            most=most,
            known=known,
        )
        return looked.waiting

    assert await look(runs=False, most=1) == 2
    assert place.started == [], "there is no room, and a run that is there needs no start"
    for row in await place.rows("run_key_index"):
        place.store.remove(ACME.full(canonical_ulid_event(row["row_version"])))
    assert await look(runs=True, most=1) == 2
    assert place.started == [run_id_of(UNDER_WAY)]
    assert await look(runs=False, most=3) == 0
    assert set(place.started) == {run_id_of(one) for one in (UNDER_WAY, FIRST, SECOND)}
