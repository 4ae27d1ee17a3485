"""Reading where a sensor stands: its definition in the latest manifest, and its rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from springline.control.admission.automation import sensor_cursor
from springline.control.sensors.messages import SensorView, WaitingMessage
from springline.definitions.manifest import DefinedSensor, DeployedManifest
from springline.definitions.selection import select_nodes
from springline.projection.rows import (
    ConflictRow,
    EvaluationRow,
    FirstRequestRow,
    MessageRow,
    OwnSensorRow,
    SensorRow,
)
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import hold_row, is_held
from springline.ulids import ulid_time_ms

TABLES: Final = ("sensor_state", "sensor_evals", "x_sensors", "x_messages", "x_holds")
"""What reading needs of the published state."""
TABLES_OF_KEYS: Final = ("x_run_keys", "run_key_conflicts")
"""What reading what was asked for under run keys needs of it."""
MOST_MESSAGES: Final = 1_000
"""Of a longer backlog the oldest is looked for among the first so many, by id: each look costs the same."""
MOST_CONFLICTS: Final = 1_000
"""Of the conflicts of one run key so many are looked at; one that is not is told once more."""
MOST_TOGETHER: Final = 20
"""Messages that one order has evaluated, one after the other: a step of a workflow costs more than most functions."""
_MOST_PAYLOADS: Final = 64 * 1024
"""Characters of JSON of the further ones among them: an order lies in Temporal."""


@dataclass(frozen=True, slots=True)
class DeployedSensor:
    """A sensor of a manifest, and the code location whose file declares it."""

    defined: DefinedSensor
    location: str
    manifest_id: str


class UnreadableSensor(Exception):
    """A sensor's definition cannot be read: a newer build may have written it. The message says why."""


def deployed_sensor(manifest: DeployedManifest, sensor_id: str) -> DeployedSensor | None:
    """Return a sensor of a manifest; None if it has none. Raises `UnreadableSensor`."""
    for one in manifest.sensors:
        if one.get("sensor_id") == sensor_id:
            known = {name: value for name, value in one.items() if name in DefinedSensor.model_fields}
            try:
                defined = DefinedSensor.model_validate(known)
            except ValidationError as error:
                raise UnreadableSensor(f"the definition of sensor {sensor_id} cannot be read: {error}") from error
            return DeployedSensor(defined, str(one.get("location")), manifest.manifest_id)
    return None


def sensor_view(snapshot: StateSnapshot, deployed: DeployedSensor) -> SensorView:
    """Return a sensor with where it stands."""
    return view_and_messages(snapshot, deployed)[0]


def view_and_messages(snapshot: StateSnapshot, deployed: DeployedSensor) -> tuple[SensorView, list[MessageRow]]:
    """Return a sensor with where it stands, and the messages that wait for it, the oldest first."""
    defined = deployed.defined
    name = defined.sensor_id
    state, own = sensor_row(snapshot, name), own_sensor_row(snapshot, name)
    messages = sorted(waiting_messages(snapshot, name), key=lambda one: one.row_version)
    oldest = messages[0] if messages else None
    view = SensorView(
        sensor_id=name,
        kind=defined.kind,
        location=deployed.location,
        interval_ms=defined.interval_seconds * 1_000,
        timeout_ms=defined.timeout_seconds * 1_000,
        select=defined.select,
        table=defined.table,
        asset=defined.asset,
        prefix=defined.prefix,
        ends=list(defined.ends),
        manifest_id=deployed.manifest_id,
        cursor=sensor_cursor(state, own),
        state_version=0 if state is None else state.state_version,
        change_id=None if own is None else own.row_version,
        paused=own is not None and own.paused,
        held=is_held(snapshot),
        evaluated_ms=None if state is None else state.last_evaluation_at,
        failed=state is not None and _has_failed(snapshot, state),
        message=None if oldest is None else _message(oldest),
        backlog=len(messages),
        oldest_ms=None if oldest is None else oldest.received_at,
    )
    return view, messages


def further_messages(messages: Sequence[MessageRow]) -> list[WaitingMessage]:
    """Return the messages behind the first that are evaluated with it: so many and so large as one order may have."""
    further: list[WaitingMessage] = []
    size = 0
    for row in messages[1:MOST_TOGETHER]:
        size += len(row.payload or "")
        if size > _MOST_PAYLOADS:
            break
        further.append(_message(row))
    return further


def let_go_ms(snapshot: StateSnapshot, manifest: DeployedManifest, deployed: DeployedSensor) -> int:
    """Return when a sensor last could go on: deployed, changed by operators, or the workspace's hold changed."""
    places = {one.location: one.manifest_id for one in manifest.locations}
    times = [ulid_time_ms(places.get(deployed.location, manifest.manifest_id)) or 0]
    own = own_sensor_row(snapshot, deployed.defined.sensor_id)
    hold = hold_row(snapshot)
    times += [] if own is None else [own.changed_at]
    times += [] if hold is None else [hold.changed_at]
    return max(times)


def sensor_row(snapshot: StateSnapshot, sensor_id: str) -> SensorRow | None:
    """Return a sensor's state, None before its first evaluation."""
    row: Any = snapshot["sensor_state"].get(sensor_id)
    return None if row is None else SensorRow(*row)


def own_sensor_row(snapshot: StateSnapshot, sensor_id: str) -> OwnSensorRow | None:
    """Return what operators made of a sensor, None if nothing."""
    row: Any = snapshot["x_sensors"].get(sensor_id)
    return None if row is None else OwnSensorRow(*row)


def waiting_messages(snapshot: StateSnapshot, sensor_id: str) -> list[MessageRow]:
    """Return the messages that wait for a sensor, the first `MOST_MESSAGES` by id."""
    rows: Any = snapshot["x_messages"].page(limit=MOST_MESSAGES, prefix=(sensor_id,)).rows
    return [MessageRow(*row) for row in rows]


def asked_before(snapshot: StateSnapshot, run_keys: Sequence[str]) -> dict[str, set[str]]:
    """Return the fingerprints of the requests on record under run keys: of the first, and of those in conflict with it.

    Keys under which nothing was asked for are left out.
    """
    firsts: Any = snapshot["x_run_keys"].get_all(run_keys)
    found = {key: {FirstRequestRow(*row).request_fingerprint} for key, row in firsts.items()}
    for key, fingerprints in found.items():
        conflicts: Any = snapshot["run_key_conflicts"].page(limit=MOST_CONFLICTS, prefix=(key,)).rows
        fingerprints.update(ConflictRow(*row).conflicting_fingerprint for row in conflicts)
    return found


def selector(manifest: DeployedManifest) -> Any:
    """Return what makes assets of terms, by a manifest; it raises `BadSelection`."""

    def selected(terms: Sequence[str]) -> list[str]:
        return sorted(select_nodes(manifest.nodes, terms))

    return selected


def _has_failed(snapshot: StateSnapshot, state: SensorRow) -> bool:
    row: Any = None if state.last_eval_id is None else snapshot["sensor_evals"].get(state.last_eval_id)
    return row is not None and json.loads(EvaluationRow(*row).status).get("status") == "error"


def _message(row: MessageRow) -> WaitingMessage:
    payload = None if row.payload is None else json.loads(row.payload)
    return WaitingMessage(message_id=row.message_id, payload=payload, received_ms=row.received_at)
