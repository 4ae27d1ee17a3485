"""The report over HTTP: one page for the workspace of the token, for the time asked for, and not without scope."""

from __future__ import annotations

import pytest

from springline.api.tokens import WRITE
from springline.report.page import POLICY
from tests.api.conftest import World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.api.test_staleness import made
from tests.support.definitions import asset
from tests.support.local_api import RIVAL


async def test_a_page_of_what_happened(world: World) -> None:
    await deployed(world, location("flights", asset("raw"), asset("report", "raw")))
    run = await made(world, "raw", None)
    answer = await world.client.get("/report")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Springline-Revision"] in answer.text
    assert run in answer.text
    assert "1 run was under way in this time: 1 succeeded." in answer.text
    assert "1 never made" in answer.text
    before = await world.client.get("/report", params={"until": "2025-01-02T00:00:00Z", "hours": "12"})
    assert "2025-01-01 12:00:00 to 2025-01-02 00:00:00 UTC (12 h)" in before.text
    assert run not in before.text


async def test_an_empty_workspace_has_a_page(world: World) -> None:
    answer = await world.client.get("/report")
    assert answer.status_code == 200
    assert "No run was under way in this time." in answer.text


async def test_a_report_is_of_the_workspace_of_the_token(world: World) -> None:
    await deployed(world, location("flights", asset("raw_flights")))
    run = await made(world, "raw_flights", None)
    answer = await world.client.get("/report", headers=world.bearer(RIVAL))
    assert answer.status_code == 200
    assert "rival/prod" in answer.text
    assert run not in answer.text
    assert "raw_flights" not in answer.text


async def test_a_report_needs_a_token_that_may_read(world: World) -> None:
    nobody = await world.client.get("/report", headers={"Authorization": ""})
    assert nobody.status_code == 401
    answer = await world.client.get("/report", headers=world.bearer(scopes=[WRITE]))
    assert_refused(answer, 403, "FORBIDDEN", "scope")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z", "since"),
        ("since=0001-01-01T00:00:00Z", "since"),
        ("since=2020-01-01T00:00:00Z&until=2025-01-01T00:00:00Z", "since"),
        ("since=yesterday", "since"),
        ("until=9999-12-31T23:59:59Z", "since"),
        ("hours=0", "hours"),
        ("hours=1.5", "hours"),
    ],
)
async def test_a_time_that_cannot_be_shown_is_refused(world: World, query: str, field: str) -> None:
    assert_refused(await world.client.get(f"/report?{query}"), 400, "INVALID_REQUEST", field)
