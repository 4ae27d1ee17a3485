"""`springline state show | dump | digest | diff` and `springline query`: from the store alone."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from springline.projection.config import FoldConfig
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.cli.conftest import Cli
from tests.support.golden_ledgers import SCOPE, ledger, unpacked
from tests.support.publishing import Publisher

WHERE = ("--tenant", "acme", "--workspace", "prod")
CONFIG = FoldConfig(SCOPE.tenant, SCOPE.workspace)


class Published:
    """A local store in which the golden ledger `plain` is published, as a base and deltas."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = (*WHERE, "--store", root.as_uri())
        self.publisher = Publisher(ScopedStore(LocalStore(root), SCOPE), CONFIG)
        self.bodies = [body for _, body in sorted(ledger("plain").bodies.items())]

    async def publish(self) -> None:
        await self.publisher.publish(self.bodies[:200], "base")
        await self.publisher.publish(self.bodies[200:300])
        await self.publisher.publish(self.bodies[300:])


@pytest.fixture
def published(tmp_path: Path) -> Published:
    made = Published(tmp_path / "store")
    asyncio.run(made.publish())
    return made


def test_show_tells_where_the_state_stands(published: Published, cli: Cli) -> None:
    document = cli("state", "show", *published.where).document
    golden = ledger("plain").state
    assert document["revision"]["manifest_id"] == "00000000000000000003"
    assert document["revision"]["last_visible_event_id"] == golden["watermarks"]["last_visible_event_id"]
    assert document["watermarks"]["events_processed_through"] == golden["watermarks"]["events_processed_through"]
    rows = {name: count for name, count in document["rows"].items() if not name.startswith("x_")}
    assert rows == golden["row_counts"]
    assert document["rows"]["x_attempts"]
    assert document["own_digest"] == published.publisher.digest.own()
    assert document["events"] == 455
    assert document["digest"] == published.publisher.digest.state()


@pytest.fixture
def unpublished(tmp_path: Path) -> str:
    """Return the URL of a store that knows the workspace, and in which nothing has been published."""
    folder = tmp_path / "unpublished"
    note = folder / "tenant=acme" / "workspace=prod" / "delta" / "tables"
    note.mkdir(parents=True)
    (note / "note.json").write_text("{}")
    return folder.as_uri()


def test_nothing_published_is_an_empty_state(unpublished: str, tmp_path: Path, cli: Cli) -> None:
    where = (*WHERE, "--store", unpublished)
    document = cli("state", "show", *where).document
    assert document["revision"]["manifest_id"] == "0" * 20
    assert set(document["rows"].values()) == {0}
    assert document["digest"] == cli("state", "digest", *where).document["digest"]
    assert cli("query", "SELECT count(*) AS n FROM runs", *where).document["rows"] == [{"n": 0}]
    dumped = tmp_path / "state.json"
    assert cli("state", "dump", *where, "--out", str(dumped)).document["rows"]["runs"] == 0
    assert json.loads(dumped.read_bytes())["tables"]["runs"] == []


