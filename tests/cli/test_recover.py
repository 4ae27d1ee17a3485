"""`springline table recover | clean-staging`: from storage alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from springline import paths
from springline.cli.recover import recover_table
from springline.commit.complete import read_markers
from springline.commit.staging import stage
from springline.commit.table import CommitTable
from springline.delta.messages import CommitMode, CommitOutcome, CommitRequest
from springline.storage.gcs import EMULATOR_VARIABLE
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.cli.conftest import GOLDEN, GOLDEN_TABLE, Cli, payload
from tests.storage.conftest import bucket, fake_gcs  # noqa: F401 - fixtures
from tests.support.local_api import ACME
from tests.support.local_sequencer import LocalSequencer
from tests.support.tables import create, flights

ROOT = Path(__file__).parents[2]
COPY = Callable[[str], Path]
KEY = "01946742-8400-7000-8000-000000000002"
WHERE = ("--tenant", "acme", "--workspace", "prod")
ONE_DONE = [{"kind": "completed", "commit_id": KEY, "version": 2, "keys": [KEY]}]


def inside(folder: Path, path: paths.ObjectPath) -> Path:
    return folder / ACME.full(path)


def coordinator(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inside(folder, paths.delta_coordinator(GOLDEN_TABLE)).read_text())
    found.pop("checksum", None)
    return found


def objects(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".springline" not in file.parts
    }


def after_a_retry(window: str) -> dict[str, bytes]:
    """Return what the reference itself holds after the caller's own retry recovered the window."""
    recorded = json.loads((GOLDEN / window / "recover-retry.json").read_text())["after"]
    return {str(ACME.full(paths.relative_path(path))): text.encode() for path, text in recorded.items()}


def recover(cli: Cli, folder: Path, table: str = GOLDEN_TABLE) -> Any:
    return cli("table", "recover", *WHERE, "--store", folder.as_uri(), table).document


@pytest.mark.parametrize("window", ["reserved", "logged", "marked"])
def test_what_the_reference_left_in_flight_is_completed(window: str, golden: COPY, cli: Cli) -> None:
    folder = golden(window)
    report = recover(cli, folder)
    inflight = report["before"]["inflight"]
    assert report == {
        "table_id": GOLDEN_TABLE,
        "root": f"tables/{GOLDEN_TABLE}",
        "before": {"latest_version": 1, "inflight": inflight},
        "rebuilt_coordinator": False,
        "done": ONE_DONE,
        "after": {"latest_version": 2, "inflight": None},
    }
    assert (inflight["commit_id"], inflight["version"], inflight["keys"]) == (KEY, 2, [KEY])
    assert coordinator(folder) == {"latest_version": 2, "inflight": None}
    log = inside(folder, paths.delta_log(report["root"], 2)).read_bytes()
    assert log == inside(folder, paths.relative_path(inflight["staged_path"])).read_bytes()


@pytest.mark.parametrize("window", ["reserved", "logged", "marked", "committed"])
def test_the_store_is_then_the_one_that_the_reference_would_have(window: str, golden: COPY, cli: Cli) -> None:
    folder = golden(window)
    recover(cli, folder)
    expected = after_a_retry(window)
    found = objects(folder)
    assert found.keys() == expected.keys()
    for path, data in expected.items():
        assert json_or_bytes(found[path]) == json_or_bytes(data), path


def json_or_bytes(data: bytes) -> Any:
    """Compare markers without their time: the reference takes the retry's, we the reservation's.

    See docs/protocol.md#commit-rules.
    """
    try:
        parsed = json.loads(data)
    except ValueError:
        return data
    parsed.pop("committed_at_ms", None)
    parsed.pop("checksum", None)
    return parsed


@pytest.mark.parametrize("window", ["staged", "committed"])
def test_where_nothing_is_in_flight_nothing_is_done(window: str, golden: COPY, cli: Cli) -> None:
    folder = golden(window)
    before = objects(folder)
    report = recover(cli, folder)
    assert report["done"] == []
    assert report["after"] == report["before"]
    assert objects(folder) == before


def test_a_second_recovery_finds_nothing_to_do(golden: COPY, cli: Cli) -> None:
    folder = golden("reserved")
    recover(cli, folder)
    before = objects(folder)
    assert recover(cli, folder)["done"] == []
    assert objects(folder) == before


def test_a_reservation_whose_payload_is_gone_is_abandoned(golden: COPY, cli: Cli) -> None:
    folder = golden("reserved")
    inside(folder, paths.relative_path(coordinator(folder)["inflight"]["staged_path"])).unlink()
    report = recover(cli, folder)
    assert report["done"] == [ONE_DONE[0] | {"kind": "abandoned"}]
    assert report["after"] == {"latest_version": 2, "inflight": None}
    (line,) = inside(folder, paths.delta_log(report["root"], 2)).read_text().splitlines()
    assert KEY in line
    assert list(json.loads(line)) == ["commitInfo"]


