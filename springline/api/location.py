"""The URL by which Delta readers open a table."""

from __future__ import annotations

from urllib.parse import quote

from springline.paths import Scope

_UNQUOTED = "/=:@!$&'()*+,;~-._"


def table_location(store_url: str, scope: Scope, root: str) -> str:
    """Return the URL of the table at `root` in the store `store_url`, such as `gs://lake/tenant=a/workspace=b/x`.

    What a URL cannot hold, such as a space, is percent-encoded.
    """
    return f"{store_url.rstrip('/')}/{quote(f'{scope.prefix}/{root}', safe=_UNQUOTED)}"
