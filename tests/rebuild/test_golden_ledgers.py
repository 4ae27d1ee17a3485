"""Every golden ledger comes to the reference's in-order state, whatever the order and the batches it comes in."""

from __future__ import annotations

import json

import pytest

from springline.projection.config import FoldConfig
from springline.published.golden_state import decode_golden, differences, encode_golden
from springline.rebuild.offline import fold_offline, ordered
from tests.support.golden_ledgers import NAMES, SCOPE, ledger

CONFIG = FoldConfig(SCOPE.tenant, SCOPE.workspace)


@pytest.mark.parametrize(
    "batch", [None, 7, *(pytest.param(size, marks=pytest.mark.proof) for size in (1, 25, 100, 10_000))]
)
@pytest.mark.parametrize(
    "order", ["listed", "random:1", *(pytest.param(order, marks=pytest.mark.proof) for order in ("id", "random:2"))]
)
@pytest.mark.parametrize("name", NAMES)
async def test_any_order_in_any_batches_is_the_in_order_state(name: str, order: str, batch: int | None) -> None:
    given = ledger(name)
    folded = await fold_offline(given.store(), CONFIG, ordered(given.paths, order), batch=batch)
    state = decode_golden(encode_golden(folded.golden(), compressed=True))
    assert not list(differences(state["tables"], given.state["tables"]))
    for field in ("tables", "tables_sha256", "table_sha256", "row_counts", "format"):
        assert state[field] == given.state[field], field
    if given.state["watermarks"] is not None:
        assert state["watermarks"] == given.state["watermarks"]
    tally = folded.growing.tally
    assert len(folded.growing.bodies) == len(given.bodies)
    assert tally.repeated == len(given.paths) - len(given.bodies)
    assert sum(folded.growing.outcomes().values()) == len(given.bodies)
    assert not tally.rejected
    size = batch or len(given.paths)
    assert tally.batches == -(-len(given.paths) // size)
    if order == "id":
        assert tally.late == tally.refolds == tally.refolded == 0
    elif batch == 7 and order.startswith("random"):
        assert tally.refolds > 40


async def test_what_comes_nearly_in_order_is_not_folded_again_from_the_first_event() -> None:
    given = ledger("disordered")
    folded = await fold_offline(given.store(), CONFIG, given.paths, batch=7)
    tally = folded.growing.tally
    assert tally.refolds > 50
    assert tally.refolded < 8 * len(given.bodies)


async def test_the_file_is_the_same_whatever_led_to_it() -> None:
    given = ledger("shuffled-duplicates")
    one = await fold_offline(given.store(), CONFIG, given.paths)
    other = await fold_offline(given.store(), CONFIG, ordered(given.paths, "random:3"), batch=50)
    for compressed in (True, False):
        data = encode_golden(one.golden(), compressed=compressed)
        assert data == encode_golden(other.golden(), compressed=compressed)
        assert decode_golden(data) == json.loads(encode_golden(one.golden(), compressed=False))


async def test_the_report_counts_and_measures() -> None:
    given = ledger("plain")
    folded = await fold_offline(given.store(), CONFIG, given.paths, batch=100)
    report = folded.report()
    assert report["events"] == report["paths"] == 455
    assert sum(report["outcomes"].values()) == 455
    assert report["outcomes"]["unknown"] == 1
    assert report["batches"] == 5
    assert report["folds"] == 455
    assert report["missing"] == report["damaged"] == report["refused"] == []
    assert report["events_per_second"] > 0
    assert report["orjson_events_per_second"] > report["events_per_second"]
    assert report["input_bytes"] == sum(map(len, given.bodies.values()))
    assert report["watermark"] == given.state["watermarks"]["last_visible_event_id"]
    assert len(report["digest"]) == 32
    rows = {name: table["rows"] for name, table in report["tables"].items() if not name.startswith("x_")}
    assert rows == given.state["row_counts"]
    assert report["tables"]["x_attempts"]["rows"]
