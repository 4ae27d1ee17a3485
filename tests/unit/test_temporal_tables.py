"""What waiting for a creation's run costs when the server forgets to tell that it has ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from entrypoints.temporal_tables import TemporalTables
from springline import names
from springline.delta.registry import TableEntry
from springline.delta.table_request import CreateTable
from springline.paths import Scope, default_table_root
from tests.support import virtual_time

SCOPE = Scope("acme", "prod")
TABLE = "01946b1c-0000-7000-8000-0000000000aa"
ENTRY = TableEntry(table_id=TABLE, name="flights", root=default_table_root(TABLE), created_at_ms=1, properties={})
SERVERS_LONG_POLL = timedelta(seconds=20)
BEARABLE_S = 5.0


class ForgetfulHandle:
    """A run that has ended; the call that waits for it learns that at the end of its own time only."""

    async def result(self, *, rpc_timeout: timedelta = SERVERS_LONG_POLL) -> TableEntry:
        await asyncio.sleep(min(rpc_timeout, SERVERS_LONG_POLL).total_seconds())
        return ENTRY

    async def describe(self) -> ForgetfulHandle:
        return self

    async def memo_value(self, _key: str, _default: None, *, type_hint: type) -> str:
        assert type_hint is str
        return self.memo

    memo = ""


class FakeClient:
    """A client whose creation runs already, from the same request, if `joins`."""

    def __init__(self, *, joins: bool) -> None:
        self.joins = joins
        self.handle = ForgetfulHandle()

    async def start_workflow(self, workflow: str, _start: object, *, id: str, memo: dict[str, str], **_: Any) -> Any:
        assert workflow == names.CREATE_TABLE_WORKFLOW
        self.handle.memo = memo["spec_sha256"]
        if self.joins:
            raise WorkflowAlreadyStartedError(id, workflow)
        return self.handle

    def get_workflow_handle(self, _id: str, **_: Any) -> ForgetfulHandle:
        return self.handle


@pytest.mark.parametrize("joins", [False, True], ids=["own run", "joined run"])
def test_an_end_that_nobody_tells_of_is_found_soon(joins: bool) -> None:
    async def create() -> float:
        tables = TemporalTables(cast(Client, FakeClient(joins=joins)))
        began = asyncio.get_running_loop().time()
        spec = CreateTable.model_validate({"name": "flights", "columns": [{"name": "x", "type": "long"}]})
        assert await tables.create(SCOPE, spec) == ENTRY
        return asyncio.get_running_loop().time() - began

    assert virtual_time.run(create()) < BEARABLE_S
