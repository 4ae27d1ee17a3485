"""The entry point of the client: a connection to one Springline API, and its tables."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import uuid_utils

from springline.client.assets import AssetsOfWorkspace
from springline.client.backfills import BackfillsOfWorkspace
from springline.client.http import ApiClient
from springline.client.ledger import Ledger, LedgerState
from springline.client.loop import Stores
from springline.client.runs import RunsOfWorkspace, StartedRun
from springline.client.schedules import SchedulesOfWorkspace
from springline.client.schemas import delta_columns
from springline.client.sensors import SensorsOfWorkspace
from springline.client.sources import schema_of
from springline.client.table import DeltaTable
from springline.errors import Code, refused

logger = logging.getLogger("springline.client")

_SEEN_SOON_S = 0.2


class Springline:
    """A connection to a Springline API.

    `url` and `token` default to `SPRINGLINE_API_URL` and `SPRINGLINE_TOKEN`. `store_url` overrides where data
    files are written (default: what the API says of each table). `deadline_s`: how long a call is repeated while
    the API gives no answer, in seconds. Usable as a context manager, from several threads, and in a process that is
    forked before the first write or read of a table (after it, that process is refused at once).
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        store_url: str | None = None,
        deadline_s: float = 120.0,
    ) -> None:
        self._api = ApiClient(
            _given("url", url, "SPRINGLINE_API_URL"),
            _given("token", token, "SPRINGLINE_TOKEN"),
            deadline_s=deadline_s,
        )
        self._stores = Stores()
        self._store_url = store_url
        self.ledger = Ledger(self._api)
        """The events of the workspace, to append to."""
        self.assets = AssetsOfWorkspace(self._api)
        """The assets of the workspace, as they are deployed: what they depend on, and what their config takes."""
        self.runs = RunsOfWorkspace(self._api)
        """The runs of the workspace: to start, cancel and repeat."""
        self.sensors = SensorsOfWorkspace(self._api)
        """The sensors of the workspace: to push to, evaluate, pause and resume."""
        self.backfills = BackfillsOfWorkspace(self._api)
        """The backfills of the workspace: to create, watch, pause, resume, cancel, and repeat what failed."""
        self.schedules = SchedulesOfWorkspace(self._api)
        """The schedules of the workspace: to define, pause, resume and trigger."""
        self.state = LedgerState(self._api)
        """The state folded from the events: runs, tasks, schedules, sensors, backfills."""

    def run(self, select: str | Iterable[str], partitions: Iterable[str] = (), **options: Any) -> StartedRun:
        """Start a run of assets, to wait for: `lake.run("*delays", "2026-01-31").wait()`.

        Arguments and errors are those of `lake.runs.start`.
        """
        options.setdefault("run_key", f"client:{uuid_utils.uuid7()}")
        asked = self.runs.start(select, partitions, **options)
        while asked["run_id"] is None:
            # It is recorded, and its id is known as soon as it can be seen: the same key answers then.
            time.sleep(_SEEN_SOON_S)
            asked = self.runs.start(select, partitions, **options)
        return StartedRun(self.runs, asked["run_id"])

    def table(self, name_or_id: str) -> DeltaTable:
        """Return a table by name or id; nothing is read until it is used.

        Raises `Refused` (INVALID_REQUEST) for what is no name of a table.
        """
        return DeltaTable(self._api, self._stores, name_or_id, self._store_url)

    def tables(self, name_prefix: str = "") -> Iterator[DeltaTable]:
        """Yield the tables of the workspace whose names begin with `name_prefix`, in the order of their creation.

        Pages are fetched during the iteration. A damaged registry entry is logged.
        """
        for page in self._api.pages("/api/v1/delta/tables", name_prefix=name_prefix):
            for damaged in page["damaged"]:
                logger.warning("registry entry %s is damaged: %s", damaged["object"], damaged["problem"])
            for one in page["items"]:
                yield self.table(one["name"] or one["table_id"])

    def create_table(
        self,
        name: str,
        schema: Any,
        *,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        location: str | None = None,
    ) -> DeltaTable:
        """Create a table; `schema` is an Arrow schema, or any frame with the columns it gets. Safe to repeat.

        `location`: a folder of the workspace's tables, such as `warehouse/weather`, or a URL inside the workspace; by
        default one named by the table's id. Raises `Refused`: NAME_TAKEN if another table has that name,
        INVALID_REQUEST naming column and type for a type that no Delta table has, INVALID_PATH for a location outside
        the workspace.
        """
        body: dict[str, Any] = {
            "name": name,
            "columns": delta_columns(schema_of(schema)),
            "partition_columns": list(partition_by),
            "properties": dict(properties or {}),
        }
        if location is not None:
            body["location"] = location
        self._api.call("POST", "/api/v1/delta/tables", body=body)
        return self.table(name)

    def adopt_table(self, name: str, location: str) -> DeltaTable:
        """Register an existing Delta folder of the workspace as a table.

        `location`: its name in the workspace or its full URL. Raises `Refused` (INVALID_PATH) if it lies outside.
        """
        self._api.call("POST", "/api/v1/delta/tables/adopt", body={"name": name, "location": location})
        return self.table(name)

    def close(self) -> None:
        """Close connections and stores."""
        self._stores.close()
        self._api.close()

    def __enter__(self) -> Springline:
        """Return the connection itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _given(field: str, value: str | None, variable: str) -> str:
    found = value or os.environ.get(variable)
    if not found:
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} is not given and {variable} is not set",
            field=field,
            value=value,
            remedy=f"Pass {field}= or set {variable}.",
        )
    return found