def test_the_dump_is_the_golden_state(published: Published, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "state.json.gz"
    assert cli("state", "dump", *published.where, "--out", str(out)).document["out"] == str(out)
    state, golden = unpacked(out), ledger("plain").state
    for field in ("format", "tables", "tables_sha256", "table_sha256", "row_counts"):
        assert state[field] == golden[field], field
    assert state["manifest"] == {
        "has_base_snapshot": True,
        "l0_count": 2,
        "manifest_id": "00000000000000000003",
        "schema_version": 2,
    }
    last = golden["watermarks"]["last_visible_event_id"]
    assert state["watermarks"]["last_visible_event_id"] == last
    assert "last_processed_at" not in state["watermarks"]


def test_the_digest_is_that_of_an_offline_fold(published: Published, tmp_path: Path, cli: Cli) -> None:
    for path, body in ledger("plain").bodies.items():
        file = published.root / SCOPE.prefix / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    listed = tmp_path / "paths.json"
    listed.write_text(json.dumps({"event_paths": ledger("plain").paths}))
    out = tmp_path / "state.json.gz"
    arguments = (*published.where, "--manifest", str(listed), "--out", str(out))
    folded = cli("state", "fold", *arguments, "--batch", "60", "--order", "random:1").document
    live = cli("state", "digest", *published.where).document
    assert folded["digest"] == live["digest"]
    assert folded["tables"] == live["tables"]
    against = cli("state", "diff", str(out), *published.where)
    assert against.document["equal"] is True
    assert against.document["b"] == "revision 00000000000000000003"


def test_differences_are_named_by_table_key_and_column(published: Published, tmp_path: Path, cli: Cli) -> None:
    out, changed = tmp_path / "a.json.gz", tmp_path / "b.json"
    cli("state", "dump", *published.where, "--out", str(out))
    state = unpacked(out)
    run, task = state["tables"]["runs"][0], state["tables"]["tasks"][3]
    run["state"] = "NONSENSE"
    state["tables"]["tasks"].remove(task)
    changed.write_text(json.dumps(state))
    for other in ([str(changed)], [str(changed), *published.where]):
        arguments = [str(out), *other] if len(other) == 1 else other
        ended = cli("state", "diff", *arguments)
        assert ended.code == 3
        document = json.loads(ended.stdout)
        assert document["equal"] is False
        assert document["total"] == 2
        first, second = document["differences"]
        assert (first["table"], first["key"], first["column"]) == ("runs", {"run_id": run["run_id"]}, "state")
        assert second["table"] == "tasks"
        assert second["key"] == {"run_id": task["run_id"], "task_key": task["task_key"]}
        assert second["only_in"] in ("a", "b")
    few = json.loads(cli("state", "diff", str(out), str(changed), "--limit", "1").stdout)
    assert (len(few["differences"]), few["total"], few["equal"]) == (1, 2, False)
    assert json.loads(cli("state", "diff", str(out), str(changed), "--limit", "0").stdout)["equal"] is False


@pytest.mark.parametrize(
    ("content", "arguments", "field"),
    [
        (None, ["A", "B"], "A"),
        (b"{}", ["A", "A"], "A"),
        (b'{"tables": {"nope": []}}', ["A", "A"], "A"),
        (b'{"tables": {"runs": [1]}}', ["A", "A"], "A"),
        (b'{"tables": {}}', ["A", "B"], "B"),
        (b'{"tables": {}}', ["A"], "--tenant"),
        (b'{"tables": {}}', ["A", "--tenant", "acme"], "--workspace"),
        (b'{"tables": {}}', ["A", *WHERE], "--store"),
    ],
)
def test_what_is_no_state_is_refused(
    tmp_path: Path, content: bytes | None, arguments: list[str], field: str, cli: Cli
) -> None:
    if content is not None:
        (tmp_path / "A").write_bytes(content)
    ended = cli("state", "diff", *(str(tmp_path / one) if one in "AB" else one for one in arguments))
    assert (ended.code, ended.error["field"]) == (2, field)


QUERY = "SELECT state, count(*) AS n, min(triggered_at) AS first FROM runs GROUP BY state ORDER BY state"


def test_a_query_is_answered_with_its_revision(published: Published, cli: Cli) -> None:
    document = cli("query", QUERY, *published.where).document
    rows = ledger("plain").state["tables"]["runs"]
    states = sorted({row["state"] for row in rows})
    assert document["rows"] == [
        {
            "state": state,
            "n": sum(row["state"] == state for row in rows),
            "first": min(row["triggered_at"] for row in rows if row["state"] == state),
        }
        for state in states
    ]
    assert [column["name"] for column in document["columns"]] == ["state", "n", "first"]
    assert document["columns"][2]["type"] == "TIMESTAMP"
    assert document["revision"]["manifest_id"] == "00000000000000000003"
    assert cli("query", QUERY, *published.where, "--field", "rows.0.state").stdout == f"{states[0]}\n"


def test_a_query_is_printed_as_csv_or_as_a_table(published: Published, cli: Cli) -> None:
    document = cli("query", QUERY, *published.where).document
    as_csv = list(csv.DictReader(io.StringIO(cli("query", QUERY, *published.where, "--format", "csv").stdout)))
    assert as_csv == [{name: str(value) for name, value in row.items()} for row in document["rows"]]
    table = cli("query", QUERY, *published.where, "--format", "table")
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["state", "n", "first"]
    assert set(lines[1]) == {"-", " "}
    assert len(lines) == 2 + len(document["rows"])
    assert lines[2].split()[0] == document["rows"][0]["state"]
    shown = "1 row" if len(document["rows"]) == 1 else f"{len(document['rows'])} rows"
    assert table.hints == [f"{shown} of revision 00000000000000000003"]


VALUES = """SELECT 1 AS a, 2 AS a, NULL AS nothing, 1.5::DECIMAL(4,1) AS d, DATE '2025-01-15' AS day, [1, 2] AS list,
    {'x': TIMESTAMP '2025-01-15 10:00:00'} AS nested, INTERVAL 90 SECOND AS span, (2::HUGEINT)**70 AS big,
    'a'::BLOB AS data, 170141183460469231731687303715884105727::HUGEINT AS huge, true AS yes"""


def test_values_of_all_kinds_have_a_form(unpublished: str, cli: Cli) -> None:
    where = (*WHERE, "--store", unpublished)
    (row,) = cli("query", VALUES, *where).document["rows"]
    assert row == {
        "a": 1,
        "a_2": 2,
        "nothing": None,
        "d": 1.5,
        "day": "2025-01-15",
        "list": [1, 2],
        "nested": {"x": "2025-01-15T10:00:00.000Z"},
        "span": 90.0,
        "big": float(2**70),
        "data": "b'a'",
        "huge": str(2**127 - 1),
        "yes": True,
    }
    assert "a_2" in cli("query", VALUES, *where, "--format", "table").stdout
    assert cli("query", VALUES, *where, "--format", "csv").stdout.startswith("a,a_2,nothing,")


@pytest.mark.parametrize("sql", ["DROP TABLE runs", "SELECT * FROM read_text('/etc/passwd')", "SELEC 1", ""])
def test_a_query_that_does_not_read_the_tables_is_bad_input(unpublished: str, sql: str, cli: Cli) -> None:
    ended = cli("query", sql, *WHERE, "--store", unpublished)
    assert (ended.code, ended.error["field"], ended.error["value"]) == (2, "SQL", sql)


def test_a_damaged_state_is_named(published: Published, cli: Cli) -> None:
    file = next(file for file in published.root.rglob("tasks.*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    ended = cli("query", "SELECT count(*) FROM tasks", *published.where)
    assert ended.code == 3
    assert ended.error["code"] == "STORED_DAMAGED"
    assert file.name in ended.error["message"]
    assert ended.error["value"].endswith(file.name)
    assert "Rebuild the projections from the ledger" in ended.error["remedy"]
    assert "runbooks/damaged-object.md" in ended.error["remedy"]
    assert cli("state", "show", *published.where).code == 0, "the digest is recorded, no table is read"
    assert cli("query", "SELECT count(*) FROM runs", *published.where).code == 0, "only tables that it names are read"


ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 17"


@pytest.mark.parametrize(
    ("sql", "option", "value"),
    [
        (ENDLESS, "--timeout", "0.2"),
        ("SELECT list(a.range || b.range) FROM range(100000) a, range(100) b", "--memory", "32"),
        ("FROM range(2000)", "--max-rows", "1999"),
    ],
)
def test_a_query_is_ended_at_its_limits(published: Published, cli: Cli, sql: str, option: str, value: str) -> None:
    ended = cli("query", sql, option, value, *published.where)
    assert ended.code == 2
    assert (ended.error["field"], ended.error["value"]) == (option, float(value))
    assert option in ended.error["remedy"]


def test_memory_of_a_query_is_a_size(published: Published, cli: Cli) -> None:
    assert cli("query", "SELECT 1", "--memory", "0.5GiB", *published.where).code == 0
    for wrong in ("lots", "1MiB", "15", "-1"):
        error = cli("query", "SELECT 1", f"--memory={wrong}", *published.where).error
        assert (error["field"], error["value"]) == ("--memory", wrong)
        assert "512MiB" in error["remedy"]


def test_ctrl_c_ends_a_query_at_once(published: Published) -> None:
    command = [str(Path(sys.executable).parent / "springline"), "query", ENDLESS, *published.where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    threads = Path(f"/proc/{process.pid}/task")
    try:
        deadline = time.monotonic() + 60
        # Those of the store, the query and DuckDB: there are so many only once the query runs.
        while time.monotonic() < deadline and (not threads.exists() or len(list(threads.iterdir())) < 5):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, b"")
