"""Object paths: the validator of relative paths, the scope prefix, and the checks of components.

See docs/formats.md#scope.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NewType

ObjectPath = NewType("ObjectPath", str)
"""The name of an object, relative to its scope unless it comes from `Scope.full`.

One that begins with a slash lies in the scope's tables area, and what follows the slash is its name in the bucket.
"""

MAX_VERSION: Final = 2**63 - 1
"""The greatest table version: Delta versions are signed 64-bit integers."""

RESERVED_FOLDERS: Final = frozenset(
    {
        ".springline",
        "_catalog",
        "_inbox",
        "canary",
        "commits",
        "delta",
        "effects",
        "events",
        "ledger",
        "locks",
        "logs",
        "manifests",
        "orchestration",
        "outputs",
        "quarantine",
        "receipts",
        "run_keys",
        "sequence",
        "snapshots",
        "state",
        "transactions",
        "uc",
    }
)
"""First segments of a workspace's own objects (docs/formats.md#layout) and of the local store's files: no table may
live there."""

TABLES_FOLDER: Final = "tables"
"""The folder of the bucket that holds every workspace's tables area."""

MAX_SCOPE_NAME: Final = 245
"""Bytes of the name of a tenant or a workspace: with `workspace=` they are a folder's name, of which file systems take
255 bytes."""

_NAME: Final = f"[a-z0-9_-]{{1,{MAX_SCOPE_NAME}}}"
_SCOPE_NAME = re.compile(_NAME)
_IN_SCOPE: Final = re.compile(f"tenant=(?P<tenant>{_NAME})/workspace=(?P<workspace>{_NAME})/")
_TABLES_AREA = re.compile(f"/{TABLES_FOLDER}/{_NAME}/{_NAME}/")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9_.=-]*)*")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONTROL: Final = ("\r", "\n", "\0")
_SHOWN: Final = 200


class InvalidPath(ValueError):
    """An invalid path or component of a path.

    `field` names the input, `value` is its value, `remedy` says what would be accepted.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(field, value, remedy)
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > _SHOWN:
            shown = shown[:_SHOWN] + "..."
        return f"{self.field} {shown} is not valid: {self.remedy}"


def is_plain(text: str) -> bool:
    """Say whether a path needs no full check: it is safe, and no segment is empty or begins with a dot."""
    return _PLAIN.fullmatch(text) is not None


def scope_of(name: str) -> Scope | None:
    """Return the workspace whose prefix a name, relative to the bucket, lies under; None if there is none."""
    found = _IN_SCOPE.match(name)
    return None if found is None else Scope(found["tenant"], found["workspace"])


def behind_scope(scope: Scope) -> ObjectPath:
    """Return the name after which a listing of the bucket continues to skip everything under a workspace's prefix."""
    return ObjectPath(f"{scope.prefix}0")  # The character after the slash.


def scopes_begin() -> tuple[ObjectPath, ObjectPath]:
    """Return the prefix, and the name to start after, with which a listing begins at the workspaces' prefixes."""
    return ObjectPath(""), ObjectPath("tenant=")


def lies_in_a_scope(name: str) -> bool:
    """Say whether a name, relative to the bucket, begins like the prefix of some workspace (docs/formats.md#scope)."""
    return name.startswith("tenant=")


