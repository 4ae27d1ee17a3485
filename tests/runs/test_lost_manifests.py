"""A manifest by which runs were asked for is lost: they wait, by name, and hold up nobody; or somebody cancels them."""

from __future__ import annotations

import pytest

from springline.deployed.reading import ManifestReader
from springline.paths import deployed_manifest
from springline.runs.launching import launch
from springline.runs.loading import load_run
from springline.runs.pools import read_pool
from springline.runs.requesting import RunRequests
from springline.storage.damage import DamagedObject
from tests.damage.run_objects import FIRST, SECOND, TASK, UNDER_WAY, RunPlace, Workspace, make, run_id_of
from tests.support.local_api import ACME
from tests.support.local_runs import LocalRuns


@pytest.fixture
async def made() -> Workspace:
    return await make()


def _without_first(made: Workspace) -> tuple[RunPlace, str]:
    """Return the workspace without the manifest of the run under way and the first that waits, and its path."""
    store = made.store()
    path = min(path for path in made.objects if "/manifests/0" in path)
    store.remove(path)
    return RunPlace(store), ACME.relative(path)


async def test_a_request_waits_and_another_one_begins(made: Workspace) -> None:
    place, path = _without_first(made)
    found = await launch(place.store, place.reader, ManifestReader(), place.ledger, place, ACME, None, most=2)
    assert [path in one for one in found.aside] == [True]
    assert "restore it from a copy" in found.aside[0]
    states = {row["run_id"]: row["state"] for row in await place.rows("runs")}
    assert run_id_of(FIRST) not in states
    assert run_id_of(SECOND) in states, "what is set aside takes no place among those that may begin"
    asking = RunRequests(
        place.store, place.reader, ManifestReader(), place.ledger, LocalRuns(place.store, place.ledger), ACME
    )
    assert await asking.withdraw(run_id_of(FIRST), "ada", None)
    assert (await launch(place.store, place.reader, ManifestReader(), place.ledger, place, ACME, None)).aside == []


async def test_a_run_waits_and_keeps_its_slot_until_it_is_cancelled(made: Workspace) -> None:
    place, path = _without_first(made)
    run_id = run_id_of(UNDER_WAY)
    for work in (
        load_run(place.store, place.reader, ManifestReader(), ACME, run_id),
        read_pool(place.store, place.reader, ManifestReader(), ACME, "p", []),
    ):
        with pytest.raises(DamagedObject, match=path):
            await work
    await place.append({"type": "run_cancel_requested", "run_id": run_id, "requested_by": "ada"})
    loaded = await load_run(place.store, place.reader, ManifestReader(), ACME, run_id)
    assert path in (loaded.missing or "")
    assert TASK in {row["task_key"] for row in await place.rows("tasks")}


def test_the_path_is_that_of_a_manifest(made: Workspace) -> None:
    _, path = _without_first(made)
    assert path == deployed_manifest(path.removeprefix("manifests/").removesuffix(".json"))
