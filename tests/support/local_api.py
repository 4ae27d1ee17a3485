"""What the HTTP surface needs, over any store and with the real protocol behind it: no Temporal."""

from __future__ import annotations

from springline.api.auth import SharedSecret, TokenVerifier
from springline.api.location import table_location
from springline.api.ports import Deps
from springline.commit.coalescer import Coalescer
from springline.storage.port import ObjectStore
from tests.support.local_ledger import LocalLedger
from tests.support.local_rebuilds import LocalRebuilds
from tests.support.local_sequencer import LocalSequencer, LocalTables, new_name

SECRET = "a secret of the tests, 32 bytes or more"


def local_deps(
    store: ObjectStore, sequencer: LocalSequencer, coalescer: Coalescer, *, url: str = "memory://lake"
) -> Deps:
    """Return the dependencies of an API over a store, which clients reach by `url`."""
    return Deps(
        store=store,
        tables=LocalTables(store),
        commits=coalescer,
        sequencers=sequencer,
        ledger=LocalLedger(store),
        rebuilds=LocalRebuilds(store),
        verifier=TokenVerifier(SharedSecret(SECRET)),
        location=lambda scope, root: table_location(url, scope, root),
        new_name=new_name,
    )