@dataclass(frozen=True, slots=True)
class Scope:
    """One workspace of one tenant: everything it stores lies under its prefix (docs/formats.md#scope), or in its tables
    area.

    The tables area holds only tables. No folder above it is named `name=value`, which readers of tables would take for
    a partition. Paths of the two areas cannot be confused: `full` makes names that begin with `tenant=` from relative
    paths, and names that begin with `tables/` from paths that begin with a slash.

    Raises `InvalidPath` for a name that is empty, longer than `MAX_SCOPE_NAME`, or holds anything but `a-z 0-9 - _`.
    """

    tenant: str
    workspace: str
    prefix: str = dataclasses.field(init=False, repr=False, compare=False)
    """The prefix without its trailing slash, such as `tenant=acme/workspace=prod`."""
    tables: str = dataclasses.field(init=False, repr=False, compare=False)
    """The tables area in the bucket, without its trailing slash, such as `tables/acme/prod`."""

    def __post_init__(self) -> None:
        _scope_name("tenant", self.tenant)
        _scope_name("workspace", self.workspace)
        object.__setattr__(self, "prefix", f"tenant={self.tenant}/workspace={self.workspace}")
        object.__setattr__(self, "tables", f"{TABLES_FOLDER}/{self.tenant}/{self.workspace}")

    def full(self, path: ObjectPath) -> ObjectPath:
        """Return the bucket-wide name of a `path` of this scope; raises `InvalidPath` if it is not valid.

        A path that begins with a slash must lie in this scope's own tables area.
        """
        if isinstance(path, str) and path.startswith("/"):
            if not path.startswith(f"/{self.tables}/"):
                raise InvalidPath("path", path, f"name an object of the workspace, or one under /{self.tables}/")
            return ObjectPath(workspace_path(path)[1:])
        return _full(self.prefix, path)

    def full_of_all(self, paths: Iterable[ObjectPath]) -> list[ObjectPath]:
        """Return the bucket-wide names of many paths; raises as `full`."""
        prefix, plain = self.prefix, _PLAIN.fullmatch
        return [ObjectPath(f"{prefix}/{path}") if plain(path) else self.full(path) for path in paths]

    def relative(self, full: str) -> ObjectPath:
        """Return the path of this scope whose bucket-wide name is `full`; raises `InvalidPath` if it lies outside."""
        if isinstance(full, str) and full.startswith(f"{self.tables}/"):
            return workspace_path(f"/{full}")
        return _relative(self.prefix, full)


@dataclass(frozen=True, slots=True)
class MetastoreScope:
    """One metastore of one tenant, named by the same alphabet as a workspace (docs/formats.md#scope)."""

    tenant: str
    metastore: str

    def __post_init__(self) -> None:
        _scope_name("tenant", self.tenant)
        _scope_name("metastore", self.metastore)

    @property
    def prefix(self) -> str:
        """Return the prefix without its trailing slash."""
        return f"tenant={self.tenant}/metastore={self.metastore}"

    def full(self, path: ObjectPath) -> ObjectPath:
        """Return the bucket-wide name of a scope-relative `path`; raises `InvalidPath` if it is not valid."""
        return _full(self.prefix, path)

    def relative(self, full: str) -> ObjectPath:
        """Return `full` without this scope's prefix; raises `InvalidPath` if it lies outside the scope."""
        return _relative(self.prefix, full)


def _scope_name(field: str, value: str) -> None:
    if not isinstance(value, str) or not _SCOPE_NAME.fullmatch(value):
        remedy = "use one or more lower-case letters a-z, digits, hyphens and underscores"
        raise InvalidPath(field, value, f"{remedy}, at most {MAX_SCOPE_NAME}")


def _full(prefix: str, path: str) -> ObjectPath:
    return ObjectPath(f"{prefix}/{relative_path(path)}")


def _relative(prefix: str, full: str) -> ObjectPath:
    if not isinstance(full, str) or not full.startswith(prefix + "/"):
        raise InvalidPath("path", full, f"name an object under {prefix}/")
    return relative_path(full.removeprefix(prefix + "/"))


def lies_under(path: str, prefix: str) -> bool:
    """Say whether a list of `prefix` may answer `path` (docs/formats.md#scope).

    A prefix without a trailing slash is a folder: it covers itself and what lies below it, not its namesakes.
    The empty prefix covers everything. Raises `InvalidPath` for an unsafe prefix.
    """
    relative_path(prefix, field="prefix")
    if prefix == "" or prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + "/")


def page_cursor(cursor: str, prefix: str) -> ObjectPath:
    """Check a page cursor, which lies inside the listed `prefix`, and return it (docs/formats.md#scope)."""
    checked = relative_path(cursor, field="cursor")
    if not lies_under(checked, prefix):
        raise InvalidPath("cursor", cursor, f"give a path under {prefix!r}, as an earlier page returned it")
    return checked


