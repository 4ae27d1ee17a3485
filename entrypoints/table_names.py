"""Table names for people who look at workflows: looked up by id, and as a search attribute if the namespace has it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.api.workspaces import Workspaces
from springline.batching import BatchRefused
from springline.delta.table_request import check_name
from springline.errors import InvariantViolated, Refused
from springline.paths import Scope
from springline.storage.port import ObjectStore, StoreError

NameOf = Callable[[Scope, str], Awaitable[str | None]]
"""Returns the name of a table by its id; None if unknown. Raises nothing, because the name is only shown."""

TABLE_NAME_MEMO = "table_name"

_log = logging.getLogger("springline.temporal")

R = TypeVar("R")


def names_by_registry(store: ObjectStore) -> NameOf:
    """Return a look-up in the registries of `store`, which reads each table once."""
    workspaces = Workspaces(store)

    async def name_of(scope: Scope, table_id: str) -> str | None:
        try:
            name = (await workspaces.of(scope).registry.entry(table_id)).name
            check_name(name)
        except (Refused, InvariantViolated, StoreError):
            return None
        return name

    return name_of


class NameSearch:
    """Starts workflows with the table's name as a search attribute, if the namespace has that attribute.

    A namespace that was set up for an older version lacks it, and refuses every start with it. Commits must not fail
    because of that: they start without the name, and `springline doctor` says what to register.
    """

    def __init__(self) -> None:
        self._has_attribute = True

    async def with_name(self, name: str | None, start: Callable[[str | None], Awaitable[R]]) -> R:
        """Do `start` with the name, and once more without if the namespace does not know its attribute."""
        if name is None or not self._has_attribute:
            return await start(None)
        try:
            return await start(name)
        except (BatchRefused, RPCError) as error:
            if not _lacks_attribute(error):
                raise
            _log.warning(
                "the namespace has no search attribute %s: tables are not found by name until it is registered and "
                "this process starts anew; `springline doctor` says how",
                names.SEARCH_TABLE_NAME,
            )
            self._has_attribute = False
            return await start(None)


def _lacks_attribute(error: BatchRefused | RPCError) -> bool:
    if isinstance(error, RPCError):
        return error.status is RPCStatusCode.INVALID_ARGUMENT and names.SEARCH_TABLE_NAME in error.message
    return names.SEARCH_TABLE_NAME in error.refusal.message
