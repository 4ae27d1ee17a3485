"""Opening tables with the Delta library: location, options, and whether the library works in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import deltalake

from springline import paths
from springline.errors import Code, refused
from springline.paths import Scope
from springline.storage.delta_uri import emulator_options

ENGINE_INFO = f"Springline-Python delta-rs:py-{deltalake.__version__}"
"""How commits of this client name the engine that wrote their files."""

EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"


def storage_options(location: str) -> dict[str, str]:
    """Return the `storage_options` that `deltalake` needs with a table's location.

    A folder needs none. For a bucket the library finds the same default credentials as Google's own client; an
    emulator is taken from the environment. Of the emulators, fake-gcs-server serves the library's reads and refuses its
    writes; the one in docker-compose.yml accepts them.
    """
    emulator = os.environ.get(EMULATOR_VARIABLE)
    if not location.startswith("gs://") or not emulator:
        return {}
    return emulator_options(emulator)


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a table: `store_url`, `scope` and `root` for our stores, `location` for a Delta library."""

    location: str
    store_url: str
    scope: Scope
    root: str

    @property
    def folder(self) -> Path | None:
        """Return the table's folder on this machine, None if it lies in a bucket."""
        parts = urlsplit(self.location)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def uri(self) -> str:
        """Return the URI by which a Delta library opens the table."""
        folder = self.folder
        return self.location if folder is None else str(folder)


def place_of(location: str, root: str, store_url: str | None = None) -> Place:
    """Return the place of a table with this `location` and `root`; `store_url` overrides the store that it names."""
    found, scope = paths.split_location(location, root)
    if store_url is not None and store_url.rstrip("/") != found.rstrip("/"):
        location = store_url.rstrip("/") + location.removeprefix(found.rstrip("/"))
        found = store_url
    return Place(location, found, scope, root)


def open_table(place: Place, version: int | None = None) -> deltalake.DeltaTable:
    """Open the table at `version` (default: the newest) with the Delta library."""
    check_process()
    return deltalake.DeltaTable(place.uri, version=version, storage_options=storage_options(place.location))


_first_process: int | None = None


def check_process() -> None:
    """Raise `Refused` if the Delta library was used before this process was forked: a fork lacks its threads.

    Call it before every use of the library that reads or writes.
    """
    global _first_process  # noqa: PLW0603 - one a process, as the library's own runtime is
    if _first_process is None:
        _first_process = os.getpid()
    elif _first_process != os.getpid():
        refuse_forked()


def refuse_forked() -> NoReturn:
    """Raise the refusal of a process that was forked after its parent had used the Delta library."""
    raise refused(
        Code.INVALID_REQUEST,
        "this process was forked after its parent had used the Delta library, whose threads do not live in a fork",
        field="process",
        value=os.getpid(),
        remedy="Start processes by spawn or forkserver (multiprocessing.set_start_method), or fork before the first "
        "write or read of a table.",
    )


def is_forked_panic(error: BaseException) -> bool:
    """Say whether an error is the library's own panic after a fork, if code outside this client had used it before."""
    return type(error).__name__ == "PanicException" and "Forked process" in str(error)
