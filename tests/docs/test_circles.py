"""No module, and no room, imports another one that imports it, on whatever way: in the product, and in the benches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from functools import cache
from graphlib import CycleError, TopologicalSorter

import grimp

PACKAGES = ("springline", "workflows", "activities", "entrypoints", "bench")


def circle_in(imports: Mapping[str, Set[str]]) -> list[str]:
    """Return modules of which each is imported by the next, the last being the first again; empty if there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@cache
def imports() -> dict[str, set[str]]:
    """Return what each module imports, imports for types alone included."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def room_of(module: str) -> str:
    """Return the package of the picture in docs/architecture.md that a module belongs to."""
    return ".".join(module.split(".")[:2]) if module.startswith("springline.") else module.split(".", maxsplit=1)[0]


def test_modules_import_each_other_in_no_circle() -> None:
    assert len(imports()) > 250
    assert circle_in(imports()) == []


def test_rooms_import_each_other_in_no_circle() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, imported in imports().items():
        rooms[room_of(module)] |= {room_of(other) for other in imported} - {room_of(module)}
    assert len(rooms) > 20
    assert circle_in(rooms) == []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []
