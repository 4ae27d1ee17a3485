"""A table whose coordinator object is missing: rebuild it from the log (docs/protocol.md#commit-rounds)."""

from __future__ import annotations

from springline import paths
from springline.commit.snapshot import load_snapshot
from springline.commit.table import Held, Table
from springline.delta.coordinator import Coordinator
from springline.delta.markers import markers_from_log
from springline.storage.resolve import put_once
from springline.storage.together import together


async def rebuild_coordinator(table: Table) -> Held:
    """Return a coordinator state at the log's latest version, to be created by the first reservation.

    At most one commit can have been in flight when the object was lost, so only the newest log file can lack
    its markers. If it names its requests (rounds do, and our client's commits), the markers are written now.
    """
    snapshot = await load_snapshot(table.store, table.root)
    if snapshot.version >= 0:
        path = table.log_path(snapshot.version)
        log = await table.store.get(path)
        if log is not None:
            markers = markers_from_log(snapshot.version, path, log.data)
            names = [paths.delta_marker(table.table_id, marker.idempotency_key) for marker in markers]
            await together(
                *(put_once(table.store, name, marker.encode(name)) for name, marker in zip(names, markers, strict=True))
            )
    return Held(Coordinator(snapshot.version), None)
