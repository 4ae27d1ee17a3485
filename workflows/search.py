"""The typed search attributes that all workflows carry."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from springline import names

SEARCH_TENANT_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TENANT)
SEARCH_WORKSPACE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_WORKSPACE)
SEARCH_TABLE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TABLE)
SEARCH_TABLE_NAME_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TABLE_NAME)
REBUILD_PHASE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_REBUILD_PHASE)
REBUILD_MODE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_REBUILD_MODE)
FAILURE_CLASS_KEY = SearchAttributeKey.for_keyword(names.SEARCH_FAILURE_CLASS)
REBUILD_PERCENT_KEY = SearchAttributeKey.for_float(names.SEARCH_REBUILD_PERCENT)


def workspace_attributes(tenant: str, workspace: str) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on a whole workspace."""
    return TypedSearchAttributes(
        [SearchAttributePair(SEARCH_TENANT_KEY, tenant), SearchAttributePair(SEARCH_WORKSPACE_KEY, workspace)]
    )


def table_attributes(tenant: str, workspace: str, table: str, name: str | None = None) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on one table: its id, and its name if that is known."""
    named = [] if name is None else [SearchAttributePair(SEARCH_TABLE_NAME_KEY, name)]
    return TypedSearchAttributes(
        [
            SearchAttributePair(SEARCH_TENANT_KEY, tenant),
            SearchAttributePair(SEARCH_WORKSPACE_KEY, workspace),
            SearchAttributePair(SEARCH_TABLE_KEY, table),
            *named,
        ]
    )
