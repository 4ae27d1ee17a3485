"""HTML from values: every text is escaped, unless it is markup that was made here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

_LONGEST: Final = 2_000
"""Characters of a text that a page shows."""
_NO_TEXT: Final = {
    **{code: "�" for code in (*range(32), *range(127, 160)) if code not in (9, 10)},
    # What turns the direction of writing could make a name look like another.
    **{code: "�" for code in (0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069)},
    **{code: "�" for code in range(0xD800, 0xE000)},
}
_VOID: Final = frozenset({"meta", "link", "br", "rect", "line", "circle", "use", "path", "polyline", "polygon"})


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
Attribute = str | int | float | bool | None


def text(value: str) -> Markup:
    """Return any text as HTML that shows it: escaped, without characters that no page may hold, and not too long."""
    cut = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
    return Markup(escape(cut.translate(_NO_TEXT), quote=True))


def joined(*children: Child) -> Markup:
    """Return children behind each other: texts are escaped, markup stays, None is left out."""
    parts: list[str] = []
    _put(parts, children)
    return Markup("".join(parts))


def el(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element.

    Args:
        tag: its name, ours.
        children: texts, which are escaped, markup, or iterables of such.
        attributes: by name, ours, with `_` for `-` and one behind a word of Python's (`class_`); True stands alone,
            None and False are left out.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = name.rstrip("_").replace("_", "-")
        parts.append(f" {spelled}" if value is True else f' {spelled}="{_attribute(value)}"')
    if tag in _VOID and not children:
        parts.append(">" if tag in ("meta", "link", "br") else "/>")
        return Markup("".join(parts))
    parts.append(">")
    _put(parts, children)
    parts.append(f"</{tag}>")
    return Markup("".join(parts))


def _attribute(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return text(str(value))


def _put(parts: list[str], children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(text(child))
        else:
            _put(parts, child)
