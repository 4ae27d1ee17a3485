"""What a declaration selects: assets, or the terms of a selection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from springline.sdk.declaring import DeclaredNode


class NoTerm(ValueError):
    """A selection names what is neither an asset nor a text; `value` is that."""

    def __init__(self, value: Any) -> None:
        super().__init__(repr(value))
        self.value = value


def terms_of(value: Any) -> list[str]:
    """Return the terms of a selection as they are written, none for None: an asset, a text, or many; or raise `NoTerm`.

    In a text, spaces and commas separate terms.
    """
    if value is None:
        return []
    many = value if isinstance(value, Iterable) and not isinstance(value, str | DeclaredNode) else [value]
    found: list[str] = []
    for one in many:
        if isinstance(one, DeclaredNode):
            found.append(one.key)
        elif isinstance(one, str):
            found += one.replace(",", " ").split()
        else:
            raise NoTerm(one)
    return found
