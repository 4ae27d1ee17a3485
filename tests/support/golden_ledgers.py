"""The golden ledgers, ready to be folded."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from springline.paths import ObjectPath, Scope
from springline.storage.memory import MemoryStore

FOLDER = Path(__file__).parents[1] / "golden" / "ledgers"
NAMES = sorted(folder.name for folder in FOLDER.iterdir())
SCOPE = Scope("acme", "prod")


@dataclass(frozen=True)
class Ledger:
    """Objects by path, the paths as they are delivered, and the in-order fold of all of them."""

    bodies: dict[str, bytes]
    paths: list[str]
    state: dict[str, Any]

    def store(self) -> MemoryStore:
        """Return a store of the workspace alone that holds the events."""
        store = MemoryStore()
        for path, body in self.bodies.items():
            store.seed(ObjectPath(path), body)
        return store


@cache
def ledger(name: str) -> Ledger:
    folder = FOLDER / name
    lines = [json.loads(line) for line in gzip.decompress((folder / "ledger.jsonl.gz").read_bytes()).splitlines()]
    return Ledger(
        {line["path"]: line["body"].encode() for line in lines},
        unpacked(folder / "manifest.json.gz")["event_paths"],
        unpacked(folder / "state.json.gz"),
    )


def unpacked(file: Path) -> Any:
    return json.loads(gzip.decompress(file.read_bytes()))