def relative_path(text: str, *, field: str = "path") -> ObjectPath:
    r"""Check a path that a caller supplies and return it unchanged (docs/formats.md#scope).

    It does not start with `/`, holds no `\`, no `%`, no CR, LF or NUL, and no segment `.` or `..`; empty
    segments and the empty string pass. Raises `InvalidPath` naming `field`.
    """
    if not isinstance(text, str):
        raise InvalidPath(field, text, "give a string")
    if _PLAIN.fullmatch(text):
        return ObjectPath(text)
    if text.startswith("/"):
        raise InvalidPath(field, text, "give a path relative to the workspace, without a leading slash")
    _refuse_unsafe(field, text)
    return ObjectPath(text)


def workspace_path(text: str, *, field: str = "path") -> ObjectPath:
    """Check a path of a workspace's object in the form that stored objects have, and return it unchanged.

    It is one that `relative_path` accepts, or one of a tables area: `/tables/{tenant}/{workspace}/` and a relative
    path, which may be empty. Only `Scope.full` checks whose area it is. Raises `InvalidPath` naming `field`.
    """
    if not isinstance(text, str) or not text.startswith("/"):
        return relative_path(text, field=field)
    area = _TABLES_AREA.match(text)
    if area is None:
        raise InvalidPath(field, text, f"give a path relative to the workspace, or one under /{TABLES_FOLDER}/")
    try:
        relative_path(text[area.end() :])
    except InvalidPath as error:
        raise InvalidPath(field, text, error.remedy) from None
    return ObjectPath(text)


def area_and_folder(path: str) -> tuple[str, str]:
    """Return the tables area (`/tables/{tenant}/{workspace}`) that a path begins with, and the rest without a slash.

    The area is empty for a path relative to the workspace.
    """
    area = _TABLES_AREA.match(path)
    return ("", path) if area is None else (area[0][:-1], path[area.end() :])


def segment(field: str, text: str) -> str:
    """Check one path segment and return it: a safe relative path, not empty, without `/`.

    See docs/formats.md#scope, docs/formats.md#reserved-names.
    """
    if not isinstance(text, str) or text == "":
        raise InvalidPath(field, text, "give a string that is not empty")
    if "/" in text:
        raise InvalidPath(field, text, "give a single path segment, without a slash")
    _refuse_unsafe(field, text)
    return text


def strict_path(field: str, text: str) -> str:
    """Check a relative path that is not empty and has no empty segment, and return it."""
    relative_path(text, field=field)
    if "" in text.split("/"):
        raise InvalidPath(field, text, "give path segments that are not empty, without a slash at either end")
    return text


def _refuse_unsafe(field: str, text: str) -> None:
    if "\\" in text:
        raise InvalidPath(field, text, "use / between segments; a backslash is not allowed")
    if "%" in text:
        raise InvalidPath(field, text, "give the path unencoded; a percent sign is not allowed")
    if any(mark in text for mark in _CONTROL):
        raise InvalidPath(field, text, "remove the carriage return, line feed or NUL")
    if any(part in (".", "..") for part in text.split("/")):
        raise InvalidPath(field, text, "remove the segments . and ..")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidPath(field, text, "use characters that UTF-8 can encode") from None


def canonical_uuid(field: str, text: str) -> str:
    """Check a UUID in its lower-case hyphenated form and return it (docs/formats.md#delta-objects)."""
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        raise InvalidPath(
            field,
            text,
            "give a UUID in lower-case hyphenated form, such as 01946b1c-0000-7000-8000-0000000000aa",
        )
    return text


def count(field: str, value: int, *, least: int = 0, most: int = MAX_VERSION) -> int:
    """Check an integer between `least` and `most` and return it."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidPath(field, value, f"give an integer from {least} to {most}")
    return value


def sha256_of(field: str, text: str) -> str:
    """Return the lower-case hex SHA-256 of the UTF-8 bytes of `text`, which replaces the text in an object's name."""
    if not isinstance(text, str):
        raise InvalidPath(field, text, "give a string")
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise InvalidPath(field, text, "use characters that UTF-8 can encode") from None
