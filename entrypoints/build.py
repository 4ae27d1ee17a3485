"""The build id of a worker's code, for its Worker Deployment version."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

RUNS_WORKFLOWS = ("worker", "entrypoints", "workflows", "activities", "springline")
"""Modules whose code decides how a worker runs and replays workflows."""


@lru_cache(maxsize=1)
def computed_build_id() -> str:
    """Return `{version}-{hash}`, of the installed version and of every source file that a worker runs.

    The same sources have the same id on every machine; any change of them has another.
    """
    try:
        number = version("springline")
    except PackageNotFoundError:
        number = "0"
    return f"{number}-{source_hash(RUNS_WORKFLOWS)[:12]}"


def source_hash(modules: tuple[str, ...]) -> str:
    """Return the SHA-256, in hex, over names and contents of the Python files of `modules`."""
    digest = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        origin = None if spec is None else spec.origin
        if origin is None:
            raise ModuleNotFoundError(f"no module named {module!r}")
        top = Path(origin)
        is_package = top.name == "__init__.py"
        for file in sorted(top.parent.rglob("*.py")) if is_package else [top]:
            name = f"{module}/{file.relative_to(top.parent).as_posix()}" if is_package else module
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
