"""Where in a workspace a table may live: folders of its own, apart from everything the workspace stores itself."""

from __future__ import annotations

from springline import paths
from springline.errors import Code, Refused, refused

MAX_DEPTH = 32
_ANY_ID = "00000000-0000-0000-0000-000000000000"


def roots_of_location(location: str, scope: paths.Scope, store_url: str | None) -> tuple[str, ...]:
    """Return the roots that a `location` may mean in the store `store_url`, as `springline.paths.table_roots` does.

    Raises `Refused` (`INVALID_PATH`) if it lies outside the workspace, or is no folder of it that a table may have.
    """
    try:
        roots = paths.table_roots(location, scope, store_url)
    except paths.InvalidPath as error:
        raise refused(Code.INVALID_PATH, str(error), field="location", value=location, remedy=error.remedy) from None
    for root in roots:
        _check(root, location)
    return roots


def _check(root: str, location: str) -> None:
    """Raise `Refused` (`INVALID_PATH`) if no table may have this root."""
    area, folder = paths.area_and_folder(root)
    segments = folder.split("/")
    if "" in segments:
        raise _bad(location, "has an empty segment", "write one slash between folders")
    if len(segments) > MAX_DEPTH:
        raise _bad(location, f"is deeper than {MAX_DEPTH} folders", "choose a shorter one")
    if paths.DELTA_LOG_FOLDER in segments:
        raise _bad(location, "is inside a table's log", "name the table's folder, the one that holds the log")
    if not area and segments[0] in paths.RESERVED_FOLDERS:
        raise _bad(location, f"is in {segments[0]!r}, where the workspace keeps its own objects", "choose another")
    if any(default_owner(ancestor) is not None for ancestor in ancestors(root)):
        raise _bad(location, "is inside another table's default location", "choose a folder outside it")
    if default_owner(f"{root}/{_ANY_ID}") is not None:
        raise _bad(location, "is the folder of all default locations", "name a folder below it")


def check_new_root(root: str, location: str) -> None:
    """Raise `Refused` (`INVALID_PATH`) if a table that is made now may not have this root; one that is there may."""
    _, folder = paths.area_and_folder(root)
    pair = next((segment for segment in folder.split("/") if "=" in segment), None)
    if pair is not None:
        problem = f"has the folder {pair!r}, which engines take for a partition column and its value"
        raise _bad(location, problem, "name folders without =")


def default_owner(root: str) -> str | None:
    """Return the id of the table whose default location, of old or new, `root` is; None if it is nobody's.

    Nobody else may have that root: a table with a coordinator and no registry entry is looked for there
    (docs/protocol.md#rule-2), so another id there would give one log two sequencers.
    """
    area, folder = paths.area_and_folder(root)
    table_id = folder if area else folder.rpartition("/")[2]
    try:
        paths.table_id(table_id)
    except paths.InvalidPath:
        return None
    return table_id if area or paths.default_table_root(table_id) == root else None


def ancestors(root: str) -> list[str]:
    """Return the folders of the workspace that contain `root` and might be tables, outermost first."""
    area, folder = paths.area_and_folder(root)
    segments = folder.split("/")
    before = f"{area}/" if area else ""
    return [before + "/".join(segments[:count]) for count in range(1, len(segments))]


def _bad(location: str, problem: str, remedy: str) -> Refused:
    return refused(
        Code.INVALID_PATH, f"location {location!r} {problem}", field="location", value=location, remedy=remedy
    )
