"""Stores left by the reference system in every crash window, recovered here.

See docs/protocol.md#rule-2, docs/protocol.md#rule-5.

`golden/delta/{window}` holds such a store, the request under way, and what the reference made of it for several
callers. Ours must give the same answers and leave the same log and markers, but never "already reserved": whoever
comes completes what is there at once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from activities.messages import TableRef
from springline import paths
from springline.checked import has_checksum
from springline.commit.finish import settle
from springline.delta.request import CommitRequest, Mode, Outcome
from springline.errors import Code
from springline.storage.local import LocalStore
from springline.storage.tokens import content_token
from tests.support.checksums import without_checksum
from tests.support.commit_rounds import Rounds

GOLDEN = Path(__file__).parents[1] / "golden" / "delta"
WINDOWS = ("staged", "reserved", "logged", "marked", "committed")
HELD = ("reserved", "logged", "marked")
"""The windows whose coordinator holds the reference's reservation."""
CALLERS = ("retry", "retry-expired", "conflict", "next-live", "next-expired")
ALREADY_RESERVED = "already reserved"

SETTLE_ALL = """
import asyncio, sys
from pathlib import Path
from springline import paths
from springline.commit.finish import settle
from springline.commit.table import Table
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore

async def main(table_id, folders):
    for folder in folders:
        store = LocalStore(Path(folder), fsync=False)
        scoped = ScopedStore(store, paths.Scope("acme", "prod"))
        done = await settle(Table(scoped, table_id, paths.default_table_root(table_id)))
        print(Path(folder).name, [(one.kind.value, one.version) for one in done])
        await store.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2:]))
assert "temporalio" not in sys.modules
"""


class Crashed:
    """A copy of one window's store, and the requests of the reference's callers."""

    def __init__(self, window: str, folder: Path) -> None:
        self.window = window
        crash = json.loads((GOLDEN / window / "crash.json").read_text())
        self.scope = paths.Scope(crash["tenant"], crash["workspace"])
        self.folder = folder / window
        shutil.copytree(GOLDEN / window / "store", self.folder)
        self.store = LocalStore(self.folder, fsync=False)
        self.ref = TableRef(tenant=crash["tenant"], workspace=crash["workspace"], table_id=crash["table"])
        self.root = paths.default_table_root(crash["table"])
        self.request = CommitRequest.model_validate(crash["request"])

    def process(self) -> Rounds:
        """Return a process that knows nothing but the store."""
        return Rounds(self.store, self.ref)

    def put(self, path: str, text: str) -> str:
        """Put a file of the golden store there and return its version token as staging would."""
        file = self.folder / self.scope.prefix / path
        file.write_text(text)
        return content_token(text.encode())

    def remove(self, path: str) -> None:
        (self.folder / self.scope.prefix / path).unlink()

    def objects(self) -> dict[str, bytes]:
        """Return log files, markers and the coordinator by relative path."""
        base = self.folder / self.scope.prefix
        found = {str(file.relative_to(base)): file.read_bytes() for file in base.rglob("*") if file.is_file()}
        staging = paths.delta_staging_prefix(self.ref.table_id)
        return {path: data for path, data in found.items() if not path.startswith(staging)}


