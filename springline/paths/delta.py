"""Paths of Delta tables: the protocol's own objects and the table's log.

See docs/formats.md#delta-objects, docs/formats.md#table-registry.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from springline.paths.scope import (
    MAX_VERSION,
    TABLES_FOLDER,
    InvalidPath,
    ObjectPath,
    Scope,
    area_and_folder,
    canonical_uuid,
    count,
    lies_in_a_scope,
    relative_path,
    segment,
    sha256_of,
    strict_path,
    workspace_path,
)

_NAMESPACE: Final = "delta"
DELTA_LOG_FOLDER: Final = "_delta_log"
"""The name of the folder of a table's log, which no table's root may contain."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_FILE_URL = re.compile(r"file://(?:localhost)?(?=/)")
_SCOPE_IN_PREFIX = re.compile(r"(?P<store>.+)/tenant=(?P<tenant>[^/]+)/workspace=(?P<workspace>[^/]+)", re.DOTALL)
_UNQUOTED: Final = "/=:@!$&'()*+,;~-._"
_LOG = re.compile(r"(?P<root>.+)/_delta_log/(?P<version>[0-9]{20})\.json", re.DOTALL)
_CHECKPOINT = re.compile(
    r"(?P<root>.+)/_delta_log/(?P<version>[0-9]{20})\.checkpoint(?:\.[0-9]{10}\.[0-9]{10})?\.parquet", re.DOTALL
)
_MAX_PARTS: Final = 9_999_999_999
_SHOWN: Final = 200


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
    """Return the name of the idempotency marker of the raw `key` (docs/formats.md#delta-objects)."""
    digest = sha256_of("idempotency_key", key)
    return ObjectPath(f"{_NAMESPACE}/idempotency/{table_id(table)}/{digest[:2]}/{digest}.json")


def delta_markers_prefix(table: str) -> ObjectPath:
    """Return the prefix, with its trailing slash, of a table's idempotency markers."""
    return ObjectPath(f"{_NAMESPACE}/idempotency/{table_id(table)}/")


def new_table_root(table: str, scope: Scope) -> str:
    """Return the root of a new table that has no location of its own: a folder of the workspace's tables area."""
    return f"/{scope.tables}/{table_id(table)}"


def default_table_root(table: str) -> str:
    """Return the root of a table that has a coordinator and no registry entry (docs/protocol.md#rule-2).

    Tables that were created without a location, before there was a tables area, have it, too.
    """
    return f"{TABLES_FOLDER}/{table_id(table)}"


class OutsideWorkspace(InvalidPath):
    """A location outside the workspace."""

    def __init__(self, location: str, scope: Scope, store_url: str | None) -> None:
        store = "" if store_url is None else f"{store_url.rstrip('/')}/"
        super().__init__(
            "location",
            location,
            f"name a folder of the workspace, such as warehouse/orders, or one under {store}{scope.tables}/ "
            f"or {store}{scope.prefix}/",
        )
        self.scope = scope

    def __str__(self) -> str:
        shown = repr(self.value)[:_SHOWN]
        return (
            f"location {shown} lies outside workspace {self.scope.workspace!r} of tenant {self.scope.tenant!r}: "
            f"{self.remedy}"
        )


def table_roots(location: str, scope: Scope, store_url: str | None) -> tuple[str, ...]:
    r"""Return the roots that a caller's `location` may mean: one, or two of which the first is for new tables.

    A folder of the workspace, such as `warehouse/orders`, has two: that folder of the tables area, or that of the
    workspace's prefix, where older tables are. A location that includes the workspace has one: the
    URL of a folder in the store `store_url`, its path in the bucket (`tables/{tenant}/{workspace}/...` with or
    without a slash before it, `tenant=.../workspace=.../...`), its path in the file system if the store is a
    folder, or `tables/{table_id}`, the former default. White space around it and slashes at its end are ignored.

    Raises `OutsideWorkspace` for all other URLs and absolute paths, and for paths of other workspaces; `InvalidPath`
    (field `location`) if no folder is left, or if it holds `\`, `%`, CR, LF, NUL or a segment `.` or `..`.
    """
    if not isinstance(location, str):
        raise InvalidPath("location", location, "give a string")
    text = location.strip()
    outside = OutsideWorkspace(location, scope, store_url)
    if text.startswith(f"/{scope.tables}/"):
        text = text[1:]
    elif _URL.match(text) or text.startswith("/"):
        inside = _inside_store(text, store_url)
        if inside is None or not inside.startswith((f"{scope.tables}/", f"{scope.prefix}/")):
            raise outside
        text = inside
    text = text.rstrip("/")
    try:
        relative_path(text, field="location")
        if text.startswith(f"{scope.tables}/"):
            return (workspace_path(f"/{text}", field="location"),)
        if text.startswith(f"{scope.prefix}/"):
            return (relative_path(text.removeprefix(f"{scope.prefix}/"), field="location"),)
    except InvalidPath as error:
        raise InvalidPath("location", location, error.remedy) from None
    first, _, rest = text.partition("/")
    if text in ("", scope.tables, scope.prefix):
        raise InvalidPath("location", location, "name a folder inside the workspace")
    if first == TABLES_FOLDER and (rest == "" or _is_table_id(rest.partition("/")[0])):
        return (text,)
    if first == TABLES_FOLDER or lies_in_a_scope(text):
        raise outside
    return f"/{scope.tables}/{text}", text


