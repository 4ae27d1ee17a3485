"""How the sensors of a workspace get on: messages that wait, and up to when no sensor was late."""

from __future__ import annotations

from dataclasses import dataclass

from springline.control.sensors.standing import stuck_since_ms
from springline.definitions.manifest import DeployedManifest, sensor_ids
from springline.published.snapshot import StateSnapshot
from springline.sensors.reading import UnreadableSensor, deployed_sensor, let_go_ms, sensor_view


@dataclass(frozen=True, slots=True)
class StandingSensors:
    """The deployed sensors of a workspace. Times in ms since 1970.

    `messages`: that wait, of each sensor at most as many as a look reads. `oldest_ms`: since when the oldest of a
    sensor waits that is neither paused nor held. `on_time_ms`: up to when no sensor was late. Both are the present if
    there is none.
    """

    messages: int
    oldest_ms: int
    on_time_ms: int


def standing_sensors(snapshot: StateSnapshot, manifest: DeployedManifest, now_ms: int) -> StandingSensors:
    """Say how the sensors of a manifest get on; needs `springline.sensors.reading.TABLES`.

    One whose definition cannot be read is left out: the status of its workflow says so.
    """
    messages, oldest_ms, on_time_ms = 0, now_ms, now_ms
    for name in sensor_ids(manifest):
        try:
            deployed = deployed_sensor(manifest, name)
        except UnreadableSensor:
            continue
        assert deployed is not None
        view = sensor_view(snapshot, deployed)
        messages += view.backlog
        if not (view.paused or view.held):
            oldest_ms = min(oldest_ms, now_ms if view.oldest_ms is None else view.oldest_ms)
        late_ms = stuck_since_ms(view, let_go_ms(snapshot, manifest, deployed), now_ms)
        on_time_ms = min(on_time_ms, now_ms if late_ms is None else late_ms)
    return StandingSensors(messages, oldest_ms, on_time_ms)
