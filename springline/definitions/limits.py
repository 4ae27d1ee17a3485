"""Limits of definitions, for the library and for the server alike."""

from __future__ import annotations

from typing import Final

MAX_ASSETS: Final = 5_000
"""Assets of one code location."""
MAX_WORKSPACE_ASSETS: Final = 20_000
MAX_DEPENDENCIES: Final = 1_000
MAX_RETRIES: Final = 100
MAX_PRIORITY: Final = 1_000
MAX_CODE_VERSION: Final = 200
MAX_DESCRIPTION: Final = 4_000
MAX_TAGS: Final = 50
MAX_TAG: Final = 200
"""Characters of a tag's name, of its value, and of an owner."""
MAX_OWNERS: Final = 20
