"""Looking at a sensor, and recording what an evaluation found.

Safe to repeat, and to be done twice at once: what follows from the same state has the same keys, and what follows from
an older one is refused. Whoever is refused reads the rows again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import uuid_utils

from springline import names
from springline.control.sensors.deciding import (
    AskedBefore,
    Concluded,
    Evaluated,
    conclude_each,
    is_of_code,
    refused_as_error,
    run_keys_of,
    summarised,
)
from springline.control.sensors.messages import (
    EvaluationAnswer,
    EvaluationOrder,
    EvaluationOutcome,
    SensorDecision,
    SensorDone,
    SensorLook,
    SensorLookOrder,
    SensorMemory,
    SensorRecordOrder,
    SensorView,
    WaitingMessage,
)
from springline.control.sensors.polling import next_evaluation, owes_summary
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refusal
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload
from springline.ledger.request import MAX_REQUEST_EVENTS, AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.sensors.reading import (
    TABLES,
    TABLES_OF_KEYS,
    UnreadableSensor,
    asked_before,
    deployed_sensor,
    further_messages,
    selector,
    sensor_view,
    view_and_messages,
)
from springline.sensors.ready_made import evaluate_ready_made
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

MOST_TOLD: Final = 20
"""Of the runs that an evaluation asks for so many are told; all are on record."""
DRY_RUN_MESSAGE: Final = "dry-run"
Note = Callable[[SensorDecision], None]


class SensorSteps:
    """The steps of sensors over one store. `store` is the whole bucket; `ledger` appends."""

    def __init__(
        self, store: ObjectStore, reader: PublishedReader, manifests: ManifestReader, ledger: RunLedger
    ) -> None:
        self._store = store
        self._reader = reader
        self._manifests = manifests
        self._ledger = ledger

    async def look(self, order: SensorLookOrder, now_ms: Callable[[], int]) -> SensorLook:
        """Say what is to be done about a sensor now; a ready-made one is evaluated at once.

        Raises `DamagedObject`, `Refused` if the ledger does not answer, and the store's errors.
        """
        scope = Scope(order.tenant, order.workspace)
        current = await self._manifests.latest(ScopedStore(self._store, scope), scope)
        if current is None:
            return SensorLook(gone="nothing is deployed")
        try:
            deployed = deployed_sensor(current.manifest, order.sensor_id)
        except UnreadableSensor as error:
            return SensorLook(gone=str(error))
        if deployed is None:
            return SensorLook(gone="it has left its file")
        snapshot = await self._reader.snapshot(scope, TABLES)
        view, messages = await asyncio.to_thread(view_and_messages, snapshot, deployed)
        if order.asked is not None:
            return await self._asked(scope, view, order, now_ms)
        due = next_evaluation(view, order.memory, order.now_ms)
        look = SensorLook(view=view, due_ms=due.due_ms, next_ms=due.due_ms, waits=due.waits)
        if due.is_due(order.now_ms):
            return await self._due(scope, look, view, order, now_ms, further_messages(messages))
        if owes_summary(view, order.memory, order.now_ms):
            found = summarised(view, order.memory, order.now_ms)
            done = await self._recorded(scope, found, view, order.memory, None, None)
            return look.model_copy(update={"done": done})
        return look

    async def record(self, order: SensorRecordOrder) -> SensorDone:
        """Record what an evaluation found, whole or not at all; of a dry run only say it.

        So too for each of the further messages that were evaluated with it: at once, and if the ledger does not take
        that, one after the other until one is not recorded as it was found. The messages behind it wait on.

        Raises `DamagedObject`, `Refused` if the ledger does not answer, and the store's errors.
        """
        scope, view = Scope(order.tenant, order.workspace), order.view
        manifest = await self._manifest(scope, view)
        select = selector(manifest)
        before = await self._asked_before(scope, run_keys_of(view, order.answer))
        made = await asyncio.to_thread(
            conclude_each, view, order.further, order.answer, order.memory, order.began_ms, select, before
        )
        if order.dry_run:
            return _done(made[0].found, order.answer, order.due_ms)
        together = [event for one in made for event in one.found.events]
        if len(made) > 1 and len(together) <= MAX_REQUEST_EVENTS and await self._append(scope, together) is None:
            return _last_of([_done(one.found, one.answer, _due_ms(one, order), recorded=True) for one in made])
        done: list[SensorDone] = []
        for one in made:
            done.append(
                await self._recorded(scope, one.found, one.view, one.memory, one.answer, _due_ms(one, order), manifest)
            )
            if not done[-1].decision.recorded or done[-1].decision.outcome is not one.found.decision.outcome:
                break
        return _last_of(done)

    async def _asked(
        self, scope: Scope, view: SensorView, order: SensorLookOrder, now_ms: Callable[[], int]
    ) -> SensorLook:
        """Return what somebody wants to have evaluated now."""
        asked = order.asked
        assert asked is not None
        if asked.dry_run:
            change: dict[str, object] = {}
            if asked.cursor is not None:
                change["cursor"] = asked.cursor
            if asked.has_payload:
                change["message"] = WaitingMessage(
                    message_id=DRY_RUN_MESSAGE, payload=asked.payload, received_ms=order.now_ms
                )
            view = view.model_copy(update=change)
        elif view.held or view.paused:
            return SensorLook(view=view, waits=next_evaluation(view, order.memory, order.now_ms).waits)
        if view.kind == "push" and view.message is None:
            return SensorLook(view=view, waits="no message waits")
        return await self._due(scope, SensorLook(view=view), view, order, now_ms)

    async def _due(
        self,
        scope: Scope,
        look: SensorLook,
        view: SensorView,
        order: SensorLookOrder,
        now_ms: Callable[[], int],
        further: Sequence[WaitingMessage] = (),
    ) -> SensorLook:
        if is_of_code(view):
            return look.model_copy(
                update={
                    "due": True,
                    "order": _order(scope, view, further),
                    "task_queue": names.sensor_queue(scope.tenant, scope.workspace, view.location),
                }
            )
        began_ms = now_ms()
        answer = await evaluate_ready_made(self._store, self._reader, scope, view)
        recorded = SensorRecordOrder(
            tenant=scope.tenant,
            workspace=scope.workspace,
            view=view,
            answer=answer,
            began_ms=began_ms,
            now_ms=now_ms(),
            due_ms=look.due_ms,
            memory=order.memory,
            dry_run=order.asked is not None and order.asked.dry_run,
        )
        return look.model_copy(update={"due": True, "done": await self.record(recorded)})

    async def _asked_before(self, scope: Scope, run_keys: Sequence[str]) -> AskedBefore:
        if not run_keys:
            return {}
        # The rows are at least as new as the view: on newer ones that matter, the evaluation is refused.
        snapshot = await self._reader.snapshot(scope, TABLES_OF_KEYS)
        return await asyncio.to_thread(asked_before, snapshot, run_keys)

    async def _manifest(self, scope: Scope, view: SensorView) -> DeployedManifest:
        return (await self._manifests.needed(ScopedStore(self._store, scope), scope, view.manifest_id)).manifest

    async def _recorded(
        self,
        scope: Scope,
        found: Concluded,
        view: SensorView,
        memory: SensorMemory,
        answer: EvaluationAnswer | None,
        due_ms: int | None,
        manifest: DeployedManifest | None = None,
    ) -> SensorDone:
        if not found.events:
            return _done(found, answer, due_ms)
        refusal = await self._append(scope, found.events)
        if refusal is None:
            return _done(found, answer, due_ms, recorded=True)
        if await self._has_changed(scope, view):
            return _changed(view, memory, found.decision.at_ms, refusal.message)
        if found.decision.outcome is EvaluationOutcome.ERROR or manifest is None:
            # What is wrong with the record of an error cannot be recorded either: it is told, and tried later.
            return _changed(view, found.memory, found.decision.at_ms, refusal.message)
        error = refused_as_error(view, refusal.message, memory, found.decision.at_ms, selector(manifest))
        if await self._append(scope, error.events) is None:
            return _done(error, None, due_ms, recorded=True)
        return _changed(view, error.memory, found.decision.at_ms, refusal.message)

    async def _has_changed(self, scope: Scope, view: SensorView) -> bool:
        """Say whether the rows are others than those that a view was made of."""
        current = await self._manifests.latest(ScopedStore(self._store, scope), scope)
        try:
            deployed = None if current is None else deployed_sensor(current.manifest, view.sensor_id)
        except UnreadableSensor:
            return True
        if deployed is None:
            return True
        now = await asyncio.to_thread(sensor_view, await self._reader.snapshot(scope, TABLES), deployed)
        return (now.state_version, now.change_id, now.held, now.paused) != (
            view.state_version,
            view.change_id,
            False,
            False,
        )

    async def _append(self, scope: Scope, events: Sequence[Payload]) -> Refusal | None:
        request = AppendRequest(
            request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
        )
        refusal = (await self._ledger.append(scope, request)).refusal
        if refusal is not None and refusal.code not in (Code.EVENT_CONFLICT, Code.KEY_REUSED, Code.INVALID_REQUEST):
            return refusal.model_copy(update={"message": f"{refusal.code}: {refusal.message}"})
        return refusal


def _due_ms(one: Evaluated, order: SensorRecordOrder) -> int | None:
    """Return since when an evaluation was due: of a further message, since it came."""
    message = one.view.message
    return order.due_ms if one.view is order.view or message is None else message.received_ms


def _last_of(done: Sequence[SensorDone]) -> SensorDone:
    return done[-1].model_copy(update={"earlier": [one.decision for one in done[:-1]]})


def _order(scope: Scope, view: SensorView, further: Sequence[WaitingMessage]) -> EvaluationOrder:
    return EvaluationOrder(
        tenant=scope.tenant,
        workspace=scope.workspace,
        location=view.location,
        sensor_id=view.sensor_id,
        manifest_id=view.manifest_id,
        cursor=view.cursor,
        evaluated_ms=view.evaluated_ms,
        message=view.message,
        timeout_ms=view.timeout_ms,
        further=list(further),
    )


def _done(
    found: Concluded, answer: EvaluationAnswer | None, due_ms: int | None, *, recorded: bool = False
) -> SensorDone:
    decision = found.decision
    late = None if due_ms is None else max(0, decision.at_ms - due_ms)
    told = decision.model_copy(update={"recorded": recorded, "late_ms": late, "runs": decision.runs[:MOST_TOLD]})
    return SensorDone(decision=told, memory=found.memory, behind=None if answer is None else answer.behind)


def _changed(view: SensorView, memory: SensorMemory, at_ms: int, message: str) -> SensorDone:
    decision = SensorDecision(
        at_ms=at_ms, outcome=EvaluationOutcome.CHANGED, message=message, cursor_before=view.cursor
    )
    return SensorDone(decision=decision, memory=memory.model_copy(update={"last_ms": at_ms}))
