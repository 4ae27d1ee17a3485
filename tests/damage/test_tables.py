"""Damage to a table's objects that once stopped it, or was answered: each is refused by name, and a runbook ends it."""

from __future__ import annotations

import orjson
import pytest
import uuid_utils

from springline import paths
from springline.cli.recover import recover_table, verify_table
from springline.commit.inspect import key_view
from springline.errors import InvariantViolated
from springline.paths import ObjectPath
from springline.storage.scoped import ScopedStore
from tests.damage.operations import Named
from tests.damage.table_search import commit, replay, retry, verify
from tests.damage.tables import Tables, adopted, committed, in_flight, older
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, adding


async def _recover(made: Tables, store: object) -> dict[str, object]:
    scoped = ScopedStore(store, SCOPE)  # type: ignore[arg-type]
    return await recover_table(scoped, made.ref.table_id, markers=True, damaged=True)


@pytest.mark.parametrize("data", [b"", b"{", b'{"table_id": 7}'])
async def test_a_damaged_entry_is_named_and_made_anew_of_the_claims(data: bytes) -> None:
    made = await adopted()
    store, path = made.store(), paths.table_entry(made.ref.table_id)
    store.seed(SCOPE.full(path), data)
    with pytest.raises(InvariantViolated, match=path):
        await verify_table(ScopedStore(store, SCOPE), made.ref.table_id)
    assert (await _recover(made, store))["replaced"] == [path]
    assert made.root == "lake/rides"
    await verify(made, store)
    await replay(made, store)
    await commit(made, store)


async def test_an_entry_that_is_gone_is_named_and_made_anew_of_the_claims() -> None:
    made = await adopted()
    store, path = made.store(), paths.table_entry(made.ref.table_id)
    store.remove(SCOPE.full(path))
    process = Rounds(store, made.ref, made.root)
    with pytest.raises(Exception, match=path):
        await process.commit(await process.stage(b'{"commitInfo":{}}', key=str(uuid_utils.uuid7())))
    assert (await _recover(made, store))["replaced"] == [path]
    await commit(made, store)


async def test_a_table_with_commits_whose_entry_and_coordinator_are_gone_is_damaged_and_not_absent() -> None:
    for make in (adopted, committed):
        made = await make()
        store, path = made.store(), paths.table_entry(made.ref.table_id)
        store.remove(SCOPE.full(path))
        store.remove(SCOPE.full(paths.delta_coordinator(made.ref.table_id)))
        with pytest.raises(InvariantViolated, match=path):
            await verify_table(ScopedStore(store, SCOPE), made.ref.table_id)
        assert (await _recover(made, store))["replaced"] == [path]
        await verify(made, store)
        await replay(made, store)
        await commit(made, store)


async def test_no_version_is_given_twice_where_coordinator_and_a_log_file_are_gone() -> None:
    made = await committed()
    store, gap = made.store(), paths.delta_log(made.root, made.latest - 1)
    store.remove(SCOPE.full(gap))
    store.remove(SCOPE.full(paths.delta_coordinator(made.ref.table_id)))
    before = dict(store.objects)
    process = Rounds(store, made.ref, made.root)
    with pytest.raises(Exception, match=gap):
        await process.commit(await process.stage(adding("new.parquet"), read_version=made.latest - 2))
    assert all("/staging/" in path for path in store.objects.keys() - before.keys())
    store.seed(SCOPE.full(gap), made.objects[SCOPE.full(gap)])
    await commit(made, store)


@pytest.mark.parametrize("root", ["/table5/acme/prod/x", "/tables/acme/other/x", "tables/x"])
async def test_a_marker_that_names_a_log_file_elsewhere_is_damaged(root: str) -> None:
    made = await older()
    store = made.store()
    key, (request, result) = next(iter(made.answers.items()))
    path = paths.delta_marker(made.ref.table_id, key)
    there = orjson.loads(made.objects[SCOPE.full(path)])
    other = f"{root}/_delta_log/{result.version:020}.json"
    store.seed(SCOPE.full(path), orjson.dumps(there | {"delta_log_path": other}))
    process = Rounds(store, made.ref, made.root)
    with pytest.raises(InvariantViolated, match=path):
        await key_view(process.table, key)
    refusal = (await process.commit(request))[0].refusal
    assert refusal is not None
    assert path in refusal.message
    await _recover(made, store)
    assert (await process.commit(request))[0].result == result


async def test_a_damaged_marker_of_what_isin_flight_stops_no_table_for_ever() -> None:
    for steps in (0, 1, 2):
        made = await in_flight("in flight", steps, 3)()
        store = made.store()
        path = paths.delta_marker(made.ref.table_id, made.pending[1].idempotency_key)
        store.seed(SCOPE.full(path), b"{")
        with pytest.raises(Named, match=path):
            await commit(made, store)
        assert (await _recover(made, store))["replaced"] == [path]
        await verify(made, store)
        await retry(made, store)
        await commit(made, store)


async def test_a_pointer_to_a_checkpoint_that_never_was_stops_nobody() -> None:
    made = await committed()
    store = made.store()
    store.seed(SCOPE.full(paths.delta_last_checkpoint(made.root)), b'{"version":7777,"size":3}')
    await commit(made, store)
    with pytest.raises(Named, match="_last_checkpoint"):
        await verify(made, store)


async def test_an_older_coordinator_does_not_commit_what_is_in_the_log_once_more() -> None:
    made = await in_flight("logged", 1, 1)()
    path = SCOPE.full(paths.delta_coordinator(made.ref.table_id))
    for data in made.older[path]:
        store = made.store()
        store.seed(path, data)
        await retry(made, store)
        assert sorted(made.logs(store)) == list(range(made.latest + 2))


async def test_a_staged_payload_that_was_damaged_later_does_not_make_its_commit_another() -> None:
    made = await committed()
    store = made.store()
    for request, result in made.answers.values():
        store.rot(SCOPE.full(ObjectPath(request.staged_path)), b'{"add":{}}')
        (outcome,) = await Rounds(store, made.ref, made.root).commit(request)
        assert outcome.result == result


async def test_a_log_file_of_several_that_was_altered_is_named() -> None:
    made = await committed()
    store = made.store()
    path = paths.delta_log(made.root, 2)
    data = store.objects[SCOPE.full(path)].data
    store.rot(SCOPE.full(path), data.replace(b'"size":1', b'"size":2', 1))
    before = dict(store.objects)
    report = await verify_table(ScopedStore(store, SCOPE), made.ref.table_id)
    assert [one["object"] for one in report["findings"]] == [path]
    assert dict(store.objects) == before


async def test_a_protocol_that_cannot_be_is_told_with_the_object_that_it_was_read_from() -> None:
    made = await adopted()
    store, path = made.store(), paths.delta_log(made.root, 0)
    data = store.objects[SCOPE.full(path)].data
    store.rot(SCOPE.full(path), data.replace(b'"minReaderVersion":1', b'"minReaderVersion":0', 1))
    store.remove(SCOPE.full(paths.delta_last_checkpoint(made.root)))
    with pytest.raises(Named, match=f"read from {path}"):
        await commit(made, store)


async def test_an_older_claim_that_names_no_table_is_damaged() -> None:
    made = await committed()
    store, path = made.store(), paths.name_claim(made.table_name)
    store.seed(SCOPE.full(path), b'{"table_id":"01946b1c-0000-7000-8000-000000 000aa","value":"rows"}')
    with pytest.raises(InvariantViolated, match=path):
        await verify_table(ScopedStore(store, SCOPE), made.table_name)
