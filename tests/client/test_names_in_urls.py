"""Names that callers give and URLs carry: one that no URL can carry is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from springline.client import Springline
from springline.client.backfills import BackfillsOfWorkspace
from springline.client.http import ApiClient
from springline.client.ledger import LedgerState
from springline.client.runs import RunsOfWorkspace
from springline.client.schedules import SchedulesOfWorkspace
from springline.client.sensors import SensorsOfWorkspace
from springline.errors import Code, Refused
from springline.sdk import Context, MaterializeFailed, asset, materialize

Call = Callable[[ApiClient, Any], Any]

CALLS: list[tuple[str, Call]] = [
    ("run_id", lambda api, name: RunsOfWorkspace(api).get(name)),
    ("run_id", lambda api, name: list(RunsOfWorkspace(api).logs(name, "a"))),
    ("run_id", lambda api, name: RunsOfWorkspace(api).wait(name)),
    ("run_id", lambda api, name: RunsOfWorkspace(api).cancel(name)),
    ("run_id", lambda api, name: RunsOfWorkspace(api).rerun(name)),
    ("run_id", lambda api, name: LedgerState(api).run(name)),
    ("run_id", lambda api, name: list(LedgerState(api).attempts(name))),
    ("asset", lambda api, name: list(LedgerState(api).asset_partitions(name))),
    ("subject", lambda api, name: LedgerState(api).explain(name, "x")),
    ("identity", lambda api, name: LedgerState(api).explain("run", name)),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).get(name)),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).define(name, "a", cron="@daily")),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).pause(name)),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).resume(name)),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).trigger(name)),
    ("schedule_id", lambda api, name: SchedulesOfWorkspace(api).preview(name)),
    ("schedule_id", lambda api, name: list(SchedulesOfWorkspace(api).ticks(name))),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).get(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).push(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).evaluate(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).dry_run(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).pause(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).resume(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).reset(name)),
    ("sensor_id", lambda api, name: SensorsOfWorkspace(api).set_cursor(name, "c")),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).get(name)),
    ("backfill_id", lambda api, name: list(BackfillsOfWorkspace(api).chunks(name))),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).wait(name)),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).pause(name)),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).resume(name)),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).cancel(name)),
    ("backfill_id", lambda api, name: BackfillsOfWorkspace(api).retry_failed(name)),
    ("backfill_id", lambda api, name: LedgerState(api).backfill(name)),
]
TABLE_NAMES = ["a/b", "a?b", "a#b", "a%2Fb", "a b", "", ".", "..", ".a", "adopt", "a" * 201, "é", "a\n", None, 7]


def api(sent: list[str], answer: int = 404) -> ApiClient:
    def answered(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.raw_path.decode())
        return httpx.Response(answer, json={"code": "NOT_FOUND", "message": "none", "status": 404})

    return ApiClient("http://lake", "token", transport=httpx.MockTransport(answered))


@pytest.mark.parametrize(("field", "call"), CALLS)
def test_an_id_that_no_url_can_carry_is_refused_with_its_field(field: str, call: Call) -> None:
    sent: list[str] = []
    for bad, shown in [(one, one) for one in ("", ".", "..", "...", None, 7)] + [("\ud800", "\\ud800")]:
        with pytest.raises(Refused) as caught:
            call(api(sent), bad)
        said = caught.value.refusal
        assert (said.code, said.field, said.value) == (Code.INVALID_REQUEST, field, shown)
        assert said.remedy
    assert sent == []


def test_any_other_id_is_one_segment() -> None:
    sent: list[str] = []
    for odd in ("a/b", "a?b", "a#b", "a%2Fb", "..x", "é"):
        with pytest.raises(Refused):
            RunsOfWorkspace(api(sent)).cancel(odd)
    below = ["a%2Fb", "a%3Fb", "a%23b", "a%252Fb", "..x", "%C3%A9"]
    assert sent == [f"/api/v1/runs/{one}/cancel" for one in below]


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_table_name_is_judged_when_it_is_given(name: Any, tmp_path: Path) -> None:
    with Springline("http://127.0.0.1:9", "token") as lake, pytest.raises(Refused) as caught:
        lake.table(name)
    said = caught.value.refusal
    assert (said.code, said.field, said.value) == (Code.INVALID_REQUEST, "table", name)
    assert repr(name)[:100] in said.message
    assert said.remedy

    @asset
    def raw(context: Context) -> None:
        context.table(name)

    with pytest.raises(MaterializeFailed, match="Refused: table: "):
        materialize([raw], tables=tmp_path)


@pytest.mark.parametrize("name", ["a", "a.b-C_1", "01890a5d-ac96-774b-bcce-b302099a8057"])
def test_names_and_ids_of_tables(name: str) -> None:
    with Springline("http://127.0.0.1:9", "token") as lake:
        assert lake.table(name).name == name
