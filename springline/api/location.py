"""The URL by which Delta readers open a table."""

from __future__ import annotations

from springline.paths import ObjectPath, Scope, quoted


def table_location(store_url: str, scope: Scope, root: str) -> str:
    """Return the URL of the table at `root` in the store `store_url`, such as `gs://lake/tables/acme/prod/x`.

    Characters that a URL cannot contain, such as a space, are percent-encoded.
    """
    return f"{store_url.rstrip('/')}/{quoted(scope.full(ObjectPath(root)))}"