def test_a_registered_table_is_found_by_name_and_a_lost_coordinator_is_rebuilt(cli: Cli, tmp_path: Path) -> None:
    async def prepare() -> str:
        store = LocalStore(tmp_path)
        entry = await create(store, flights())
        await store.aclose()
        return entry.table_id

    table_id = asyncio.run(prepare())
    assert recover(cli, tmp_path, "flights")["before"] == {"latest_version": 0, "inflight": None}
    inside(tmp_path, paths.delta_coordinator(table_id)).unlink()
    report = recover(cli, tmp_path, "flights")
    assert report["before"] == {"latest_version": None, "inflight": None}
    assert (report["rebuilt_coordinator"], report["done"]) == (True, [])
    assert report["after"] == {"latest_version": 0, "inflight": None}


def test_it_needs_no_environment_no_temporal_and_no_api(golden: COPY) -> None:
    folder = golden("logged")
    command = [sys.executable, "-m", "springline.cli", "table", "recover", *WHERE]
    done = subprocess.run(
        [*command, "--store", folder.as_uri(), GOLDEN_TABLE],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"TEMPORAL_ADDRESS": "127.0.0.1:1", "SPRINGLINE_API_URL": "http://127.0.0.1:1"},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["done"] == ONE_DONE


def test_several_at_once_agree(golden: COPY) -> None:
    folder = golden("reserved")
    command = [sys.executable, "-m", "springline.cli", "table", "recover", *WHERE, "--store", folder.as_uri()]
    helpers = [
        subprocess.Popen([*command, GOLDEN_TABLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for _ in range(3)
    ]
    ends = [helper.communicate(timeout=120) for helper in helpers]
    assert [helper.returncode for helper in helpers] == [0, 0, 0], ends
    for stdout, _ in ends:
        assert json.loads(stdout)["after"] == {"latest_version": 2, "inflight": None}
    assert not inside(folder, paths.delta_log(f"tables/{GOLDEN_TABLE}", 3)).exists()


async def test_it_is_safe_while_commits_go_on(tmp_path: Path) -> None:
    """Recoveries of another process meet a live owner's reservations at every step; each commit lands once."""
    owner, helper = LocalStore(tmp_path), LocalStore(tmp_path)
    entry = await create(owner, flights())
    mine, theirs = ScopedStore(owner, ACME), ScopedStore(helper, ACME)
    sequencer = LocalSequencer(owner)
    helped = []

    async def help_until(done: asyncio.Event) -> None:
        while not done.is_set():
            helped.extend((await recover_table(theirs, "flights"))["done"])

    async def commit(number: int) -> CommitOutcome:
        key = str(uuid7())
        staged = await stage(mine, entry.table_id, key, payload(number).encode())
        request = CommitRequest(
            idempotency_key=key,
            mode=CommitMode.APPEND,
            read_version=0,
            staged_path=staged.path,
            staged_version=staged.version,
        )
        (outcome,) = await sequencer.commit(ACME, entry.table_id, [request], batch_id=key)
        return outcome

    done = asyncio.Event()
    helpers = [asyncio.create_task(help_until(done)) for _ in range(2)]
    outcomes = [await commit(number) for number in range(40)]
    done.set()
    await asyncio.gather(*helpers)
    assert [outcome.result.version for outcome in outcomes if outcome.result] == list(range(1, 41))
    for number, outcome in enumerate(outcomes):
        log = await mine.get(paths.delta_log(entry.root, number + 1))
        assert log is not None
        assert log.data == payload(number).encode()
        (marker,) = await read_markers(CommitTable(mine, entry.table_id, entry.root), [outcome.idempotency_key])
        assert marker is not None
        assert marker.version == number + 1
    assert helped, "no recovery ever met a reservation: this test shows nothing"
    assert {one["kind"] for one in helped} == {"completed"}
    assert (await recover_table(mine, "flights"))["after"] == {"latest_version": 40, "inflight": None}
    await owner.aclose()
    await helper.aclose()


def test_a_bucket_of_an_emulator_is_recovered(
    fake_gcs: str,  # noqa: F811
    bucket: str,  # noqa: F811
    golden: COPY,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The version tokens of a bucket are generations, so a reservation of it names one.
    folder = golden("reserved")
    generations = {}
    for path, data in objects(folder).items():
        put = httpx.post(
            f"http://{fake_gcs}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": path},
            content=data,
        )
        generations[path] = put.raise_for_status().json()["generation"]
    state = coordinator(folder)
    staged = ACME.full(paths.relative_path(state["inflight"]["staged_path"]))
    state["inflight"]["staged_version"] = generations[staged]
    httpx.post(
        f"http://{fake_gcs}/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "media", "name": ACME.full(paths.delta_coordinator(GOLDEN_TABLE))},
        content=json.dumps(state).encode(),
    ).raise_for_status()
    monkeypatch.setenv(EMULATOR_VARIABLE, f"http://{fake_gcs}")
    report = cli("table", "recover", *WHERE, "--store", f"gs://{bucket}", GOLDEN_TABLE).document
    assert report["done"] == ONE_DONE
    assert report["after"] == {"latest_version": 2, "inflight": None}


@pytest.mark.parametrize("command", ["recover", "clean-staging"])
@pytest.mark.parametrize("table", ["nobody", "01946b1c-0000-7000-8000-0000000000ff"])
def test_an_unknown_table_is_bad_input(command: str, table: str, golden: COPY, cli: Cli) -> None:
    folder = golden("committed")
    before = objects(folder)
    ended = cli("table", command, *WHERE, "--store", folder.as_uri(), table)
    assert ended.code == 2
    assert (ended.error["code"], ended.error["value"]) == ("TABLE_NOT_FOUND", table)
    assert objects(folder) == before


@pytest.mark.parametrize("command", ["recover", "clean-staging"])
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (WHERE, "--store"),
        ((*WHERE, "--store", "memory://lake"), "--store"),
        ((*WHERE, "--store", "s3://bucket"), "store"),
        ((*WHERE, "--store", "file://relative"), "store"),
        (("--tenant", "Acme", "--workspace", "prod", "--store", "file:///srv"), "tenant"),
        (("--tenant", "acme", "--workspace", "../x", "--store", "file:///srv"), "workspace"),
    ],
)
def test_a_bad_store_or_scope_is_bad_input(command: str, arguments: tuple[str, ...], field: str, cli: Cli) -> None:
    ended = cli("table", command, *arguments, GOLDEN_TABLE)
    assert (ended.code, ended.error["field"]) == (2, field)


