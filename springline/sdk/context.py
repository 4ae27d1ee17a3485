"""What a function learns about the attempt that it is, and what it tells about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, overload

from springline.definitions.ids import task_key
from springline.definitions.partitions import Partitions
from springline.sdk.errors import InvalidRequest

if TYPE_CHECKING:
    import logging

    from typing_extensions import TypeVar

    from springline.sdk.tables import TablesOfTask, TaskTable

    C = TypeVar("C", default=Mapping[str, Any])
else:
    from typing import TypeVar

    # Its default is for type checkers: `Context` alone is one whose config is the run's, as it is.
    C = TypeVar("C")


_MOST_METADATA_BYTES: Final = 16 * 1024
_MOST_NESTED: Final = 100
"""Lists and dicts in one another: readers of JSON stop at 200, and could read nothing of the attempt then."""


def problem_of_metadata(asset: str, metadata: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Return why what a function has told cannot be kept, and whether it is too large; None if it can be kept."""
    import json  # noqa: PLC0415 - importing the library must be quick

    problem = problem_of_json(dict(metadata))
    if problem is not None:
        return f"the metadata of {asset} {problem}", False
    size = len(json.dumps(dict(metadata)))
    if size <= _MOST_METADATA_BYTES:
        return None
    said = f"the metadata of {asset} takes {size:,} bytes, more than {_MOST_METADATA_BYTES:,}"
    return f"{said}: tell less, or write a table", True


def problem_of_json(value: Any) -> str | None:
    """Return what is wrong with a value that is to be sent and kept as JSON, and what to do; None if nothing is."""
    import json  # noqa: PLC0415 - as above

    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Such as the name of a file in another encoding.
        return "has a text that is not UTF-8: give repr() of it"
    except (TypeError, ValueError, RecursionError) as error:
        return f"is no JSON ({error}): give texts, numbers, lists and dicts"
    inside, deep = [value], 0
    while inside:
        beyond = [one for one in inside if isinstance(one, int) and not -(2**63) <= one < 2**64]
        if beyond:
            return f"has the number {beyond[0]}, which takes more than 64 bits: give it as a text"
        inside = [one for outer in inside for one in _members(outer)]
        deep += bool(inside)
        if deep > _MOST_NESTED:
            return f"is nested more than {_MOST_NESTED} deep: give it flatter, or as a text"
    return None


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


