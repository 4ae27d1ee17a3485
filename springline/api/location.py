"""The URL by which Delta readers open a table."""

from __future__ import annotations

from springline.paths import ObjectPath, Scope, quoted


def table_location(store_url: str, scope: Scope, root: str) -> str:
    """Return the URL of the table at `root` in the store `store_url`, such as `gs://lake/tables/acme/prod/x`.

    What a URL cannot hold, such as a space, is percent-encoded.
    """
    return f"{store_url.rstrip('/')}/{quoted(scope.full(ObjectPath(root)))}"
