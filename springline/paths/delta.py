"""Paths of Delta tables: the protocol's own objects and the table's log (S 1.8, design 10)."""

from __future__ import annotations

import re
from typing import Final

from springline.paths.scope import (
    MAX_VERSION,
    InvalidPath,
    ObjectPath,
    Scope,
    canonical_uuid,
    count,
    relative_path,
    segment,
    sha256_of,
    strict_path,
)

_NAMESPACE: Final = "delta"
DELTA_LOG_FOLDER: Final = "_delta_log"
"""The name of the folder of a table's log, which no table's root may contain."""

_ABSOLUTE_LOCATION = re.compile(r"(?P<store>.+)/tenant=(?P<tenant>[^/]+)/workspace=(?P<workspace>[^/]+)")
_LOCATION_BUCKET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*(?:/|\Z)")
_LOG = re.compile(r"(?P<root>.+)/_delta_log/(?P<version>[0-9]{20})\.json", re.DOTALL)
_CHECKPOINT = re.compile(
    r"(?P<root>.+)/_delta_log/(?P<version>[0-9]{20})\.checkpoint(?:\.[0-9]{10}\.[0-9]{10})?\.parquet", re.DOTALL
)
_MAX_PARTS: Final = 9_999_999_999


def table_id(text: str) -> str:
    """Return `text` if it is a canonical lower-case hyphenated UUID; raises `InvalidPath` otherwise."""
    return canonical_uuid("table_id", text)


def delta_coordinator(table: str) -> ObjectPath:
    """Return the name of a table's coordinator object."""
    return ObjectPath(f"{_NAMESPACE}/coordinator/{table_id(table)}.json")


def delta_staging_prefix(table: str) -> ObjectPath:
    """Return the prefix, with its trailing slash, under which a table's payloads are staged."""
    return ObjectPath(f"{_NAMESPACE}/staging/{table_id(table)}/")


def delta_staged(table: str, name: str) -> ObjectPath:
    """Return the name of a staged payload; `name` is one segment, without `.json`."""
    return ObjectPath(f"{delta_staging_prefix(table)}{segment('staged name', name)}.json")


def parse_delta_staged(table: str, path: str) -> str:
    """Return the name in a staged payload's path.

    Raises `InvalidPath` (field `staged_path`) when the path is unsafe, lies outside the table's staging
    prefix or deeper than one level, or does not end in `.json`.
    """
    prefix = delta_staging_prefix(table)
    relative_path(path, field="staged_path")
    if not path.startswith(prefix):
        raise InvalidPath("staged_path", path, f"name an object under {prefix}, the table's staging prefix")
    name = path.removeprefix(prefix).removesuffix(".json")
    if path != f"{prefix}{name}.json" or name == "" or "/" in name:
        raise InvalidPath("staged_path", path, f"name an object directly under {prefix} that ends in .json")
    try:
        return segment("staged_path", name)
    except InvalidPath as error:
        raise InvalidPath("staged_path", path, error.remedy) from None


def delta_marker(table: str, key: str) -> ObjectPath:
    """Return the name of the idempotency marker of the raw `key` (S 1.8)."""
    digest = sha256_of("idempotency_key", key)
    return ObjectPath(f"{_NAMESPACE}/idempotency/{table_id(table)}/{digest[:2]}/{digest}.json")


def default_table_root(table: str) -> str:
    """Return the root of a table that has no location of its own."""
    return f"tables/{table_id(table)}"


def table_root(location: str, scope: Scope) -> str:
    r"""Return the scope-relative root that a table's `location` means (S 1.8).

    White space around it, a leading `scheme://bucket/`, the prefix of this very scope and slashes at both ends
    are removed; another scope's prefix stays and becomes a sub-path of this one. Raises `InvalidPath` (field
    `location`) if nothing is left, or if it holds `\`, `%`, CR, LF, NUL or a segment `.` or `..`.
    """
    if not isinstance(location, str):
        raise InvalidPath("location", location, "give a string")
    text = location.strip()
    bucket = _LOCATION_BUCKET.match(text)
    if bucket is not None:
        text = text[bucket.end() :]
    text = text.removeprefix(scope.prefix + "/").strip("/")
    if text == "":
        raise InvalidPath("location", location, "name a folder inside the workspace")
    try:
        return relative_path(text, field="location")
    except InvalidPath as error:
        raise InvalidPath("location", location, error.remedy) from None


