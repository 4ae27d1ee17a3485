"""`springline ledger restore`: from the store alone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from springline.paths import ObjectPath
from tests.cli.conftest import Cli
from tests.support.ledger_workspaces import appended, listed
from tests.support.sequencer_world import SCOPE

WHERE = ("--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace)


@pytest.fixture
def lake(tmp_path: Path) -> tuple[Path, list[ObjectPath]]:
    """Return the folder of a workspace in a local store, and the paths of its events."""

    async def fill() -> list[ObjectPath]:
        memory, _ = await appended(["r"])
        for path, stored in memory.objects.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(stored.data)
        return (await listed(memory))["event_paths"]

    return tmp_path, asyncio.run(fill())


def test_what_a_rebuild_names_can_be_handed_on(lake: tuple[Path, list[ObjectPath]], tmp_path: Path, cli: Cli) -> None:
    root, paths = lake
    gone, altered = root / SCOPE.full(paths[0]), root / SCOPE.full(paths[1])
    body = gone.read_bytes()
    gone.unlink()
    altered.write_bytes(b"{}")
    named = tmp_path / "named.json"
    named.write_text(json.dumps([{"path": path, "reason": "missing"} for path in paths[:2]]))
    ended = cli("ledger", "restore", *WHERE, "--store", root.as_uri(), "--paths", str(named))
    assert ended.code == 3
    assert json.loads(ended.stdout)["counts"] == {"altered": 1, "restored": 1}
    assert gone.read_bytes() == body
    again = cli("ledger", "restore", *WHERE, "--store", root.as_uri(), "--replace", *paths[:2])
    assert again.code == 0
    assert again.document["counts"] == {"replaced": 1, "whole": 1}
    assert [one["path"] for one in again.document["events"]] == paths[:2]


def test_nothing_to_restore_is_bad_input(lake: tuple[Path, list[ObjectPath]], tmp_path: Path, cli: Cli) -> None:
    root, _ = lake
    (tmp_path / "odd.json").write_text("[1]")
    for options in ([], ["--paths", str(tmp_path / "odd.json")]):
        assert cli("ledger", "restore", *WHERE, "--store", root.as_uri(), *options).code == 2


def test_a_list_of_none_is_done_and_no_list_is_not(
    lake: tuple[Path, list[ObjectPath]], tmp_path: Path, cli: Cli
) -> None:
    root, _ = lake
    listed = tmp_path / "damaged.json"
    for text in ("[]", '{"event_paths": []}'):
        listed.write_text(text)
        found = cli("ledger", "restore", *WHERE, "--store", root.as_uri(), "--paths", str(listed)).document
        assert found == {"counts": {}, "events": []}
    listed.write_text("\n")
    error = cli("ledger", "restore", *WHERE, "--store", root.as_uri(), "--paths", str(listed)).error
    assert "no path is given" in error["message"]
