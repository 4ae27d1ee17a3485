"""What `springline.client.changes` builds on: delta-rs never commits one `txn` application behind itself.

Two tries of one key are computed from one snapshot, so that neither has seen the other. Whatever the two operations
are, whatever is committed between them, and whether a checkpoint or log clean-up came along: the second is refused.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from tests.support.forks import CONTEXT

APP = "springline:01946b1c-0000-7000-8000-000000000001"
Do = Callable[[DeltaTable, int], Any]


def properties() -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(APP, 1, 1_736_935_200_000)], max_commit_retries=100)


def rows(numbers: list[int], part: str) -> pa.Table:
    return pa.table({"id": numbers, "p": [part] * len(numbers)})


def merge(table: DeltaTable, part: int) -> Any:
    merger = table.merge(
        rows([part * 10, 99], str(part)),
        f"t.id = s.id and t.p = '{part}'",
        source_alias="s",
        target_alias="t",
        commit_properties=properties(),
    )
    return merger.when_matched_delete().when_not_matched_insert_all().execute()


def exchange(table: DeltaTable, part: int) -> None:
    """Take a file out and one of the same rows in, as `springline.client.compaction` does."""
    actions: list[Any] = []
    for row in pa.table(table.get_add_actions()).to_pylist():
        if row["partition"]["p"] == str(part):
            actions += [
                RemoveAction(row["path"], False, 1, row["size_bytes"]),
                AddAction(f"copy-{part}.parquet", row["size_bytes"], {"p": str(part)}, 1, False, '{"numRecords":3}'),
            ]
            shutil.copy(Path(table.table_uri.removeprefix("file://")) / row["path"], copy_of(table, part))
    write(table, actions)


def copy_of(table: DeltaTable, part: int) -> Path:
    return Path(table.table_uri.removeprefix("file://")) / f"copy-{part}.parquet"


def write(table: DeltaTable, actions: list[Any]) -> None:
    table.create_write_transaction(
        actions, mode="append", schema=table.schema(), partition_by=["p"], commit_properties=properties()
    )


OPERATIONS: dict[str, Do] = {
    "delete": lambda table, part: table.delete(f"p = '{part}'", commit_properties=properties()),
    "delete-rows": lambda table, part: table.delete(
        f"p = '{part}' and id = {part * 10}", commit_properties=properties()
    ),
    "update": lambda table, part: table.update(
        {"id": "id + 1000"}, predicate=f"p = '{part}'", commit_properties=properties()
    ),
    "merge": merge,
    "exchange": exchange,
    "record": lambda table, _: write(table, []),
}


def nothing(_: Path) -> None:
    """Nothing comes between."""


def appends(folder: Path) -> None:
    left = 3
    while left:
        try:
            write_deltalake(folder, rows([left], "5"), mode="append")
        except CommitFailedError:
            # The library has appends lose to deletes that come between.
            continue
        left -= 1


def checkpoint(folder: Path) -> None:
    appends(folder)
    DeltaTable(folder).create_checkpoint()
    write_deltalake(folder, rows([7], "6"), mode="append")


def log_gone(folder: Path) -> None:
    """The winner's log file is removed behind a checkpoint: nobody can look into it any more."""
    checkpoint(folder)
    (folder / "_delta_log" / f"{3:020}.json").unlink()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "table"
    for part in range(3):
        write_deltalake(
            folder, rows([part * 10 + number for number in range(3)], str(part)), partition_by=["p"], mode="append"
        )
    return folder


@pytest.mark.parametrize(
    "between", [appends, log_gone, *(pytest.param(one, marks=pytest.mark.full) for one in (nothing, checkpoint))]
)
@pytest.mark.parametrize("second", OPERATIONS)
@pytest.mark.parametrize("first", OPERATIONS)
def test_the_second_of_one_application_is_refused(
    first: str, second: str, between: Callable[[Path], None], template: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "table"
    shutil.copytree(template, folder)
    one, other = DeltaTable(folder), DeltaTable(folder)
    # Of different partitions, so that nothing but the application is common to them.
    OPERATIONS[first](one, 0)
    between(folder)
    latest = DeltaTable(folder).version()
    with pytest.raises(DeltaError):
        OPERATIONS[second](other, 1)
    after = DeltaTable(folder)
    assert after.version() == latest
    assert after.transaction_version(APP) == 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_the_application_the_same_two_both_commit(name: str, template: Path, tmp_path: Path) -> None:
    """The test above would show nothing if these lost to each other for another reason."""
    folder = tmp_path / "table"
    shutil.copytree(template, folder)
    other = DeltaTable(folder)
    write_deltalake(
        folder,
        rows([1], "5"),
        mode="append",
        commit_properties=CommitProperties(app_transactions=[Transaction("another", 1)]),
    )
    OPERATIONS[name](other, 1)
    assert DeltaTable(folder).version() == 4


def test_the_library_s_own_optimize_leaves_the_application_out(tmp_path: Path) -> None:
    """Which is why `springline.client.compaction` commits by itself."""
    for number in range(2):
        write_deltalake(tmp_path, rows([number], "0"), mode="append")
    DeltaTable(tmp_path).optimize.compact(commit_properties=properties())
    table = DeltaTable(tmp_path)
    assert table.version() == 2
    assert table.transaction_version(APP) is None


def test_an_application_outlives_checkpoints_and_log_clean_up(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows([1], "0"), mode="append")
    write(DeltaTable(tmp_path), [])
    table = DeltaTable(tmp_path)
    table.create_checkpoint()
    write_deltalake(tmp_path, rows([2], "0"), mode="append")
    for version in range(2):
        (tmp_path / "_delta_log" / f"{version:020}.json").unlink()
    table = DeltaTable(tmp_path)
    table.create_checkpoint()
    assert DeltaTable(tmp_path).transaction_version(APP) == 1


PROCESSES = 4


@pytest.mark.parametrize("rounds", [15, pytest.param(300, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_processes_that_commit_one_application_at_once(rounds: int, template: Path, tmp_path: Path) -> None:
    """Real processes with one snapshot, let go together right before they commit; somebody appends beside them."""
    ready, done = CONTEXT.Barrier(PROCESSES + 1), CONTEXT.Barrier(PROCESSES + 1)
    names = list(OPERATIONS)
    processes = [
        CONTEXT.Process(target=contend, args=(str(tmp_path), names, rounds, number, ready, done))
        for number in range(PROCESSES)
    ]
    for number in range(rounds):
        shutil.copytree(template, tmp_path / f"table-{number}")
    for process in processes:
        process.start()
    committed = 0
    for number in range(rounds):
        folder = tmp_path / f"table-{number}"
        ready.wait(240)
        appends(folder)
        done.wait(240)
        table = DeltaTable(folder)
        logs = [(folder / "_delta_log" / f"{version:020}.json").read_text() for version in range(table.version() + 1)]
        assert sum(APP in log for log in logs) == 1
        committed += table.version() - 2
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert committed == rounds * 4


def contend(where: str, names: list[str], rounds: int, number: int, ready: Any, done: Any) -> None:
    for at in range(rounds):
        table = DeltaTable(Path(where) / f"table-{at}")
        operation = OPERATIONS[names[(at + number) % len(names)]]
        ready.wait(240)
        with contextlib.suppress(DeltaError):
            operation(table, number % 3)
        done.wait(240)


def test_the_hook_behind_a_commit_does_not_hide_it(tmp_path: Path) -> None:
    """A checkpoint that fails behind a commit leaves the commit where it is, and its application can be seen."""
    write_deltalake(tmp_path, rows([1], "0"), configuration={"delta.checkpointInterval": "1"})
    table = DeltaTable(tmp_path)
    (tmp_path / "_delta_log" / f"{1:020}.checkpoint.parquet").mkdir()
    with contextlib.suppress(DeltaError, OSError):
        table.delete("id = 1", commit_properties=properties(), post_commithook_properties=PostCommitHookProperties())
    assert DeltaTable(tmp_path).transaction_version(APP) == 1
