"""The URI and options by which a Delta library reads a table in one of our stores.

For reading only: a library that writes directly would bypass the store's preconditions.
"""

from __future__ import annotations

import os

import orjson

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
    # The Google client takes most of a second to import, so only callers with a bucket import it.
    from springline.storage.gcs import EMULATOR_VARIABLE, GcsStore  # noqa: PLC0415

    if isinstance(store, GcsStore):
        start = f"{store.prefix}/" if store.prefix else ""
        return f"gs://{store.bucket}/{start}{path}", _bucket_options(os.environ.get(EMULATOR_VARIABLE))
    raise StoreMisconfigured(f"a {type(store).__name__} cannot be opened by a Delta library; use a folder or a bucket")


def _bucket_options(emulator: str | None) -> dict[str, str]:
    return emulator_options(emulator) if emulator else {}


def emulator_options(url: str) -> dict[str, str]:
    """Return the `storage_options` with which a Delta library reaches the emulator at `url`.

    The option to leave out signatures is not enough: the library obeys it for reads only, and asks for a token before
    it writes. With a key that disables token requests it writes as it does to the real store.
    """
    key = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    return {
        "google_service_account_key": orjson.dumps(key).decode(),
        "allow_http": str(url.startswith("http://")).lower(),
    }
