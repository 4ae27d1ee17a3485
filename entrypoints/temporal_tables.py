"""Creating and adopting tables through CreateTableWorkflow."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.messages import TableKind, TableStart
from entrypoints.table_names import TABLE_NAME_MEMO, NameSearch
from entrypoints.updates import RPC_TIMEOUT, refusal_in
from springline import names
from springline.delta.table_request import AdoptTable, CreateTable, TableEntry
from springline.errors import Code, Refused, refused
from springline.paths import Scope
from workflows.lifecycle import table_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT

RESULT_POLL = timedelta(seconds=3)
"""How long one call waits for a run's end before the next one. The server's own 20 s are too long: one in a
thousand calls misses that a run has just ended, and returns only at its own end (server 1.29.1)."""
_SPEC_MEMO = "spec_sha256"


class TemporalTables:
    """The port `springline.api.ports.Tables`: one creation per name at a time, by workflow id.

    `deadline_s`: how long a call waits for a creation, in seconds; the workflow goes on after that.
    """

    def __init__(self, client: Client, *, deadline_s: float = 60.0) -> None:
        self._client = client
        self._search = NameSearch()
        self._deadline_s = deadline_s

    async def create(self, scope: Scope, spec: CreateTable) -> TableEntry:
        """Create a table; raises `Refused`."""
        start = TableStart(tenant=scope.tenant, workspace=scope.workspace, kind=TableKind.CREATE, create=spec)
        return await self._run(start)

    async def adopt(self, scope: Scope, spec: AdoptTable) -> TableEntry:
        """Register an existing Delta folder; raises `Refused`."""
        start = TableStart(tenant=scope.tenant, workspace=scope.workspace, kind=TableKind.ADOPT, adopt=spec)
        return await self._run(start)

    async def _run(self, start: TableStart) -> TableEntry:
        try:
            async with asyncio.timeout(self._deadline_s):
                while True:
                    entry = await self._started_or_joined(start)
                    if entry is not None:
                        return entry
        except WorkflowFailureError as error:
            raise _refusal(error, start) from error
        except (TimeoutError, RPCError, RuntimeError) as error:
            raise refused(
                Code.UNAVAILABLE,
                f"it is not known yet what became of table {start.name!r}",
                field="name",
                value=start.name,
                remedy="Send the same request again: it is safe to repeat.",
            ) from error

    async def _started_or_joined(self, start: TableStart) -> TableEntry | None:
        """Run the workflow and return its result; None after another request for the same name had its turn."""
        spec = hashlib.sha256(start.model_dump_json().encode()).hexdigest()
        workflow_id = names.create_table_workflow_id(start.tenant, start.workspace, start.name)

        async def begin(search_name: str | None) -> WorkflowHandle[Any, TableEntry]:
            return await self._client.start_workflow(
                names.CREATE_TABLE_WORKFLOW,
                start,
                id=workflow_id,
                task_queue=names.MAINTENANCE_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                result_type=TableEntry,
                memo={_SPEC_MEMO: spec, TABLE_NAME_MEMO: start.name},
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                search_attributes=table_attributes(start.tenant, start.workspace, start.name, search_name),
                static_summary=f"{start.kind.value} table {start.name}",
                rpc_timeout=RPC_TIMEOUT,
            )

        try:
            handle = await self._search.with_name(start.name, begin)
        except WorkflowAlreadyStartedError as error:
            running = self._client.get_workflow_handle(workflow_id, run_id=error.run_id, result_type=TableEntry)
            description = await running.describe()
            if await description.memo_value(_SPEC_MEMO, None, type_hint=str) == spec:
                joined: TableEntry = await running.result(rpc_timeout=RESULT_POLL)
                return joined
            await _ended(running.result(rpc_timeout=RESULT_POLL))
            return None
        entry: TableEntry = await handle.result(rpc_timeout=RESULT_POLL)
        return entry


async def _ended(result: object) -> None:
    """Wait for another request's run, and ignore its result."""
    try:
        await result  # type: ignore[misc]
    except WorkflowFailureError:
        return


def _refusal(error: WorkflowFailureError, start: TableStart) -> Refused:
    cause = error.cause
    refusal = refusal_in(cause) if isinstance(cause, ApplicationError) else None
    if refusal is not None:
        return Refused(refusal)
    kind = cause.type if isinstance(cause, ApplicationError) else None
    codes = {names.STORE_MISCONFIGURED: Code.STORE_MISCONFIGURED, names.INVARIANT_VIOLATED: Code.STORED_DAMAGED}
    return refused(
        codes.get(kind or "", Code.INTERNAL),
        f"the table could not be made: {cause.message if isinstance(cause, ApplicationError) else cause}",
        field="name",
        value=start.name,
        remedy="Run `springline doctor` to see what is wrong, then send the same request again.",
    )
