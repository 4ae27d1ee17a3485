"""A rival that bypasses us: `deltalake` appends to the same folder while we commit (docs/protocol.md#rule-7)."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections import Counter
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from activities.messages import TableRef
from springline import paths
from springline.delta.request import Mode
from springline.errors import Code
from springline.storage.local import LocalStore
from tests.support.commit_rounds import Rounds
from tests.support.rows import SCOPE, TABLE_ID, create_rows_table, payload_of, read_rows, rows

APPENDS = 25
"""Of each rival, and of ours in each mode."""

RIVAL = """
import sys
from deltalake import CommitProperties, write_deltalake
from tests.support.rows import rows
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENT = CommitProperties(max_commit_retries=200)
sys.stdin.readline()
for number in range(count):
    write_deltalake(folder, rows([number], name), mode="append", commit_properties=PATIENT)
"""

PATIENT = CommitProperties(max_commit_retries=200)
"""Five write at once, and 15 lost races in a row, after which a rival would give up, do happen."""


class Both:
    """Our process and the folder that the rivals write to."""

    def __init__(self, folder: Path, root: str, process: Rounds, store: LocalStore) -> None:
        self.folder = folder
        self.root = root
        self.process = process
        self.store = store
        self.table_folder = folder / SCOPE.full(paths.workspace_path(root))

    def another_process(self) -> Both:
        """Return the same folder in the hands of a second process of ours, which knows only what is stored."""
        process = Rounds(self.store, self.process.ref, self.root)
        return Both(self.folder, self.root, process, self.store)

    def rival_writes(self, number: int) -> None:
        write_deltalake(self.table_folder, rows([number], "rival"), mode="append", commit_properties=PATIENT)


@pytest.fixture
async def both(tmp_path: Path) -> Both:
    store = LocalStore(tmp_path, fsync=False)
    entry = await create_rows_table(store)
    ref = TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=TABLE_ID)
    return Both(tmp_path, entry.root, Rounds(store, ref, entry.root), store)


async def append_ours(both: Both, count: int) -> set[int]:
    """Append rows 0, 1, ... in rounds of three; return the versions they were committed as."""
    versions: set[int] = set()
    for start in range(0, count, 3):
        requests = [
            await both.process.stage(await payload_of(both.store, both.root, [number], "append"))
            for number in range(start, min(start + 3, count))
        ]
        outcomes = await both.process.commit(*requests)
        assert all(outcome.result for outcome in outcomes), outcomes
        versions |= {outcome.result.version for outcome in outcomes if outcome.result}
        assert [one.result for one in await both.process.commit(*requests)] == [one.result for one in outcomes]
    return versions


async def commit_strictly(both: Both, count: int) -> tuple[set[int], int]:
    """Commit rows 0, 1, ... strictly, reading anew after each conflict; return the versions and how often we lost."""
    versions: set[int] = set()
    lost = 0
    read_version = 0
    for number in range(count):
        payload = await payload_of(both.store, both.root, [number], "strict")
        while True:
            request = await both.process.stage(payload, mode=Mode.STRICT, read_version=read_version)
            (outcome,) = await both.process.commit(request)
            if outcome.result is not None:
                assert outcome.result.version == read_version + 1
                versions.add(outcome.result.version)
                read_version = outcome.result.version
                break
            refusal = outcome.refusal
            assert refusal is not None
            assert refusal.code is Code.STALE_READ_VERSION
            assert refusal.latest_version is not None
            assert refusal.commits_since is not None
            since = [one.version for one in refusal.commits_since]
            assert since == list(range(max(read_version, refusal.latest_version - 100) + 1, refusal.latest_version + 1))
            read_version = refusal.latest_version
            lost += 1
    return versions, lost


async def test_both_sides_rows_are_there_and_ours_exactly_once(both: Both) -> None:
    processes = [
        await create_subprocess_exec(
            *(sys.executable, "-c", RIVAL, str(both.table_folder), f"process-{number}", str(APPENDS)),
            stdin=PIPE,
            stderr=PIPE,
            cwd=Path(__file__).parents[2],
        )
        for number in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")

    def rival() -> None:
        for number in range(APPENDS):
            both.rival_writes(number)

    thread = threading.Thread(target=rival)
    thread.start()
    appended, (committed, lost) = await asyncio.gather(
        append_ours(both, APPENDS), commit_strictly(both.another_process(), APPENDS)
    )
    ended = [await process.communicate() for process in processes]
    await asyncio.to_thread(thread.join)
    assert [process.returncode for process in processes] == [0, 0], ended

    expected = Counter(
        (number, writer)
        for writer in ("append", "strict", "process-0", "process-1", "rival")
        for number in range(APPENDS)
    )
    assert read_rows(both.folder, both.root) == expected
    table = DeltaTable(both.table_folder)
    ours = appended | committed
    assert table.version() == len(ours) + 3 * APPENDS
    assert await both.process.inflight_is_null()
    print(f"{len(ours)} versions of ours among {table.version()}; strict commits lost {lost} times and then won")


async def test_a_strict_commit_loses_to_a_rival_at_once_and_is_told_what_happened(both: Both) -> None:
    request = await both.process.stage(await payload_of(both.store, both.root, [1]), mode=Mode.STRICT, read_version=0)
    both.rival_writes(0)
    before = read_rows(both.folder, both.root)
    (outcome,) = await both.process.commit(request)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.STALE_READ_VERSION
    assert outcome.refusal.latest_version == 1
    assert outcome.refusal.commits_since is not None
    (since,) = outcome.refusal.commits_since
    assert (since.version, since.operation, since.key) == (1, "WRITE", None)
    assert read_rows(both.folder, both.root) == before
    assert await both.process.inflight_is_null()


async def test_an_append_goes_behind_the_rivals_versions(both: Both) -> None:
    request = await both.process.stage(await payload_of(both.store, both.root, [1]))
    for number in range(3):
        both.rival_writes(number)
    (outcome,) = await both.process.commit(request)
    assert outcome.result is not None
    assert outcome.result.version == 4
    assert read_rows(both.folder, both.root)[1, "ours"] == 1


async def test_the_coordinator_catches_up_with_many_versions_behind_a_checkpoint(both: Both) -> None:
    for number in range(20):
        both.rival_writes(number)
    DeltaTable(both.table_folder).create_checkpoint()
    for number in range(20, 25):
        both.rival_writes(number)
    request = await both.process.stage(await payload_of(both.store, both.root, [1]), mode=Mode.STRICT, read_version=25)
    (outcome,) = await both.process.commit(request)
    assert outcome.result is not None
    assert outcome.result.version == 26
    assert sum(read_rows(both.folder, both.root).values()) == 26
