"""The schedules of a workspace, thin over HTTP: `lake.schedules`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import uuid_utils

from springline.client.http import ApiClient, segment

_ROOT = "/api/v1/schedules"

Json = dict[str, Any]


class SchedulesOfWorkspace:
    """The schedules of the workspace that the token is for. `lake.state.schedules()` lists them.

    All methods raise `Refused` (final, says what to do; NOT_FOUND if there is no such schedule) or
    `springline.client.http.Unavailable` (safe to repeat).
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def get(self, schedule_id: str) -> Json:
        """Return a schedule: its definition and `settings`, its `last` tick, and `next_due_at`."""
        found: Json = self._api.call("GET", _path(schedule_id))["schedule"]
        return found

    def define(
        self,
        schedule_id: str,
        select: str | Iterable[str],
        *,
        cron: str | None = None,
        timezone: str | None = None,
        interval_seconds: int | None = None,
        **settings: Any,
    ) -> Json:
        """Define a schedule, or change one that no pipeline file declares; safe to repeat.

        `cron` with `timezone` (by default UTC), or `interval_seconds`. `select`: as of a run. `settings`: `enabled`,
        `overlap`, `max_active_runs`, `max_catchup_ticks`, `catchup_window_minutes`, `jitter_seconds`. Returns whether
        it was `changed`, whether it is `enabled`, how many `ticks` the old definition owed, and `next_due_at`.
        """
        given = {"cron": cron, "timezone": timezone, "interval_seconds": interval_seconds, **settings}
        body: Json = {
            "select": [select] if isinstance(select, str) else list(select),
            **{name: value for name, value in given.items() if value is not None},
        }
        return self._api.call("PUT", _path(schedule_id), body=body)

    def delete(self, schedule_id: str) -> Json:
        """Delete it, unless a pipeline file declares it; its ticks stay, and its runs go on. Safe to repeat."""
        return self._api.call("DELETE", _path(schedule_id))

    def pause(self, schedule_id: str) -> Json:
        """Let it ask for no run any more; what is due until now is asked for. Safe to repeat."""
        return self._api.call("POST", _path(schedule_id, "pause"))

    def resume(self, schedule_id: str) -> Json:
        """Let it ask for runs again, from now on; the instants of the pause go on record as skipped. Safe to repeat."""
        return self._api.call("POST", _path(schedule_id, "resume"))

    def trigger(self, schedule_id: str, *, request_id: str | None = None) -> Json:
        """Ask for a run of it now, paused or not. Returns as `lake.runs.start`.

        `request_id`: under the same id it is the same run, for ever; without one each call is another run.
        """
        name = f"client:{uuid_utils.uuid7()}" if request_id is None else request_id
        return self._api.call("POST", _path(schedule_id, "trigger"), body={"request_id": name})

    def preview(self, schedule_id: str, count: int = 10, *, after: str | None = None) -> list[Json]:
        """Return its next instants: `due_at`, `local`, `assets`, `partitions` and `problem`. `after`: RFC 3339."""
        parameters: Json = {"count": count} if after is None else {"count": count, "after": after}
        found: list[Json] = self._api.call("GET", _path(schedule_id, "preview"), params=parameters)["items"]
        return found

    def ticks(self, schedule_id: str, **filters: Any) -> Iterator[Json]:
        """Yield what became of its instants: filters `status`, `since`, `until`. Pages are fetched meanwhile."""
        yield from self._api.items(_path(schedule_id, "ticks"), **filters)


def _path(schedule_id: str, *below: str) -> str:
    return "/".join([_ROOT, segment(schedule_id, "schedule_id"), *below])
