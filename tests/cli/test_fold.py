"""`springline state fold`: golden ledgers from a local store, and everything that can be wrong with one."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest

from springline.paths import ObjectPath
from tests.cli.conftest import Cli
from tests.support.golden_ledgers import NAMES, SCOPE, ledger, unpacked

WHERE = ("--tenant", "acme", "--workspace", "prod")


class Place:
    """A local store with a ledger in it, and a file of its paths."""

    def __init__(self, folder: Path, name: str) -> None:
        self.given = ledger(name)
        self.root = folder / "store"
        self.manifest = folder / "paths.json"
        self.out = folder / "state.json.gz"
        for path, body in self.given.bodies.items():
            self.file(path).parent.mkdir(parents=True, exist_ok=True)
            self.file(path).write_bytes(body)
        self.list(self.given.paths)

    def file(self, path: str) -> Path:
        return self.root / SCOPE.full(ObjectPath(path))

    def list(self, paths: list[str]) -> None:
        self.manifest.write_text(json.dumps({"event_paths": paths}))

    def arguments(self, *more: str) -> tuple[str, ...]:
        where = (*WHERE, "--store", self.root.as_uri(), "--manifest", str(self.manifest), "--out", str(self.out))
        return ("state", "fold", *where, *more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "shuffled-duplicates")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [[], ["--batch", "25"], ["--batch", "25", "--order", "random:7"]], ids=" ".join)
def test_golden_ledgers_give_the_golden_tables(tmp_path: Path, name: str, options: list[str], cli: Cli) -> None:
    place = Place(tmp_path, name)
    report = cli(*place.arguments(*options)).document
    state = unpacked(place.out)
    assert state["tables"] == place.given.state["tables"]
    assert state["tables_sha256"] == place.given.state["tables_sha256"]
    assert report["events"] == len(place.given.bodies)
    assert report["out"] == str(place.out)
    assert report["batches"] == (1 if not options else -(-len(place.given.paths) // 25))
    golden = tmp_path / "golden.json.gz"
    golden.write_bytes(gzip.compress(json.dumps(place.given.state).encode()))
    assert cli("state", "diff", str(place.out), str(golden)).document["equal"] is True


def test_the_digest_does_not_depend_on_the_way(place: Place, cli: Cli) -> None:
    digests = {
        cli(*place.arguments("--field", "digest", *options)).stdout
        for options in ([], ["--order", "id"], ["--batch", "100"], ["--batch", "50", "--order", "random:-3"])
    }
    assert len(digests) == 1


def test_a_plain_file_is_written_without_gz(place: Place, cli: Cli) -> None:
    place.out = place.out.with_name("state.json")
    cli(*place.arguments())
    assert json.loads(place.out.read_bytes())["tables"] == place.given.state["tables"]


def test_nothing_is_written_to_the_store(place: Place, cli: Cli) -> None:
    def objects() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in place.root.rglob("*")}

    before = objects()
    cli(*place.arguments())
    assert objects() == before


@pytest.mark.parametrize(("harm", "found"), [("gone", "missing"), ("not json", "damaged"), ("truncated", "damaged")])
def test_an_event_that_cannot_be_folded_is_named_and_no_state_is_written(
    place: Place, harm: str, found: str, cli: Cli
) -> None:
    path = place.given.paths[7]
    if harm == "gone":
        place.file(path).unlink()
    else:
        place.file(path).write_bytes(b"nonsense" if harm == "not json" else place.given.bodies[path][:-3])
    ended = cli(*place.arguments())
    assert ended.code == 3
    report = json.loads(ended.stdout)
    assert [one["path"] for one in report[found]] == [path]
    assert report[found][0]["message"]
    assert report["out"] is None
    assert report["events"] == len(place.given.bodies) - 1
    assert not place.out.exists()
    assert any("--allow-missing" in hint for hint in ended.hints)
    allowed = cli(*place.arguments("--allow-missing"))
    assert allowed.code == 3
    assert json.loads(allowed.stdout)["digest"] == report["digest"]
    assert unpacked(place.out)["tables"] != place.given.state["tables"]


def test_what_is_not_of_the_workspace_is_refused_and_does_not_count_against_the_state(place: Place, cli: Cli) -> None:
    path = place.given.paths[0]
    wrong = path.replace("2025-01-15", "2025-01-16")
    place.file(wrong).parent.mkdir()
    place.file(wrong).write_bytes(place.given.bodies[path])
    place.list([*place.given.paths, wrong, "somewhere/else.json"])
    ended = cli(*place.arguments())
    refused = {one["path"]: one["reason"] for one in ended.document["refused"]}
    assert refused == {wrong: "wrong_path", "somewhere/else.json": "not_a_ledger_path"}
    assert unpacked(place.out)["tables"] == place.given.state["tables"]


def test_secret_and_retention_are_part_of_the_fold(place: Place, cli: Cli) -> None:
    def digest(*options: str) -> str:
        return cli(*place.arguments("--field", "digest", *options)).stdout

    plain = digest()
    secret = base64.b64encode(b"test-secret").decode()
    assert digest("--run-id-secret", secret) != plain
    assert digest("--run-id-secret", "") == plain
    assert digest("--retention-days", "90") == plain, "nothing of this ledger is old"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--order", "sideways"], "--order"),
        (["--run-id-secret", "not base64!"], "--run-id-secret"),
        (["--manifest", "/nowhere/paths.json"], "--manifest"),
        (["--out", "/nowhere/state.json"], "--out"),
        (["--out", "/"], "--out"),
        (["--store", "memory://x"], "--store"),
        (["--store", "nonsense"], "store"),
        (["--tenant", "A B"], "tenant"),
        (["--batch", "0"], "--batch"),
        (["--retention-days", "-1"], "--retention-days"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(place: Place, options: list[str], field: str, cli: Cli) -> None:
    ended = cli(*place.arguments(*options))
    assert (ended.code, ended.error["field"]) == (2, field)
    assert not place.out.exists()


def test_an_empty_list_is_no_manifest(place: Place, cli: Cli) -> None:
    place.list([])
    assert cli(*place.arguments()).error["field"] == "--manifest"


def test_the_report_tells_rates_memory_and_digests(place: Place, cli: Cli) -> None:
    report = cli(*place.arguments("--batch", "100")).document
    assert {"events_per_second", "orjson_events_per_second", "peak_memory_bytes", "digest", "tables"} <= set(report)
    assert report["refolds"] > 0
    assert report["folds"] > report["events"]
    assert report["repeated"] == len(place.given.paths) - len(place.given.bodies)
