"""Whatever happens to the objects of a deploy: named, never read as something else, and nothing is built on it."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.checked import with_checksum
from springline.deployed.deploying import deploy
from springline.deployed.reading import read_latest, read_manifest
from springline.paths import (
    ObjectPath,
    deployed_manifest,
    latest_manifest_index,
    manifest_deployed_note,
    replaced_manifest,
)
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectInfo
from tests.api.test_odd_storage import odd_documents
from tests.deployed.test_deploying import A, B, deployed, keys
from tests.support.definitions import ids


async def two_deploys() -> tuple[MemoryStore, str, str]:
    store = MemoryStore()
    first = await deployed(store, A)
    second = await deployed(store, B, 1)
    assert first.manifest_id is not None
    assert second.manifest_id is not None
    return store, first.manifest_id, second.manifest_id


async def told(store: MemoryStore, path: ObjectPath) -> DamagedObject:
    """Check that readers and deploys are told of this object, and that nothing is written."""
    before = dict(store.objects)
    with pytest.raises(DamagedObject) as raised:
        await read_latest(store)
    with pytest.raises(DamagedObject) as of_deploy:
        await deploy(store, A, ids(7))
    assert raised.value.path == of_deploy.value.path == path
    assert raised.value.remedy
    assert dict(store.objects) == before
    return raised.value


async def test_a_manifest_that_is_gone() -> None:
    store, _, latest = await two_deploys()
    store.remove(deployed_manifest(latest))
    assert "is missing" in (await told(store, deployed_manifest(latest))).why


async def test_an_index_that_is_gone() -> None:
    store, _, _ = await two_deploys()
    store.remove(latest_manifest_index())
    error = await told(store, latest_manifest_index())
    assert "a manifest was deployed" in error.why
    assert manifest_deployed_note() in error.remedy
    # The remedy, where there is no copy.
    store.remove(manifest_deployed_note())
    await deployed(store, A, 8)
    assert set(await keys(store)) == {"a1", "a2"}


async def test_a_note_that_is_gone_is_made_again() -> None:
    store, _, _ = await two_deploys()
    store.remove(manifest_deployed_note())
    assert len(await keys(store)) == 4
    await deployed(store, A, 8)
    assert manifest_deployed_note() in store.objects


@pytest.mark.parametrize("which", ["index", "manifest"])
async def test_every_flipped_bit_and_every_cut_is_noticed(which: str) -> None:
    store, _, latest = await two_deploys()
    path = latest_manifest_index() if which == "index" else deployed_manifest(latest)
    data = store.objects[path].data
    places = range(len(data)) if which == "index" else range(0, len(data), 7)
    for place in places:
        for changed in (
            data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :],
            data[:place],
        ):
            store.seed(path, changed)
            with pytest.raises(DamagedObject) as raised:
                await read_latest(store)
            assert raised.value.path == path, changed
    store.seed(path, data)
    assert len(await keys(store)) == 4


@pytest.mark.parametrize("which", ["index", "manifest"])
async def test_odd_documents_are_told(which: str) -> None:
    store, _, latest = await two_deploys()
    path = latest_manifest_index() if which == "index" else deployed_manifest(latest)
    count = 0
    good = store.objects[path].data
    for data in odd_documents(good):
        if data == good:
            continue
        store.seed(path, data)
        with pytest.raises(DamagedObject) as raised:
            await (read_latest(store) if which == "index" else read_manifest(store, latest))
        assert raised.value.path == path
        count += 1
    assert count > 20


async def test_another_manifest_in_its_place() -> None:
    store, first, latest = await two_deploys()
    store.seed(deployed_manifest(latest), store.objects[deployed_manifest(first)].data)
    await told(store, deployed_manifest(latest))
    with pytest.raises(DamagedObject, match="checksum"):
        await read_manifest(store, latest)


async def test_the_index_of_another_workspace_names_what_is_not_here() -> None:
    store, _, _ = await two_deploys()
    other = MemoryStore()
    await deployed(other, A, 60)
    store.seed(latest_manifest_index(), other.objects[latest_manifest_index()].data)
    with pytest.raises(DamagedObject, match="is missing"):
        await read_latest(store)


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plain: plain.update(format=3), "newer|at least as new"),
        (lambda plain: plain.update(format="1"), "cannot be read"),
        (lambda plain: plain.pop("assets"), "cannot be read"),
        (lambda plain: plain.update(assets=[{"key": "a:b", "location": "a"}]), "cannot be read"),
        (lambda plain: plain.update(manifest_id="01JHMP8000000000000000000Z"), "is the manifest"),
    ],
)
async def test_a_manifest_that_says_something_odd_under_a_good_checksum(change: Change, said: str) -> None:
    store, _, latest = await two_deploys()
    path = deployed_manifest(latest)
    plain = orjson.loads(store.objects[path].data)
    del plain["checksum"]
    change(plain)
    store.seed(path, with_checksum(orjson.dumps(plain), path))
    with pytest.raises(DamagedObject, match=said):
        await read_manifest(store, latest)


async def test_what_the_reference_deployed_is_not_ours() -> None:
    """Its index is replaced by the first deploy here, by compare-and-swap; its manifests stay."""
    store = MemoryStore()
    theirs = deployed_manifest("01JHMP8000000000000000000A")
    store.seed(theirs, b'{"manifestVersion": "1.0"}')
    store.seed(
        latest_manifest_index(),
        b'{"latestManifestId": "01JHMP8000000000000000000A", "deployedAt": "2025-01-15T10:00:00Z"}',
    )
    assert await read_latest(store) is None
    await deployed(store, A)
    assert set(await keys(store)) == {"a1", "a2"}
    assert theirs in store.objects


@given(st.binary(max_size=60) | st.sampled_from([b"null", b"[]", b"{}", b'{"latestManifestId": 3}', b"[" * 10_000]))
async def test_an_index_of_any_bytes_is_told(data: bytes) -> None:
    store, _, _ = await two_deploys()
    store.seed(latest_manifest_index(), data)
    with pytest.raises(DamagedObject, match="cannot be read"):
        await read_latest(store)


async def test_an_older_index_that_has_come_back_is_told() -> None:
    store, first, latest = await two_deploys()
    newest = store.objects[latest_manifest_index()].data
    older = MemoryStore()
    assert (await deployed(older, A)).manifest_id == first
    store.seed(latest_manifest_index(), older.objects[latest_manifest_index()].data)
    assert (
        f"names the manifest {first}, and a later one was deployed" in (await told(store, latest_manifest_index())).why
    )
    store.seed(latest_manifest_index(), newest)
    latest_read = await read_latest(store)
    assert latest_read is not None
    assert latest_read.manifest.manifest_id == latest


async def test_a_deploy_while_the_index_is_read_is_no_damage() -> None:
    """The reader has the older index, and looks for the note when the other one is there already."""

    class Deploying(MemoryStore):
        deploys = False

        async def head(self, path: ObjectPath) -> ObjectInfo | None:
            if self.deploys:
                self.deploys = False
                await deployed(self, B, 1)
            return await super().head(path)

    store = Deploying()
    await deployed(store, A)
    store.deploys = True
    found = await read_latest(store)
    assert found is not None
    assert len(found.manifest.assets) == 4


async def test_a_note_that_a_crash_left_out_is_made_by_the_same_deploy() -> None:
    store, first, _ = await two_deploys()
    store.remove(replaced_manifest(first))
    await deployed(store, B, 9)
    assert replaced_manifest(first) in store.objects
