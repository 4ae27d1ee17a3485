"""A process of attempts and the lake: the tables of its attempts, and the commits of what they have sealed.

The library for tables is imported when a function first uses a table: most processes never need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from springline.sdk.errors import NonRetryable

if TYPE_CHECKING:
    from springline.client import Springline
    from springline.client.staging import WriteDone
    from springline.client.task_tables import TaskTables
    from springline.sdk.tables import TaskTable

Json = dict[str, Any]

_CLIENT: Final = "springline.client"


class AttemptTables:
    """The tables of the attempt of a task; `scope` is the run under which its writes are sealed."""

    def __init__(self, lake: Lake, scope: str, task_key: str) -> None:
        self._lake = lake
        self._scope = scope
        self._task_key = task_key
        self._tables: TaskTables | None = None

    def table(self, name: str, *, schema: Any = None, partition_by: Sequence[str] = ()) -> TaskTable:
        """Return a table by name. Raises `NonRetryable` if this process does not know where the lake is."""
        from springline.client.staging import TaskOfWrites  # noqa: PLC0415
        from springline.client.task_tables import TaskTables  # noqa: PLC0415

        if self._tables is None:
            self._tables = TaskTables(self._lake.connected, TaskOfWrites(self._scope, self._task_key))
        return self._tables.table(name, schema=schema, partition_by=partition_by)

    @property
    def rows_written(self) -> Mapping[str, Any]:
        """The rows that the function has asked to write, by table, for checks."""
        return {} if self._tables is None else self._tables.rows_written

    def ended(self) -> list[Json]:
        """Take no more writes, and return those that wait to be sealed."""
        if self._tables is None:
            return []
        self._tables.close()
        return [one.plain for one in self._tables.staged]

    @property
    def at_once(self) -> list[Json]:
        """What the function has committed at once, as the end of its attempt has it, each version once."""
        found: dict[str, Json] = {}
        for write, key in () if self._tables is None else self._tables.at_once:
            if write.version is not None:
                plain = {"table": write.table, "version": write.version, "operation": write.operation}
                found.setdefault(key, {**plain, "rows": write.rows, "idempotency_key": key})
        return list(found.values())

    def discard(self) -> None:
        """Remove the files of writes that are never going to be sealed."""
        if self._tables is not None:
            self._tables.discard()


class Lake:
    """The connection of this process to the lake, opened when it is first needed, as the environment says."""

    def __init__(self) -> None:
        self._connected: Springline | None = None

    def connected(self) -> Springline:
        """Return the connection. Raises `NonRetryable` if the environment does not say where the API is."""
        from springline.client import Springline  # noqa: PLC0415
        from springline.errors import Refused  # noqa: PLC0415

        if self._connected is None:
            try:
                self._connected = Springline()
            except Refused as error:
                raise NonRetryable(
                    f"the worker cannot reach the tables: {error.refusal.message}. Start `springline work` with --api "
                    "and --token, or with SPRINGLINE_API_URL and SPRINGLINE_TOKEN set"
                ) from None
        return self._connected

    def commit(self, writes: Iterable[Mapping[str, Any]], done: list[Json]) -> Json | None:
        """Commit sealed writes in order, and put what became of each into `done`.

        Returns None, or why not all are committed: `again` if another try may commit the rest, and a `message`.
        """
        from springline.client.staging import staged_of  # noqa: PLC0415
        from springline.client.task_tables import commit_writes  # noqa: PLC0415

        waiting = staged_of(writes)
        try:
            # One by one: what is done before an error is to be known.
            done.extend(_plain(one) for one in commit_writes(self.connected(), waiting))
        except Exception as error:
            at = waiting[len(done)]
            told = f"write {at.number} of the task, {at.operation} to table {at.table}, is not committed"
            if _is_of_another_seal(error):
                return {"again": False, "reason_code": "seal_damaged", "message": f"{told}: {_lost_seal(at.staged)}"}
            return {**_judged(error), "message": f"{told}: {_text_of(error)}"}
        return None


def _plain(done: WriteDone) -> Json:
    return {"version": done.version, "rows": done.rows}


def _judged(error: Exception) -> Json:
    """Return whether another try may help, and the reason for programs."""
    from springline.errors import NOT_NOW, Code, InvariantViolated, Refused  # noqa: PLC0415

    if isinstance(error, InvariantViolated):
        return {"again": False, "reason_code": "seal_damaged"}
    if isinstance(error, Refused):
        refusal = error.refusal
        if refusal.code not in (Code.CONCURRENT_CHANGE, Code.STALE_READ_VERSION) and refusal.status not in NOT_NOW:
            return {"again": False, "reason_code": "write_refused"}
    return {"again": True, "reason_code": "write_waits"}


def _is_of_another_seal(error: Exception) -> bool:
    """Say whether other rows are committed under the key of a sealed write, which is of the task and no attempt."""
    from springline.errors import Code, Refused  # noqa: PLC0415

    return isinstance(error, Refused) and error.refusal.code is Code.KEY_REUSED


def _lost_seal(staged: str) -> str:
    seal = f"{staged.rpartition('/')[0]}.json"
    return (
        f"{seal} is not the seal by which another attempt has committed other rows: that one was lost. Restore it from "
        "a copy; without one, read which rows the task has written (runbooks/damaged-object.md)."
    )


def _text_of(error: Exception) -> str:
    from springline.errors import InvariantViolated, Refused  # noqa: PLC0415

    if isinstance(error, Refused):
        return f"{error.refusal.message}. {error.refusal.remedy}"
    return str(error) if isinstance(error, InvariantViolated | NonRetryable) else f"{type(error).__name__}: {error}"


def is_passing(error: BaseException) -> bool:
    """Say whether an error that a function lets through is the lake's, and none of the function's own doing."""
    kinds = {f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__}
    return bool(
        kinds & {f"{_CLIENT}.http.Unavailable", f"{_CLIENT}.scratch.WriteFailed", "springline.storage.port.StoreError"}
    )
