"""Finds unknown `SPRINGLINE_*` variables, so that a misspelt one does not pass for one that is not set."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from springline.config import PREFIX, Settings

_OF_COMMANDS = frozenset(
    {"API_URL", "TOKEN", "TOKEN_FILE", "PROFILE", "TENANT", "WORKSPACE", "CACHE_DIR", "TEMPORAL_CLI", "MEMORY_LIMIT"}
)
_OF_TESTS = frozenset(
    {"TEST_SERVER", "TEST_SEED", "FAKE_GCS_SERVER", "PROMTOOL", "RECORD_HISTORIES", "MAX_CACHED_WORKFLOWS"}
)
_OF_THE_DEMO = frozenset({"DEMO_FOLDER", "DEMO_TASK_SECONDS", "BENCH_READ_SECONDS"})
"""Of the demo's pipeline and of benchmarks."""
KNOWN = frozenset(
    f"{PREFIX}{name}"
    for name in (*(name.upper() for name in Settings.model_fields), *_OF_COMMANDS, *_OF_TESTS, *_OF_THE_DEMO)
)


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """Return unknown variables that look like ours, each with the nearest known one, None if none is near."""
    unknown: dict[str, str | None] = {}
    for name in sorted(environment):
        plain = name.upper()
        ours = plain.startswith(PREFIX) or get_close_matches(plain.split("_")[0], [PREFIX.rstrip("_")], 1, 0.85)
        if not ours or name in KNOWN:
            continue
        nearest = get_close_matches(plain, KNOWN, 1, 0.8)
        if plain.startswith(PREFIX) or nearest:
            unknown[name] = nearest[0] if nearest else None
    return unknown
