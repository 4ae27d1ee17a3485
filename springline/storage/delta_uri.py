"""Where a Delta library finds the table that lies in one of our stores, for reading it.

Reading only: writing past the store would leave out its preconditions. The emulator we test with serves the
library's reads and refuses its writes.
"""

from __future__ import annotations

import os

from springline.paths import ObjectPath
from springline.storage.local import LocalStore
from springline.storage.port import ObjectStore, StoreMisconfigured
from springline.storage.scoped import ScopedStore


def delta_uri(store: ObjectStore, root: str) -> tuple[str, dict[str, str]]:
    """Return the URI of the table at `root` of `store`, and the `storage_options` that `deltalake` needs with it.

    `root` is relative to the store, or to the workspace if `store` is a `ScopedStore`. A bucket's emulator is
    taken from the environment; for a real bucket the library finds the same default credentials as we do.
    Raises `StoreMisconfigured` for a store no other program can open, such as one in memory.
    """
    path = ObjectPath(root)
    if isinstance(store, ScopedStore):
        path = store.scope.full(path)
        store = store._store
    if isinstance(store, LocalStore):
        return str(store.root / path), {}
    # The Google client takes most of a second to import: only who has a bucket pays.
    from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore  # noqa: PLC0415

    if isinstance(store, GcsStore):
        start = f"{store.prefix}/" if store.prefix else ""
        return f"gs://{store.bucket}/{start}{path}", _bucket_options(os.environ.get(EMULATOR_VARIABLE))
    raise StoreMisconfigured(f"a {type(store).__name__} cannot be opened by a Delta library; use a folder or a bucket")


def _bucket_options(emulator: str | None) -> dict[str, str]:
    if not emulator:
        return {}
    return {
        "google_base_url": emulator,
        "google_skip_signature": "true",
        "allow_http": str(emulator.startswith("http://")).lower(),
    }