def golden_of(window: str, caller: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((GOLDEN / window / f"recover-{caller}.json").read_text())
    return golden


def other_payload(golden: dict[str, Any], crashed: Crashed) -> tuple[str, str]:
    """Return path and token of the payload that the reference's other caller staged, put where it was."""
    prefix = paths.delta_staging_prefix(crashed.ref.table_id)
    (path,) = [
        path
        for path in golden["after"]
        if path.startswith(prefix) and not (crashed.folder / crashed.scope.prefix / path).exists()
    ]
    return path, crashed.put(path, golden["after"][path])


def request_of(step: str, crashed: Crashed, golden: dict[str, Any], payload: tuple[str, str] | None) -> CommitRequest:
    """Return the request that a step of the reference's recovery made."""
    if step == "retry":
        return crashed.request
    assert payload is not None
    if step == "conflict":
        update: dict[str, Any] = {}
    else:
        latest = 2 if crashed.window == "committed" else 1
        read = latest if step == "next" else latest + 1
        update = {"idempotency_key": "01946742-8400-7000-8000-0000000003e8", "read_version": read}
    path, token = payload
    return crashed.request.model_copy(update={"staged_path": path, "staged_version": token, **update})


def check_answer(outcome: Outcome, told: dict[str, Any]) -> None:
    """Check one answer against the reference's."""
    if "ok" in told:
        assert outcome.result is not None, outcome
        assert outcome.result.model_dump() == told["ok"]
        return
    assert outcome.refusal is not None, outcome
    message = told["error"]["message"]
    expected = Code.KEY_REUSED if "Idempotency-Key" in message else Code.STALE_READ_VERSION
    assert outcome.refusal.code is expected
    if expected is Code.STALE_READ_VERSION:
        assert outcome.refusal.latest_version == 2
        assert [one.version for one in outcome.refusal.commits_since or ()] == [2]


def check_objects(crashed: Crashed, golden: dict[str, Any]) -> None:
    """Check that log, markers and coordinator are the golden ones; of a marker only its time may differ."""
    staging = paths.delta_staging_prefix(crashed.ref.table_id)
    expected = {path: text for path, text in golden["after"].items() if not path.startswith(staging)}
    found = crashed.objects()
    assert sorted(found) == sorted(expected)
    markers = {paths.delta_marker(crashed.ref.table_id, json.loads(text)["idempotency_key"]): json.loads(text)
               for path, text in expected.items() if "idempotency_key_hash" in text}  # fmt: skip
    for path, text in expected.items():
        if path not in markers:
            bare = without_checksum(found[path], path) if has_checksum(found[path]) else found[path]
            assert bare == text.encode(), path
    for path, marker in markers.items():
        ours = orjson.loads(found[path])
        del marker["committed_at_ms"]
        assert {name: ours[name] for name in marker} == marker, path


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("window", WINDOWS)
async def test_every_caller_gets_the_references_answers_and_leaves_its_objects(
    window: str, caller: str, tmp_path: Path
) -> None:
    crashed = Crashed(window, tmp_path)
    golden = golden_of(window, caller)
    refused_as_reserved = any(ALREADY_RESERVED in str(step["result"]) for step in golden["steps"])
    assert refused_as_reserved == (window == "reserved" and caller == "next-live")
    # Where the reference made the next caller wait for an expiry, ours completes at once.
    expected = golden_of(window, "next-expired") if refused_as_reserved else golden
    payload = None if caller.startswith("retry") else other_payload(expected, crashed)
    for step in expected["steps"]:
        (outcome,) = await crashed.process().commit(request_of(step["step"], crashed, expected, payload))
        check_answer(outcome, step["result"])
    check_objects(crashed, expected)
    assert await crashed.process().inflight_is_null()


@pytest.mark.parametrize("window", HELD)
async def test_a_completed_reservation_of_the_reference_leaves_exactly_its_marker(window: str, tmp_path: Path) -> None:
    crashed = Crashed(window, tmp_path)
    await crashed.process().commit(crashed.request)
    marker = orjson.loads(crashed.objects()[paths.delta_marker(crashed.ref.table_id, crashed.request.idempotency_key)])
    (golden,) = [
        json.loads(text)
        for text in golden_of(window, "retry")["after"].values()
        if f'"idempotency_key":"{crashed.request.idempotency_key}"' in text
    ]
    assert [name for name in marker if name != "checksum"] == list(golden)
    # The reservation's start, or what the reference had already written: never a clock of ours.
    assert marker["committed_at_ms"] == 1_736_899_202_000


@pytest.mark.parametrize("window", ["logged", "marked", "committed"])
async def test_a_replay_works_when_the_staged_payload_is_gone(window: str, tmp_path: Path) -> None:
    crashed = Crashed(window, tmp_path)
    crashed.remove(crashed.request.staged_path)
    for _ in range(3):
        (outcome,) = await crashed.process().commit(crashed.request)
        check_answer(outcome, golden_of(window, "retry")["steps"][0]["result"])
        assert await crashed.process().inflight_is_null()
    check_objects(crashed, golden_of(window, "retry"))


async def test_a_reservation_whose_payload_is_gone_is_abandoned_and_the_table_goes_on(tmp_path: Path) -> None:
    crashed = Crashed("reserved", tmp_path)
    golden = golden_of("reserved", "next-expired")
    other = request_of("next-again", crashed, golden, other_payload(golden, crashed))
    crashed.remove(crashed.request.staged_path)
    (outcome,) = await crashed.process().commit(other)
    assert outcome.result is not None
    assert outcome.result.version == 3
    (retried,) = await crashed.process().commit(crashed.request)
    assert retried.refusal is not None
    assert retried.refusal.code is Code.STAGED_MISSING
    fill = orjson.loads(crashed.objects()[paths.delta_log(crashed.root, 2)])
    assert list(fill) == ["commitInfo"]
    assert fill["commitInfo"]["springline"]["abandoned"]["commit_id"] == crashed.request.idempotency_key


@pytest.mark.parametrize("window", WINDOWS)
async def test_the_same_key_with_another_payload_or_mode_or_version_is_refused(window: str, tmp_path: Path) -> None:
    crashed = Crashed(window, tmp_path)
    if window != "staged":
        await settle(crashed.process().table)
    else:
        await crashed.process().commit(crashed.request)
    path, token = other_payload(golden_of(window, "conflict"), crashed)
    for update in (
        {"staged_path": path, "staged_version": token},
        {"mode": Mode.APPEND},
        {"read_version": 0},
    ):
        (outcome,) = await crashed.process().commit(crashed.request.model_copy(update=update))
        assert outcome.refusal is not None, update
        assert outcome.refusal.code is Code.KEY_REUSED, update


@pytest.mark.parametrize("window", ["reserved", "logged", "marked", "committed"])
async def test_the_same_bytes_staged_again_elsewhere_are_the_same_request(window: str, tmp_path: Path) -> None:
    crashed = Crashed(window, tmp_path)
    text = (crashed.folder / crashed.scope.prefix / crashed.request.staged_path).read_text()
    path = paths.delta_staged(crashed.ref.table_id, "01JHKM51099999999999999999")
    again = crashed.request.model_copy(update={"staged_path": path, "staged_version": crashed.put(path, text)})
    (outcome,) = await crashed.process().commit(again)
    check_answer(outcome, golden_of(window, "retry")["steps"][0]["result"])


def test_a_fresh_process_settles_every_window_from_storage_alone(tmp_path: Path) -> None:
    stores = [Crashed(window, tmp_path) for window in WINDOWS]
    run = subprocess.run(
        [sys.executable, "-c", SETTLE_ALL, stores[0].ref.table_id, *(str(one.folder) for one in stores)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
    done = "[('completed', 2)]"
    assert run.stdout.splitlines() == [
        "staged []",
        f"reserved {done}",
        f"logged {done}",
        f"marked {done}",
        "committed []",
    ]
    for crashed in stores[1:]:
        check_objects(crashed, golden_of(crashed.window, "retry"))