def test_a_bucket_out_of_reach_means_try_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATOR_VARIABLE, "http://127.0.0.1:1")
    ended = cli("table", "recover", *WHERE, "--store", "gs://some-bucket", GOLDEN_TABLE)
    assert (ended.code, ended.error["code"], ended.error["value"]) == (4, "UNAVAILABLE", "gs://some-bucket")
    assert "springline doctor" in ended.error["remedy"]


def test_a_damaged_coordinator_is_left_for_an_operator(golden: COPY, cli: Cli) -> None:
    folder = golden("reserved")
    inside(folder, paths.delta_coordinator(GOLDEN_TABLE)).write_text("{")
    before = objects(folder)
    ended = cli("table", "recover", *WHERE, "--store", folder.as_uri(), GOLDEN_TABLE)
    assert (ended.code, ended.error["code"]) == (3, "STORED_DAMAGED")
    assert str(paths.delta_coordinator(GOLDEN_TABLE)) in ended.error["message"]
    assert objects(folder) == before


def test_old_payloads_are_counted_and_removed_only_when_asked(golden: COPY, cli: Cli) -> None:
    folder = golden("reserved")
    named = coordinator(folder)["inflight"]["staged_path"]
    before = objects(folder)
    arguments = ("table", "clean-staging", *WHERE, "--store", folder.as_uri(), GOLDEN_TABLE)
    counted = cli(*arguments)
    report = counted.document
    assert (report["dry_run"], report["examined"], report["removed"], report["kept_named"]) == (True, 3, 2, 1)
    assert "--apply" in counted.hints[0]
    assert objects(folder) == before
    removed = cli(*arguments, "--apply")
    assert removed.document == report | {"dry_run": False}
    assert removed.hints == []
    gone = before.keys() - objects(folder).keys()
    assert len(gone) == 2
    assert ACME.full(paths.relative_path(named)) not in gone
    assert cli(*arguments).document["examined"] == 1


def test_a_young_payload_is_kept(cli: Cli, tmp_path: Path) -> None:
    async def prepare() -> str:
        store = LocalStore(tmp_path)
        entry = await create(store, flights())
        await store.aclose()
        return entry.table_id

    staged = inside(tmp_path, paths.delta_staged(asyncio.run(prepare()), str(uuid7())))
    staged.parent.mkdir(parents=True)
    staged.write_text("{}")
    report = cli("table", "clean-staging", *WHERE, "--store", tmp_path.as_uri(), "flights", "--apply").document
    assert (report["examined"], report["removed"], report["kept_young"]) == (1, 0, 1)
    assert staged.exists()
