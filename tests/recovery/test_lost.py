"""A table whose coordinator, markers or staged payloads are lost, damaged or old: its log tells what there was."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random

import orjson
import pytest
import uuid_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from springline import paths
from springline.cli.recover import recover_table, verify_table
from springline.client.payloads import Identity, append_payload
from springline.delta.messages import CommitMode, CommitRequest, CommitResult, TableRef
from springline.errors import Code
from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, TABLE_ID, adding, create_rows_table

Record = Callable[[str, object], None]

REF = TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=TABLE_ID)
COORDINATOR = SCOPE.full(paths.delta_coordinator(TABLE_ID))
SEEN: Counter[str] = Counter()


class Lost:
    """A table with a history, of which anything but the log may be lost."""

    def __init__(self, store: MemoryStore, root: str) -> None:
        self.store, self.root = store, root
        self.process = Rounds(store, REF, root)
        self.answers: dict[str, tuple[CommitRequest, CommitResult]] = {}
        self.olds: list[bytes] = []

    @classmethod
    async def make(cls, rnd: Random, commits: int) -> Lost:
        store = MemoryStore()
        entry = await create_rows_table(store)
        lost = cls(store, entry.root)
        for _ in range(commits):
            await lost.commit(rnd.choice([1, 1, 2, 3]))
            lost.olds.append(store.objects[COORDINATOR].data)
        return lost

    async def commit(self, members: int, process: Rounds | None = None) -> None:
        """Commit some appends of our client in one round, and note their answers."""
        process = process or self.process
        requests = [await self._staged(process) for _ in range(members)]
        for request, outcome in zip(requests, await process.commit(*requests), strict=True):
            assert outcome.result is not None, outcome
            self.answers[request.idempotency_key] = (request, outcome.result)

    async def _staged(self, process: Rounds, key: str | None = None) -> CommitRequest:
        key = str(uuid_utils.uuid7()) if key is None else key
        # Staged again it has other bytes, of another time: the fingerprint tells that it is the same request.
        info = append_payload([], key, [], Identity("append", hashlib.sha256(key.encode()).hexdigest()))
        return await process.stage(info + adding(f"part-{key}.parquet"), key=key, mode=CommitMode.APPEND)

    def damage(self, rnd: Random, what: str) -> None:
        """Lose or damage the coordinator, and any markers and staged payloads."""
        data = self.store.objects[COORDINATOR].data
        if what == "gone":
            self.store.remove(COORDINATOR)
        elif what == "truncated":
            self.store.seed(COORDINATOR, data[: rnd.randrange(len(data))])
        elif what == "garbage":
            self.store.seed(COORDINATOR, rnd.randbytes(30))
        elif what == "old":
            self.store.seed(COORDINATOR, rnd.choice(self.olds))
        SEEN[what] += 1
        for kind in ("/idempotency/", "/staging/"):
            share = rnd.choice([0.0, 0.5, 1.0])
            for path in [path for path in self.store.objects if kind in path and rnd.random() < share]:
                self.store.remove(path)

    async def check(self) -> None:
        """Check that every key has its first answer, and that commits go on without gap or double."""
        process = Rounds(self.store, REF, self.root)
        for request, result in list(self.answers.values()):
            (again,) = await process.commit(request)
            if again.refusal is not None:
                # Marker and payload were both lost: only the payload itself tells that the request is the same.
                assert again.refusal.code is Code.STAGED_MISSING
                (again,) = await process.commit(await self._staged(process, request.idempotency_key))
            assert again.replayed
            assert again.result == result
        last = max(result.version for _, result in self.answers.values())
        await self.commit(1, process)
        assert max(result.version for _, result in self.answers.values()) == last + 1
        prefix = SCOPE.full(paths.delta_log_dir(self.root))
        versions = sorted(int(p.rsplit("/", 1)[-1].split(".")[0]) for p in self.store.objects if p.startswith(prefix))
        assert versions == list(range(last + 2))


def scoped(store: MemoryStore) -> ScopedStore:
    return ScopedStore(store, SCOPE)


@pytest.mark.parametrize("what", ["gone", "truncated", "garbage", "old", "whole"])
@settings(max_examples=8, deadline=None)
@given(rnd=st.randoms(use_true_random=False))
async def test_whatever_is_lost_every_key_keeps_its_answer(what: str, rnd: Random) -> None:
    lost = await Lost.make(rnd, rnd.randint(1, 6))
    lost.damage(rnd, what)
    report = await recover_table(scoped(lost.store), TABLE_ID, markers=True, damaged=True)
    assert report["findings"] == []
    assert report["after"]["inflight"] is None
    before = dict(lost.store.objects)
    again = await recover_table(scoped(lost.store), TABLE_ID, markers=True, damaged=True)
    assert again["markers_written"] == []
    assert dict(lost.store.objects) == before
    await lost.check()
    assert (await verify_table(scoped(lost.store), TABLE_ID))["ok"] is True


def test_enough_damage_was_seen(record_property: Record) -> None:
    record_property("explored", f"tables that lost their protocol objects: {sum(SEEN.values())} recovered")
    assert min(SEEN.values()) >= 5


async def test_verify_changes_nothing_and_names_each_loss() -> None:
    lost = await Lost.make(Random(1), 4)
    whole = await verify_table(scoped(lost.store), TABLE_ID)
    assert (whole["ok"], whole["findings"], whole["last_version"]) == (True, [], 4)
    assert whole["keys"] == whole["answered"] == len(lost.answers)
    marker = next(path for path in lost.store.objects if "/idempotency/" in path)
    lost.store.remove(marker)
    lost.store.remove(COORDINATOR)
    before = dict(lost.store.objects)
    found = await verify_table(scoped(lost.store), TABLE_ID)
    assert not found["ok"]
    assert {SCOPE.full(ObjectPath(one["object"])) for one in found["findings"]} == {marker, COORDINATOR}
    assert all(one["remedy"] for one in found["findings"])
    assert dict(lost.store.objects) == before


@pytest.mark.parametrize("which", ["last", "middle"])
async def test_a_log_file_that_is_gone_is_named_and_nothing_is_made_up(which: str) -> None:
    lost = await Lost.make(Random(2), 5)
    version = 5 if which == "last" else 2
    gone = paths.delta_log(lost.root, version)
    lost.store.remove(SCOPE.full(gone))
    found = await verify_table(scoped(lost.store), TABLE_ID)
    assert not found["ok"]
    assert any(gone in one["object"] for one in found["findings"])
    assert SCOPE.full(gone) not in lost.store.objects


async def test_a_marker_with_another_answer_is_named_and_left() -> None:
    lost = await Lost.make(Random(3), 3)
    marker = next(path for path in lost.store.objects if "/idempotency/" in path)
    there = orjson.loads(lost.store.objects[marker].data)
    located = paths.parse_delta_log(there["delta_log_path"])
    assert located is not None
    other = there | {"version": 77, "delta_log_path": paths.delta_log(located[0], 77)}
    del other["checksum"]
    lost.store.seed(marker, orjson.dumps(other))
    report = await recover_table(scoped(lost.store), TABLE_ID, markers=True, damaged=True)
    (finding,) = report["findings"]
    assert "answers key" in finding["problem"]
    assert orjson.loads(lost.store.objects[marker].data)["version"] == 77


async def test_recovering_while_commits_go_on_is_safe() -> None:
    lost = await Lost.make(Random(4), 3)
    lost.store.seed(COORDINATOR, b"damaged")
    await recover_table(scoped(lost.store), TABLE_ID, damaged=True)
    await lost.commit(2)
    await recover_table(scoped(lost.store), TABLE_ID, markers=True, damaged=True)
    await lost.check()
