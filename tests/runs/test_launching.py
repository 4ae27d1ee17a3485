"""What waits to be launched, found in the rows however their files are encoded."""

from __future__ import annotations

from typing import Any

import pytest

from springline.caches import Recent
from springline.deployed.reading import ManifestReader
from springline.ledger.events import RunRequested
from springline.ledger.identifiers import backfill_run_key
from springline.paths import canonical_ulid_event
from springline.projection.schema import RUN_KEY_INDEX
from springline.published.lists import unlike
from springline.published.snapshot import TableRows
from springline.runs import launching
from springline.runs.launching import kept_free, launch
from springline.runs.loading import is_of_a_manifest
from tests.backfills.place import Place, place_with
from tests.damage.run_objects import FIRST, SECOND, RunPlace, make, run_id_of
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


async def _launched(place: Place, *, most: int, restarts: bool = True) -> tuple[int, int]:
    found = await launch(
        place.store, place.reader, place.manifests, place.ledger, place, ACME, None, most=most, restarts=restarts
    )
    return found.started, found.waiting


async def _with_backfill(chunks: int) -> tuple[Place, str]:
    place = await place_with()
    created = await place.create(start="2024-01-01", end=f"2024-01-{chunks:02}", chunk_size=1, max_concurrent_runs=99)
    await place.settled(created.backfill_id)
    return place, created.backfill_id


async def test_who_waits_without_a_place_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long backfill lets many requests wait; each look at them reads none before one may begin."""
    read: list[str] = []
    real = launching.read_request

    async def counting(store: Any, row: Any) -> Any:
        read.append(row.run_key)
        return await real(store, row)

    monkeypatch.setattr(launching, "read_request", counting)
    place, backfill_id = await _with_backfill(9)
    most = 10
    assert await _launched(place, most=most) == (8, 1), "places are kept from backfills"
    read.clear()
    assert await _launched(place, most=most, restarts=False) == (0, 1)
    assert read == []
    # One that may begin is read, and what waits behind it is counted.
    assert most - kept_free(most) == 8
    assert await _launched(place, most=most + 1, restarts=False) == (1, 0)
    assert read == [backfill_run_key(backfill_id, 8)]


async def test_runs_that_have_begun_are_looked_after_only_if_that_is_asked_for() -> None:
    """A look at everything has none read its rows that is executed: there are up to 100, each minute."""
    place, _ = await _with_backfill(4)
    await _launched(place, most=100)
    begun = list(place.started)
    assert len(begun) == 4
    await _launched(place, most=100, restarts=False)
    assert place.started == begun
    assert place.looked_after == []
    await _launched(place, most=100)
    assert (place.started, sorted(place.looked_after)) == (begun, sorted(begun))


async def test_runs_that_are_asked_for_again_read_their_rows() -> None:
    place, backfill_id = await _with_backfill(2)
    await _launched(place, most=100)
    begun = list(place.started)
    keys = [backfill_run_key(backfill_id, index) for index in range(2)]
    await launch(place.store, place.reader, place.manifests, place.ledger, place, ACME, keys)
    assert (sorted(place.started), place.looked_after) == (sorted(2 * begun), [])


async def test_a_request_is_read_once() -> None:
    place, known = RunPlace((await make()).store()), Recent[RunRequested](10)

    async def look(most: int) -> int:
        of = (place.store, place.reader, ManifestReader(), place.ledger, place, ACME, None)
        return (await launch(*of, most=most, known=known)).waiting

    assert await look(2) == 1
    waiting = {run_id_of(one) for one in (FIRST, SECOND)} - set(place.started)
    for row in await place.rows("run_key_index"):
        place.store.remove(ACME.full(canonical_ulid_event(row["row_version"])))
    assert await look(3) == 0
    assert waiting <= set(place.started)
