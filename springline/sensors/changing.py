"""What operators and callers do to a sensor: pause, resume, reset, set its cursor, push a message to it.

All of it is events, so that it is answered when it is in the ledger, and safe to repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from springline import bounds
from springline.definitions.cursors import problem_of_cursor
from springline.definitions.ids import meant
from springline.definitions.manifest import sensor_ids
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.envelope import as_event, parse_event
from springline.ledger.events import Payload, SensorChanged, SensorMessage
from springline.ledger.json_text import canonical_json
from springline.ledger.nested import SensorChange
from springline.ledger.request import AppendedEvent, AppendRequest, EventOutcome, NewEvent
from springline.paths import Scope, canonical_ulid_event
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.sensors.reading import (
    TABLES,
    DeployedSensor,
    UnreadableSensor,
    deployed_sensor,
    own_sensor_row,
)
from springline.storage.port import ObjectStore

MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""A pushed message as canonical JSON: it is part of an event."""


@dataclass(frozen=True, slots=True)
class PushedOutcome:
    """A message that is in the ledger. `replayed`: it was before."""

    event_id: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Sensors:
    """The sensors of one workspace, whose part of the store is `store`.

    All methods raise `Refused`, also if the ledger does not answer (UNAVAILABLE), `DamagedObject`, and the store's
    errors.
    """

    store: ObjectStore
    reader: PublishedReader
    manifests: ManifestReader
    ledger: RunLedger
    scope: Scope

    async def deployed(self, sensor_id: str) -> DeployedSensor:
        """Return a sensor that is deployed; raises `Refused` (NOT_FOUND) for another."""
        current = await self.manifests.latest(self.store, self.scope)
        try:
            found = None if current is None else deployed_sensor(current.manifest, sensor_id)
        except UnreadableSensor as error:
            raise refused(
                Code.DEFINITION_CONFLICT,
                str(error),
                field="sensor_id",
                value=sensor_id,
                remedy="Use the build that has deployed it, or deploy it again.",
            ) from error
        if found is None:
            near = meant(sensor_id, sensor_ids(None if current is None else current.manifest))
            raise refused(
                Code.NOT_FOUND,
                f"no sensor {bounds.on_one_line(sensor_id)!r} is deployed in this workspace",
                field="sensor_id",
                value=sensor_id,
                remedy=f"{near}`springline sensor list` shows them; one that left its file is there no more.",
            )
        return found

    async def change(self, sensor_id: str, change: SensorChange, changed_by: str, cursor: str | None = None) -> bool:
        """Change a sensor; False if it is so already. `cursor` is for `cursor_set` alone."""
        await self.deployed(sensor_id)
        if cursor is not None:
            check_cursor(cursor)
        if change in ("paused", "resumed") and await self._is_paused(sensor_id) == (change == "paused"):
            return False
        event = SensorChanged(sensor_id, str(uuid_utils.uuid7()), change, changed_by, cursor)
        try:
            await self._append([event])
        except Refused as error:
            # Somebody else has done it a moment before.
            if error.refusal.code is not Code.EVENT_CONFLICT or change not in ("paused", "resumed"):
                raise
            if await self._is_paused(sensor_id) != (change == "paused"):
                raise
            return False
        return True

    async def push(self, sensor_id: str, message_id: str, payload: Any) -> PushedOutcome:
        """Let a message wait for its evaluation; the same one again is answered as the first was.

        Raises `Refused`: KEY_REUSED for a message id that stands for another payload, EVENT_CONFLICT for a sensor that
        takes no messages.
        """
        check_payload(payload)
        found = await self.deployed(sensor_id)
        if found.defined.kind != "push":
            raise refused(
                Code.EVENT_CONFLICT,
                f"sensor {sensor_id} is of the kind {found.defined.kind}, and takes no messages",
                field="sensor_id",
                value=sensor_id,
                remedy="Declare it with @sensor(push=True), or push to another one.",
            )
        try:
            kept = await self._append([SensorMessage(sensor_id, message_id, payload)])
        except Refused as error:
            field = (error.refusal.field or "").removeprefix("events[0].data.") or None
            raise Refused(error.refusal.model_copy(update={"field": field})) from error
        if kept.replayed and not await self._says(kept.event_id, payload):
            raise refused(
                Code.KEY_REUSED,
                f"the message id {bounds.shown(message_id, 120)!r} stands for a message with another payload",
                field="message_id",
                value=message_id,
                remedy="Give each message an id of its own.",
            )
        return kept

    async def _says(self, event_id: str, payload: Any) -> bool:
        """Say whether the message of an event has this payload; one whose event is gone counts as the same."""
        stored = await self.store.get(canonical_ulid_event(event_id))
        data = None if stored is None else parse_event(stored.data).data
        return not isinstance(data, SensorMessage) or canonical_json(data.payload) == canonical_json(payload)

    async def _is_paused(self, sensor_id: str) -> bool:
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        row = await asyncio.to_thread(own_sensor_row, snapshot, sensor_id)
        return row is not None and row.paused

    async def _append(self, events: Sequence[Payload]) -> PushedOutcome:
        request = AppendRequest(
            request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
        )
        outcome = await self.ledger.append(self.scope, request)
        if outcome.refusal is not None:
            raise Refused(outcome.refusal)
        first: AppendedEvent = outcome.events[0]
        return PushedOutcome(first.event_id, first.outcome is EventOutcome.DUPLICATE)


def check_cursor(cursor: str) -> None:
    """Raise `Refused` for what cannot be a sensor's cursor."""
    problem = problem_of_cursor(cursor)
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"the cursor {problem.message}",
            field="cursor",
            value=bounds.shown(cursor, 120),
            remedy=problem.remedy,
        )


def check_payload(payload: Any) -> None:
    """Raise `Refused` for a message that cannot be part of an event, or is too large for one."""
    try:
        size = len(canonical_json(payload))
    except ValueError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"the payload cannot be part of an event: {error}",
            field="payload",
            value=None,
            remedy="Write numbers with fractions, and beyond 64 bits, as texts.",
        ) from error
    if size > MAX_PAYLOAD_BYTES:
        raise refused(
            Code.PAYLOAD_TOO_LARGE,
            f"the payload has {size:,} bytes, and {MAX_PAYLOAD_BYTES:,} is the most",
            field="payload",
            value=size,
            remedy="Store it as an object, and push its name.",
        )