def _inside_store(text: str, store_url: str | None) -> str | None:
    """Return the name in the bucket of a URL or an absolute path; None if it lies outside the store."""
    if store_url is None:
        return None
    store, file = store_url.rstrip("/"), _FILE_URL.match(store_url)
    if file is not None:
        of_text = _FILE_URL.match(text)
        if of_text is not None:
            text = unquote(text[of_text.end() :])
        text, store = re.sub("/+", "/", text), re.sub("/+", "/", unquote(store[file.end() :]))
        return text.removeprefix(f"{store}/") if text.startswith(f"{store}/") else None
    return unquote(text.removeprefix(f"{store}/")) if text.startswith(f"{store}/") else None


def _is_table_id(text: str) -> bool:
    try:
        return table_id(text) == text
    except InvalidPath:
        return False


def quoted(full: str) -> str:
    """Return a bucket-wide name for use in a URL: characters such as a space are percent-encoded."""
    return quote(full, safe=_UNQUOTED)


def split_location(location: str, root: str) -> tuple[str, Scope]:
    """Return store URL and scope of a table's absolute `location`, which ends in the name of its `root` in the store.

    Raises `InvalidPath` (field `location`) if it does not.
    """
    given, end = location.rstrip("/"), f"/{_root(root).removeprefix('/')}"
    found = next((one for one in (end, quoted(end)) if given.endswith(one)), None)
    if found is not None:
        start = given[: -len(found)]
        area, _ = area_and_folder(root)
        if area:
            _, _, tenant, workspace = area.split("/")
            return start, Scope(tenant, workspace)
        match = _SCOPE_IN_PREFIX.fullmatch(start)
        if match is not None:
            return match["store"], Scope(match["tenant"], match["workspace"])
    raise InvalidPath("location", location, f"give the URL of a table of a workspace, ending in {end}")


def _root(root: str) -> str:
    workspace_path(root, field="table root")
    _, folder = area_and_folder(root)
    if folder == "" or root.endswith("/"):
        raise InvalidPath("table root", root, "give a folder's path that is not empty and has no slash at its end")
    return root


def delta_log_dir(root: str) -> ObjectPath:
    """Return the folder of a table's log, without a trailing slash."""
    return ObjectPath(f"{_root(root)}/{DELTA_LOG_FOLDER}")


def delta_log_prefix(root: str) -> ObjectPath:
    """Return the prefix, with its trailing slash, of the objects of a table's log."""
    return ObjectPath(f"{delta_log_dir(root)}/")


def delta_log(root: str, version: int) -> ObjectPath:
    """Return the name of the log file of `version`, from 0 to 2**63 - 1."""
    return ObjectPath(f"{delta_log_dir(root)}/{count('version', version):020}.json")


def parse_delta_log(path: str) -> tuple[str, int] | None:
    """Return table root and version of a log file's path, or None for another path."""
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
    """Return the folder in which one attempt at the request with an idempotency key writes a table's data files.

    `attempt` is one segment. Readers do not take it for a partition's folder, because it has no `=`.
    """
    name = f"{canonical_uuid('idempotency_key', key)}/{segment('attempt', attempt)}"
    return ObjectPath(f"{_root(root)}/{name}")


def table_entry(table: str) -> ObjectPath:
    """Return the name of a table's registry entry."""
    return ObjectPath(f"{_NAMESPACE}/tables/{table_id(table)}.json")


def table_entries_prefix() -> ObjectPath:
    """Return the prefix, with its trailing slash, of the registry's entries."""
    return ObjectPath(f"{_NAMESPACE}/tables/")


def parse_table_entry(path: str) -> str | None:
    """Return the table id in the path of a registry entry, or None for another path."""
    table = path.removeprefix(table_entries_prefix()).removesuffix(".json")
    return table if _is_table_id(table) and table_entry(table) == path else None


def root_claim(root: str) -> ObjectPath:
    """Return the name of the claim by which only one table can have the root `root`."""
    return ObjectPath(f"{_NAMESPACE}/roots/{sha256_of('table root', _root(root))}.json")


def name_claim(name: str) -> ObjectPath:
    """Return the name of the claim by which only one table can have the name `name`."""
    if name == "":
        raise InvalidPath("table name", name, "give a name that is not empty")
    return ObjectPath(f"{_NAMESPACE}/names/{sha256_of('table name', name)}.json")


def root_claims_prefix() -> ObjectPath:
    """Return the prefix, with its trailing slash, of the claims of roots."""
    return ObjectPath(f"{_NAMESPACE}/roots/")


def name_claims_prefix() -> ObjectPath:
    """Return the prefix, with its trailing slash, of the claims of names."""
    return ObjectPath(f"{_NAMESPACE}/names/")


def unity_preview(table: str) -> ObjectPath:
    """Return the name of the Unity facade's preview backfill of a table (docs/formats.md#delta-objects)."""
    return ObjectPath(f"uc/delta_preview/{table_id(table)}.json")
