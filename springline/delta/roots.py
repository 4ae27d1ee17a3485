"""Where in a workspace a table may live: folders of its own, apart from everything the workspace stores itself."""

from __future__ import annotations

from springline import paths
from springline.errors import Code, Refused, refused

MAX_DEPTH = 32
_ANY_ID = "00000000-0000-0000-0000-000000000000"


def root_of_location(location: str, scope: paths.Scope) -> str:
    """Return the scope-relative root that a `location` means (S 1.8).

    Raises `Refused` (`INVALID_PATH`) if it is not a folder of the workspace that a table may have.
    """
    try:
        root = paths.table_root(location, scope)
    except paths.InvalidPath as error:
        raise refused(Code.INVALID_PATH, str(error), field="location", value=location, remedy=error.remedy) from None
    segments = root.split("/")
    if "" in segments:
        raise _bad(location, "has an empty segment", "write one slash between folders")
    if len(segments) > MAX_DEPTH:
        raise _bad(location, f"is deeper than {MAX_DEPTH} folders", "choose a shorter one")
    if paths.DELTA_LOG_FOLDER in segments:
        raise _bad(location, "is inside a table's log", "name the table's folder, the one that holds the log")
    if segments[0] in paths.RESERVED_FOLDERS:
        raise _bad(location, f"is in {segments[0]!r}, where the workspace keeps its own objects", "choose another")
    if any(default_owner(ancestor) is not None for ancestor in ancestors(root)):
        raise _bad(location, "is inside another table's default location", "choose a folder outside it")
    if default_owner(f"{root}/{_ANY_ID}") is not None:
        raise _bad(location, "is the folder of all default locations", "name a folder below it")
    return root


def default_owner(root: str) -> str | None:
    """Return the id of the table whose default location `root` is, or None if it is nobody's.

    Nobody else may have that root: a table with a coordinator and no registry entry is looked for there
    (design 3.3 rule 2), so another id there would give one log two sequencers.
    """
    last = root.rsplit("/", 1)[-1]
    try:
        return last if paths.default_table_root(last) == root else None
    except paths.InvalidPath:
        return None


def ancestors(root: str) -> list[str]:
    """Return the folders that contain `root`, outermost first."""
    segments = root.split("/")
    return ["/".join(segments[:count]) for count in range(1, len(segments))]


def _bad(location: str, problem: str, remedy: str) -> Refused:
    return refused(
        Code.INVALID_PATH, f"location {location!r} {problem}", field="location", value=location, remedy=remedy
    )
