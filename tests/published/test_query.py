"""SQL over the tables: it reads them as they are, and reaches nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from springline.errors import Refused
from springline.projection.schema import TABLES, Kind
from springline.published.query import Database
from tests.published.rows import row

MS = 1_736_935_200_123


@pytest.fixture
def database() -> Iterator[Database]:
    rows = {
        "runs": [
            row("runs", run_id="r-1", state="FAILED", triggered_at=MS, labels='{"team":"sales"}', tasks_total=3),
            row("runs", run_id="r-2", state="RUNNING", triggered_at=MS + 1, completed_at=-1),
        ],
        "tasks": [row("tasks", run_id="r-1", task_key="a", attempt=2**32 - 1, delta_version=-(2**63))],
    }
    made = Database(rows)
    yield made
    made.close()


def test_rows_are_asked_for_with_times_and_json(database: Database) -> None:
    answer = database.ask(
        "SELECT run_id, triggered_at, labels->>'$.team' AS team, tasks_total FROM runs WHERE state = 'FAILED'"
    )
    assert answer.rows == [("r-1", datetime(2025, 1, 15, 10, 0, 0, 123_000), "sales", 3)]
    assert [kind for _, kind in answer.columns] == ["VARCHAR", "TIMESTAMP", "VARCHAR", "UINTEGER"]
    before = database.ask("SELECT completed_at FROM runs WHERE completed_at IS NOT NULL").rows
    assert before == [(datetime(1969, 12, 31, 23, 59, 59, 999_000),)]


@pytest.fixture(params=["America/New_York", "Asia/Tokyo"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine be in another zone than UTC."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_now_is_now_wherever_the_machine_is() -> None:
    at_ms = time.time_ns() // 1_000_000
    database = Database({"runs": [row("runs", run_id="r-1", state="RUNNING", triggered_at=at_ms)]})
    near = "triggered_at BETWEEN now() - INTERVAL 1 HOUR AND now() + INTERVAL 1 HOUR"
    assert database.ask(f"SELECT run_id FROM runs WHERE {near}").rows == [("r-1",)]
    said = database.ask("SELECT now(), run_id, now() AS now FROM runs; -- of this moment")
    assert said.columns == [("now()", "TIMESTAMP"), ("run_id", "VARCHAR"), ("now", "TIMESTAMP")]
    ((first, run_id, second),) = said.rows
    assert first == second and run_id == "r-1"
    assert abs(first.replace(tzinfo=UTC).timestamp() - at_ms / 1_000) < 3_600
    assert database.ask("SELECT TIMESTAMPTZ '2026-01-01 00:00:00+02' AS t ORDER BY t").rows == [
        (datetime(2025, 12, 31, 22),)
    ]
    database.close()


def test_tables_are_joined_and_counted(database: Database) -> None:
    joined = database.ask("SELECT r.state, t.attempt, t.delta_version FROM runs r JOIN tasks t USING (run_id)")
    assert joined.rows == [("FAILED", 2**32 - 1, -(2**63))]
    assert database.ask("FROM timers").rows == []
    assert database.ask("WITH x AS (SELECT count(*) AS n FROM runs) SELECT n FROM x").rows == [(2,)]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_is_there_with_its_columns(database: Database, name: str) -> None:
    described = {one[0]: one[1] for one in database.ask(f"DESCRIBE {name}").rows}
    columns = [column for column in TABLES[name].columns if not column.internal]
    assert list(described) == [column.name for column in columns]
    for column in columns:
        assert (described[column.name] == "TIMESTAMP") == (column.kind is Kind.MS), column.name


def test_the_tables_are_all_that_there_is(database: Database) -> None:
    assert {one[0] for one in database.ask("SHOW TABLES").rows} == set(TABLES)


def outside(folder: Path) -> list[str]:
    return [
        f"SELECT * FROM read_text('{folder}/secret')",
        f"SELECT * FROM '{folder}/secret.csv'",
        f"SELECT * FROM read_csv('{folder}/secret.csv')",
        f"SELECT * FROM parquet_scan('{folder}/secret.parquet')",
        f"SELECT * FROM glob('{folder}/*')",
        f"COPY runs TO '{folder}/out.csv'",
        f"COPY (SELECT 1) TO '{folder}/out.csv'",
        f"EXPORT DATABASE '{folder}/out'",
        f"ATTACH '{folder}/out.db'",
        "SELECT * FROM read_csv('https://example.com/a.csv')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "CREATE TABLE mine AS SELECT 1",
        "CREATE OR REPLACE VIEW runs AS SELECT 1",
        "DROP VIEW runs",
        "INSERT INTO runs VALUES (1)",
        "DELETE FROM runs",
        "ATTACH ':memory:' AS more",
        "PRAGMA database_list",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW runs",
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT nothing FROM runs",
        "SELECT * FROM answer",
        "EXPLAIN ANALYZE COPY runs TO '/tmp/x'",
    ]


@pytest.mark.parametrize("number", range(len(outside(Path()))))
def test_whatever_does_not_read_the_tables_is_refused(database: Database, tmp_path: Path, number: int) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    answer = database.ask("SELECT 1")  # a local variable that SQL must not see
    sql = outside(tmp_path)[number]
    with pytest.raises(Refused) as caught:
        database.ask(sql)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field, refusal.value) == ("INVALID_REQUEST", "SQL", sql)
    assert "SELECT" in (refusal.remedy or "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "secret.csv"]
    assert len(database.ask("FROM runs").rows) == 2, "and the tables are as they were"
    assert answer.rows == [(1,)]
