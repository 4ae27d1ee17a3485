"""Sensors, thin over HTTP: `lake.sensors`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import uuid_utils

from springline.client.http import ApiClient, segment

_ROOT = "/api/v1/sensors"

Json = dict[str, Any]


class SensorsOfWorkspace:
    """The sensors of the workspace that the token is for.

    All methods raise `Refused` (final, says what to do) or `springline.client.http.Unavailable` (may be repeated).
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def list(self) -> Iterator[Json]:
        """Yield the sensors by id: `definition`, `cursor`, `paused`, `messages` that wait. Pages come as needed."""
        return self._api.items(_ROOT)

    def get(self, sensor_id: str) -> Json:
        """Return a `sensor` and what it is `doing`, with its last decisions."""
        return self._api.call("GET", _of(sensor_id))

    def push(self, sensor_id: str, payload: Any = None, *, message_id: str | None = None) -> Json:
        """Push a message, and return its `message_id`, `event_id`, and whether it was `replayed`.

        It is in the ledger when this returns. Give a `message_id` of your own if the push is to be repeated after a
        crash of this process: the same message again is the same message.
        """
        chosen = str(uuid_utils.uuid7()) if message_id is None else message_id
        return self._api.call("POST", _of(sensor_id, "messages"), body={"message_id": chosen, "payload": payload})

    def evaluate(self, sensor_id: str) -> Json:
        """Evaluate a sensor now, and return what that came to."""
        return self._api.call("POST", _of(sensor_id, "evaluate"), body={})

    def dry_run(self, sensor_id: str, *, cursor: str | None = None, **message: Any) -> Json:
        """Return what an evaluation would ask for; nothing is recorded.

        `cursor`: as if it were the sensor's. `payload=`: as if it had been pushed.
        """
        body = {"dry_run": True, **({} if cursor is None else {"cursor": cursor}), **message}
        return self._api.call("POST", _of(sensor_id, "evaluate"), body=body)

    def pause(self, sensor_id: str) -> Json:
        """Let a sensor be evaluated no more, until it is resumed; messages wait."""
        return self._api.call("POST", _of(sensor_id, "pause"), body={})

    def resume(self, sensor_id: str) -> Json:
        """Let a sensor be evaluated again."""
        return self._api.call("POST", _of(sensor_id, "resume"), body={})

    def reset(self, sensor_id: str) -> Json:
        """Let a sensor begin without a cursor."""
        return self._api.call("POST", _of(sensor_id, "reset"), body={})

    def set_cursor(self, sensor_id: str, cursor: str) -> Json:
        """Let a sensor go on from another cursor."""
        return self._api.call("PUT", _of(sensor_id, "cursor"), body={"cursor": cursor})


def _of(sensor_id: str, verb: str = "") -> str:
    return f"{_ROOT}/{segment(sensor_id, 'sensor_id')}" + (f"/{verb}" if verb else "")
