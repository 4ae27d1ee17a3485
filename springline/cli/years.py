"""Years of partitions that were probably not meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from springline.cli.documents import hint

_DATED: Final = re.compile(r"([0-9]{4})-[0-9]{2}(?![0-9])")


def hint_of_years_ahead(keys: Iterable[str | None], remedy: str) -> None:
    """Tell of the first partition whose year is neither this nor the next one but later, which is often mistyped.

    Such a partition may well be asked for, so that nothing is refused. `remedy` says what takes the request back.
    """
    latest = datetime.now(UTC).year + 1
    for key in keys:
        years = [] if key is None else [int(found[1]) for part in key.split("|") if (found := _DATED.match(part))]
        if max(years, default=0) > latest:
            hint(f"partition {key} is of the year {max(years)}: if another one was meant, {remedy}")
            return