class Context(Generic[C]):
    """The attempt that a function is; a function that has a parameter `context` gets it.

    In a unit test of one function: `delays(Context(partition_key="2024-01-31"), rows)`; of one with a model of its
    config: `delays(Context(config=Settings(rows=3)))`.

    Attributes:
        asset: the asset's key.
        run_id: the run that this attempt belongs to.
        attempt: the number of the attempt, from 1.
        config: what the run was asked with, read only; of an asset that declares a model for it, an instance of that.
        metadata: what the function has told, for whoever looks at the run.
    """

    @overload
    def __init__(
        self: Context[Mapping[str, Any]],
        asset: str = "asset",
        *,
        partition_key: str | None = None,
        partitions: Partitions | None = None,
        run_id: str = "run",
        attempt: int = 1,
        config: Mapping[str, Any] | None = None,
        tables: TablesOfTask | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        asset: str = "asset",
        *,
        partition_key: str | None = None,
        partitions: Partitions | None = None,
        run_id: str = "run",
        attempt: int = 1,
        config: C,
        tables: TablesOfTask | None = None,
    ) -> None: ...
    def __init__(
        self,
        asset: str = "asset",
        *,
        partition_key: str | None = None,
        partitions: Partitions | None = None,
        run_id: str = "run",
        attempt: int = 1,
        config: Any = None,
        tables: TablesOfTask | None = None,
    ) -> None:
        self.asset = asset
        self.run_id = run_id
        self.attempt = attempt
        is_plain = config is None or isinstance(config, Mapping)
        found: Any = MappingProxyType(dict(config or {})) if is_plain else config
        self.config: C = found
        self.metadata: dict[str, Any] = {}
        self._partition_key = partition_key
        self._partitions = partitions
        self._progress: tuple[float, str | None] | None = None
        self._tables = tables

    @property
    def partition_key(self) -> str:
        """The key of the partition to make; raises `InvalidRequest` for an asset without partitions."""
        if self._partition_key is None:
            raise InvalidRequest(f"{self.asset} has no partitions: give it some, or do not ask for partition_key")
        return self._partition_key

    @property
    def partition_keys(self) -> Mapping[str, str]:
        """The key of the partition in each of its two dimensions, by their names; raises `InvalidRequest` for others.

        Of `multi_partitions(day=daily(...), region=static(...))`: `context.partition_keys["region"]`.
        """
        found = {} if self._partitions is None else self._partitions.parts(self.partition_key)
        if not found:
            raise InvalidRequest(
                f"{self.asset} has no partitions in two dimensions: partition_keys is for multi_partitions, "
                "partition_key for all"
            )
        return MappingProxyType(found)

    @property
    def has_partition(self) -> bool:
        """Say whether one partition is to be made, and not a whole asset."""
        return self._partition_key is not None

    @property
    def time_window(self) -> tuple[datetime, datetime]:
        """Begin and end, in UTC, of the time that the partition covers; raises `InvalidRequest` if it covers none."""
        found = None if self._partitions is None else self._partitions.window(self.partition_key)
        if found is None:
            raise InvalidRequest(f"{self.asset} has no partitions by time: time_window is for hourly to monthly ones")
        return found

    @property
    def task_key(self) -> str:
        """The key of the task: `asset`, or `asset[partition]`, percent-encoded."""
        return task_key(self.asset, self._partition_key)

    def table(self, name: str, *, schema: Any = None, partition_by: str | Sequence[str] = ()) -> TaskTable:
        """Return a table of the lake, by name, to read and to write.

        What is written counts once, and nobody sees it before the function has returned: then it is committed in the
        order in which it was asked for, all of one attempt or none (`springline.sdk.TaskTable`). A table that does not
        exist is created when it is first written, or first read if there is a `schema`: with that, an Arrow schema or a
        frame with the columns, or else with the columns of the first rows, and partitioned by the columns
        `partition_by`.

        Raises `InvalidRequest` if the attempt has no tables, as in a test of the function alone, and
        `springline.errors.Refused` for what is no name of a table.
        """
        if self._tables is None:
            raise InvalidRequest(
                f"context.table({name!r}): this attempt has no tables. Under `springline dev` and `springline work` it "
                "has; in a test give materialize(..., tables=FOLDER)"
            )
        by = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
        return self._tables.table(name, schema=schema, partition_by=by)

    def rows_written(self) -> Mapping[str, Any]:
        """Return the rows that the function has asked to write, by table, as checks see them."""
        return {} if self._tables is None else self._tables.rows_written

    @property
    def log(self) -> logging.Logger:
        """The logger of the asset, `springline.asset.KEY`."""
        import logging  # noqa: PLC0415 - importing the library must be quick

        return logging.getLogger(f"springline.asset.{self.asset}")

    def add_metadata(self, **values: Any) -> None:
        """Tell something about what was made, such as `rows=12`; a name that was told before is told anew.

        It is shown by `springline run show`, `asset lineage` and `explain`, whether the attempt succeeds or fails; it
        takes at most 16 KiB as JSON.

        Raises `InvalidRequest` for what is no JSON.
        """
        for name, value in values.items():
            problem = problem_of_json(value)
            if problem is not None:
                raise InvalidRequest(f"metadata {name} {problem}")
        self.metadata.update(values)

    def progress(self, done: float, message: str | None = None) -> None:
        """Tell how far the attempt is: `done` from 0 to 1. Raises `InvalidRequest` for another number."""
        if isinstance(done, bool) or not isinstance(done, int | float) or not 0 <= done <= 1:
            raise InvalidRequest(f"progress {done!r} is no number from 0 to 1: divide what is done by all there is")
        self._progress = (float(done), message)

    @property
    def last_progress(self) -> tuple[float, str | None] | None:
        """What was told last by `progress`; None before."""
        return self._progress