def split_location(location: str, root: str) -> tuple[str, Scope]:
    """Return store URL and scope of a table's absolute `location`, which ends in scope prefix and `root`.

    Raises `InvalidPath` (field `location`) if it does not.
    """
    match = _ABSOLUTE_LOCATION.fullmatch(location.rstrip("/").removesuffix("/" + _root(root)))
    if match is None or not location.rstrip("/").endswith("/" + root):
        raise InvalidPath("location", location, f"give the URL of a table of a workspace, ending in /{root}")
    return match["store"], Scope(match["tenant"], match["workspace"])


def _root(root: str) -> str:
    relative_path(root, field="table root")
    if root == "" or root.endswith("/"):
        raise InvalidPath("table root", root, "give a folder's path that is not empty and has no slash at its end")
    return root


def delta_log_dir(root: str) -> ObjectPath:
    """Return the folder of a table's log, without a trailing slash."""
    return ObjectPath(f"{_root(root)}/{DELTA_LOG_FOLDER}")


def delta_log(root: str, version: int) -> ObjectPath:
    """Return the name of the log file of `version`, from 0 to 2**63 - 1."""
    return ObjectPath(f"{delta_log_dir(root)}/{count('version', version):020}.json")


def parse_delta_log(path: str) -> tuple[str, int] | None:
    """Return table root and version of a log file's path, or None if it is no log file's path."""
    return _root_and_version(_LOG, path)


def delta_last_checkpoint(root: str) -> ObjectPath:
    """Return the name of the object that points readers to a table's newest checkpoint."""
    return ObjectPath(f"{delta_log_dir(root)}/_last_checkpoint")


def delta_checkpoint(root: str, version: int) -> ObjectPath:
    """Return the name of the classic single-part checkpoint of `version`."""
    return ObjectPath(f"{delta_log_dir(root)}/{count('version', version):020}.checkpoint.parquet")


def delta_checkpoint_parts(root: str, version: int, parts: int) -> list[ObjectPath]:
    """Return the names of the classic checkpoint of `version` in `parts` parts, at least 1, in order."""
    total = count("checkpoint parts", parts, least=1, most=_MAX_PARTS)
    start = f"{delta_log_dir(root)}/{count('version', version):020}.checkpoint"
    return [ObjectPath(f"{start}.{part:010}.{total:010}.parquet") for part in range(1, total + 1)]


def parse_delta_checkpoint(path: str) -> tuple[str, int] | None:
    """Return table root and version of a classic checkpoint's path (any part), or None for another path."""
    return _root_and_version(_CHECKPOINT, path)


def _root_and_version(pattern: re.Pattern[str], path: str) -> tuple[str, int] | None:
    match = pattern.fullmatch(path)
    if match is None:
        return None
    version = int(match["version"])
    if version > MAX_VERSION:
        return None
    try:
        return _root(match["root"]), version
    except InvalidPath:
        return None


def delta_data_file(root: str, name: str) -> ObjectPath:
    """Return the name of a data file; `name` is relative to the root and may lie in partition folders.

    Raises `InvalidPath` for an unsafe name, an empty segment, or one inside the table's log folder.
    """
    strict_path("data file", name)
    if name.split("/", 1)[0] == DELTA_LOG_FOLDER:
        raise InvalidPath("data file", name, f"write data files outside {DELTA_LOG_FOLDER}")
    return ObjectPath(f"{_root(root)}/{name}")


def delta_scratch(root: str, key: str, attempt: str) -> ObjectPath:
    """Return the folder where one attempt at the request of an idempotency key writes a table's data files.

    `attempt` is one segment. It is no partition's folder: names of such hold `=`.
    """
    name = f"{canonical_uuid('idempotency_key', key)}/{segment('attempt', attempt)}"
    return ObjectPath(f"{_root(root)}/{name}")


def table_entry(table: str) -> ObjectPath:
    """Return the name of a table's registry entry."""
    return ObjectPath(f"{_NAMESPACE}/tables/{table_id(table)}.json")


def root_claim(root: str) -> ObjectPath:
    """Return the name of the claim that lets one table only have the root `root`."""
    return ObjectPath(f"{_NAMESPACE}/roots/{sha256_of('table root', _root(root))}.json")


def name_claim(name: str) -> ObjectPath:
    """Return the name of the claim that lets one table only have the name `name`."""
    if name == "":
        raise InvalidPath("table name", name, "give a name that is not empty")
    return ObjectPath(f"{_NAMESPACE}/names/{sha256_of('table name', name)}.json")


def unity_preview(table: str) -> ObjectPath:
    """Return the name of the Unity facade's preview backfill of a table (S 1.8)."""
    return ObjectPath(f"uc/delta_preview/{table_id(table)}.json")
