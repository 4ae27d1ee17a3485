"""Tasks of a pipeline in the manifest: composed beside assets, refused clearly, unknown to manifests before them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from springline.definitions.backfills import BadChoice, backfilled_assets
from springline.definitions.composing import Changes, CurrentManifest, compose, named_manifest
from springline.definitions.manifest import CodeLocation, DeployedManifest, DeployedTask, read_model
from springline.definitions.selection import select_nodes, with_tasks
from springline.errors import Code, Refused
from springline.ledger.json_text import canonical_json
from tests.support.definitions import asset, part

IDS = [f"01JHMP8000000000000000000{one}" for one in "ABCDEFGH"]
DAYS = {"kind": "daily", "start": "2024-01-01"}
FLIGHTS = part(
    "flights",
    asset("raw", "prepare"),
    asset("delays", "scaled"),
    tasks=[asset("scaled", "raw"), asset("prepare"), asset("tell", "delays")],
)


def after(current: CurrentManifest | None, *parts: CodeLocation) -> CurrentManifest:
    """Return the manifest after these deploys, as it is read back."""
    for number, one in enumerate(parts):
        plain = orjson.loads(canonical_json(named_manifest(compose(current, one), one, IDS[number], number)))
        current = CurrentManifest(read_model(DeployedManifest, orjson.dumps(plain)), plain)
    assert current is not None
    return current


def refusal(current: CurrentManifest | None, wanted: CodeLocation) -> Any:
    with pytest.raises(Refused) as raised:
        compose(current, wanted)
    assert raised.value.refusal.remedy
    return raised.value.refusal


def test_tasks_stand_apart_and_are_nodes_of_one_graph() -> None:
    current = after(None, FLIGHTS)
    assert current.manifest.format == 2
    assert [one["key"] for one in current.plain["tasks"]] == ["prepare", "scaled", "tell"]
    assert [one.key for one in current.manifest.assets] == ["delays", "raw"]
    assert {key: one.asset_key for key, one in current.manifest.nodes.items()} == {
        "delays": "delays",
        "prepare": None,
        "raw": "raw",
        "scaled": None,
        "tell": None,
    }
    assert all(isinstance(one, DeployedTask) and one.location == "flights" for one in current.manifest.tasks)


def test_without_tasks_a_manifest_is_what_it_was() -> None:
    plain = part("flights", asset("raw"), asset("delays", "raw"))
    current = after(None, plain)
    assert "tasks" not in current.plain
    assert current.manifest.format == 1
    # What builds before there were tasks wrote for the same definitions.
    assert current.manifest.fingerprint == "04eaa8fa0d9c1b934236846d7e98a28d33af03c730bc66638c44de077406e8a0"
    with_one = after(current, part("mart", tasks=[asset("tell", "delays")]))
    assert with_one.manifest.format == 2
    assert with_one.manifest.fingerprint != current.manifest.fingerprint
    without = after(with_one, part("mart"))
    assert (without.manifest.format, without.manifest.fingerprint) == (1, current.manifest.fingerprint)
    assert "tasks" not in without.plain


def test_changes_of_tasks_are_told_apart() -> None:
    current = after(None, FLIGHTS)
    again = compose(current, FLIGHTS)
    assert not again.changes
    assert not again.tasks
    wanted = part("flights", asset("raw"), asset("delays", "scaled"), tasks=[asset("scaled", "raw", retries=2)])
    changed = compose(current, wanted)
    assert [one.key for one in changed.changes.changed] == ["raw"]
    assert (changed.tasks.added, changed.tasks.removed) == ([], ["prepare", "tell"])
    assert [(one.key, one.fields) for one in changed.tasks.changed] == [("scaled", {"retries": {"from": 0, "to": 2}})]
    becomes_asset = part("flights", asset("raw"), asset("delays", "scaled"), asset("scaled", "raw"))
    assert compose(current, becomes_asset).changes.added == ["scaled"]
    assert compose(current, becomes_asset).tasks == Changes([], [], ["prepare", "scaled", "tell"])


@pytest.mark.parametrize(
    ("wanted", "code", "field", "said"),
    [
        (
            part("mart", asset("x"), tasks=[asset("x")]),
            Code.INVALID_REQUEST,
            "tasks[0].key",
            "an asset and a task are both called x",
        ),
        (
            part("mart", tasks=[asset("x"), asset("x")]),
            Code.INVALID_REQUEST,
            "tasks[1].key",
            "tasks 0 and 1 are both called x",
        ),
        (
            part("mart", tasks=[asset("y"), asset("delays")]),
            Code.DEFINITION_CONFLICT,
            "tasks[1].key",
            "task delays belongs to code location flights",
        ),
        (
            part("mart", asset("tell")),
            Code.DEFINITION_CONFLICT,
            "assets[0].key",
            "asset tell belongs to code location flights",
        ),
        (
            part("mart", tasks=[asset("y", "gone")]),
            Code.INVALID_REQUEST,
            "tasks[0].dependencies",
            "task y depends on 'gone'",
        ),
        (
            part("mart", tasks=[asset("y", pool="disk")]),
            Code.INVALID_REQUEST,
            "tasks[0].pool",
            "task y names the pool 'disk'",
        ),
        (
            part("mart", asset("y", "z"), tasks=[asset("z", "y")]),
            Code.INVALID_REQUEST,
            "assets[0].dependencies",
            "asset y depends on itself, by y -> z -> y",
        ),
        (
            part("flights", asset("raw"), asset("delays")),
            Code.DEFINITION_CONFLICT,
            "assets",
            "task late of code location other would have a problem",
        ),
        (
            part("mart", asset("y"), sensors=[{"sensor_id": "s", "kind": "asset", "asset": "tell", "select": ["y"]}]),
            Code.INVALID_REQUEST,
            "sensors[0].asset",
            "which is a task and is never materialized",
        ),
    ],
)
def test_what_cannot_be_is_refused(wanted: CodeLocation, code: Code, field: str, said: str) -> None:
    current = after(None, FLIGHTS, part("other", tasks=[asset("late", "tell")]))
    found = refusal(current, wanted)
    assert (found.code, found.field) == (code, field)
    assert said in found.message


@pytest.mark.parametrize("field", [{"freshness_ms": 5}, {"checks": []}, {"url": "https://x.example.com/a"}])
def test_a_task_has_nothing_of_what_is_made(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        part("mart", tasks=[asset("x", **field)])


def test_a_code_location_of_tasks_alone_is_one() -> None:
    current = after(None, part("sweeps", tasks=[asset("sweep")]))
    assert [one.location for one in current.manifest.locations] == ["sweeps"]
    assert after(current, part("sweeps")).manifest.locations == []


def test_tasks_come_along_with_what_needs_them() -> None:
    nodes = after(None, FLIGHTS).manifest.nodes
    assert select_nodes(nodes, ["delays"]) == {"delays", "scaled"}
    assert select_nodes(nodes, ["raw"]) == {"raw", "prepare"}
    assert select_nodes(nodes, ["delays*"]) == {"delays", "scaled", "tell"}
    assert select_nodes(nodes, ["*scaled"]) == {"scaled", "raw", "prepare"}
    chained = after(None, part("m", asset("z", "c"), tasks=[asset("a"), asset("b", "a"), asset("c", "b")])).manifest
    assert with_tasks(chained.nodes, ["z"]) == {"z", "c", "b", "a"}


def test_a_backfill_leaves_tasks_without_partitions_to_the_runs() -> None:
    nodes = after(
        None,
        part(
            "m",
            asset("raw", "prepare", "cut", partitions=DAYS),
            tasks=[asset("prepare"), asset("cut", partitions=DAYS), asset("tell", "raw")],
        ),
    ).manifest.nodes
    assert backfilled_assets(nodes, ["raw"])[0] == ("cut", "raw")
    assert backfilled_assets(nodes, ["*raw"])[0] == ("cut", "raw")
    with pytest.raises(BadChoice, match="tell has no partitions"):
        backfilled_assets(nodes, ["raw*"])
    with pytest.raises(BadChoice, match="prepare has no partitions"):
        backfilled_assets(nodes, ["prepare"])
