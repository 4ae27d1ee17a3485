"""A manifest by which runs were asked for is lost: they wait, by name, and hold up nobody; or somebody cancels them."""

from __future__ import annotations

import pytest

from springline.cli.doctor_workspace import workspace_findings
from springline.control.runs.messages import SlotClaim
from springline.deployed.pools import PoolSetting, set_pool
from springline.deployed.reading import ManifestReader
from springline.paths import deployed_manifest
from springline.runs.launching import launch
from springline.runs.loading import load_run
from springline.runs.pools import read_pools, slots_of_claims
from springline.runs.requesting import RunRequests
from springline.storage.damage import DamagedObject
from tests.control.payloads import dispatched, finished
from tests.damage.run_objects import FIRST, SECOND, TASK, UNDER_WAY, RunPlace, Workspace, asked, make, run_id_of
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
    with pytest.raises(DamagedObject, match=path):
        await load_run(place.store, place.reader, ManifestReader(), ACME, run_id)
    await place.append({"type": "run_cancel_requested", "run_id": run_id, "requested_by": "ada"})
    loaded = await load_run(place.store, place.reader, ManifestReader(), ACME, run_id)
    assert path in (loaded.missing or "")
    assert TASK in {row["task_key"] for row in await place.rows("tasks")}


async def test_its_attempt_counts_in_every_pool_until_it_has_ended(made: Workspace) -> None:
    place, _ = _without_first(made)
    latest = await ManifestReader().latest(place.own, ACME)
    assert latest is not None
    for pool, size in (("p", 2), ("q", 1)):
        await set_pool(place.own, pool, PoolSetting(slots=size, set_by="ada", set_at_ms=50))
    days = {"partition_selection": ["2024-01-01", "2024-01-02"]}
    await place.append(asked("k-third", latest.manifest.manifest_id, "raw", **days))
    await launch(place.store, place.reader, ManifestReader(), place.ledger, place, ACME, None)
    third = run_id_of("k-third")
    await place.append(*(dispatched(f"raw[2024-01-0{day}]", 1, third) for day in (1, 2)))
    rows = {(row["run_id"], row["task_key"]): row["attempt_id"] for row in await place.rows("tasks")}
    claims = [
        SlotClaim(pool="p", task_key=key, attempt_id=id_) for (run, key), id_ in sorted(rows.items()) if run == third
    ]

    async def pools() -> dict[str, list[tuple[str, bool]]]:
        found = await read_pools(place.store, place.reader, ManifestReader(), ACME)
        return {name: [(one.run_id, one.is_certain) for one in rows.holders] for name, (_, rows) in found.items()}

    async def begin() -> list[str]:
        return await slots_of_claims(place.store, place.reader, ManifestReader(), ACME, claims)

    uncertain = (run_id_of(UNDER_WAY), False)
    assert await pools() == {"p": [(third, True), (third, True), uncertain], "q": [uncertain]}
    assert await begin() == [claims[0].attempt_id], "there are two slots, and the one that may have one counts"
    await place.append(finished("succeeded", TASK, 1, run_id_of(UNDER_WAY)))
    assert await begin() == [one.attempt_id for one in claims]
    assert (await pools())["q"] == []


async def test_doctor_names_it(made: Workspace) -> None:
    place, path = _without_first(made)
    (found,) = [one for one in await workspace_findings(place.store, ACME, deep=True) if one.ok is False]
    assert found.name == f"runs of {ACME.tenant}/{ACME.workspace}"
    assert f"{path} is missing, and 1 open run(s) name it" in found.what
    assert "springline run cancel" in (found.remedy or "")
    whole = await workspace_findings(made.store(), ACME, deep=True)
    assert all(one.ok is not False for one in whole)


def test_the_path_is_that_of_a_manifest(made: Workspace) -> None:
    _, path = _without_first(made)
    assert path == deployed_manifest(path.removeprefix("manifests/").removesuffix(".json"))
