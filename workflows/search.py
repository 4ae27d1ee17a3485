"""The typed search attributes that all workflows carry."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from springline import names

SEARCH_TENANT_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TENANT)
SEARCH_WORKSPACE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_WORKSPACE)
SEARCH_TABLE_KEY = SearchAttributeKey.for_keyword(names.SEARCH_TABLE)


def table_attributes(tenant: str, workspace: str, table: str) -> TypedSearchAttributes:
    """Return the search attributes of a workflow that works on one table."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(SEARCH_TENANT_KEY, tenant),
            SearchAttributePair(SEARCH_WORKSPACE_KEY, workspace),
            SearchAttributePair(SEARCH_TABLE_KEY, table),
        ]
    )
