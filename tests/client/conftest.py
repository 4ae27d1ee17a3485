"""The Python client against the real HTTP surface on a port of its own, over a folder, without Temporal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from springline.api.tokens import make_token
from springline.client import Springline
from springline.storage.local import LocalStore
from springline.storage.port import ObjectStore
from tests.support.local_api import ACME, SECRET, serving


@dataclass(frozen=True)
class Folder:
    """An API over a folder: where it is, and what was asked of it."""

    url: str
    token: str
    root: Path
    store: ObjectStore
    calls: list[str]

    def connect(self) -> Springline:
        return Springline(self.url, self.token, deadline_s=20)

    def data_files(self) -> set[Path]:
        return {path for path in self.root.rglob("*.parquet") if "_delta_log" not in path.parts}


@contextmanager
def serving_folder(store: ObjectStore, url: str, root: Path) -> Iterator[Folder]:
    """Serve the HTTP surface over a store, which clients reach by `url`."""
    calls: list[str] = []
    with serving(store, url=url, calls=calls) as address:
        yield Folder(address, make_token(SECRET, ACME, subject="tester"), root, store, calls)


@pytest.fixture(scope="session")
def _folder_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    root = tmp_path_factory.mktemp("lake")
    with serving_folder(LocalStore(root, fsync=False), f"file://{root}", root) as folder:
        yield folder


@pytest.fixture
def folder(_folder_session: Folder) -> Folder:
    """One API for all tests of a process: each makes tables of its own."""
    _folder_session.calls.clear()
    return _folder_session


@pytest.fixture
def lake(folder: Folder) -> Iterator[Springline]:
    with folder.connect() as made:
        yield made
