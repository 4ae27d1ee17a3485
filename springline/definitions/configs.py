"""What a run's config may be: the API judges a request by these rules, the library what is made without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_CONFIG_BYTES: Final = 12 * 1024
"""A run's configuration as JSON: it is part of the run's events."""
MAX_CONFIG_DEPTH: Final = 50
MAX_CONFIG_FIELDS: Final = 1_000
"""Names on its outermost level."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """Why no run can have a config: `field` is the place, such as `config.days[0]`, and `message` goes on from it."""

    field: str
    value: Any
    message: str
    remedy: str


def problem_of_config(config: Mapping[str, Any]) -> ConfigProblem | None:
    """Return the first thing that is wrong with a run's config; None if nothing is."""
    import json  # noqa: PLC0415 - importing the library must be quick

    if len(config) > MAX_CONFIG_FIELDS:
        said = f"has {len(config)} fields, at most {MAX_CONFIG_FIELDS} are taken"
        return ConfigProblem("config", len(config), said, "Put some into an object of its own.")
    found = next(_unfit(config, "config", 1), None)
    if found is not None:
        return found
    # As long as its canonical JSON, for the order of names does not matter here.
    size = len(json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_CONFIG_BYTES:
        said = f"has {size} bytes, at most {MAX_CONFIG_BYTES} are taken"
        return ConfigProblem("config", size, said, "Put more into an object of its own, and its path into config.")
    return None


def _unfit(value: Any, path: str, depth: int) -> Iterator[ConfigProblem]:
    """Yield values that no event can hold."""
    if isinstance(value, float):
        remedy = f"Write it as a text, such as '{value!r}', or as a whole number in a smaller unit."
        said = "is written with a fraction, and events hold whole numbers only"
        yield ConfigProblem(path, value, said, remedy)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            said = "is a number that does not fit into 64 bits"
            yield ConfigProblem(path, value, said, "Write it as a text.")
    elif isinstance(value, str):
        if not _is_unicode(value):
            yield ConfigProblem(path, repr(value), "has a text that is not UTF-8", "Give repr() of it.")
    elif isinstance(value, dict | list | tuple):
        if depth > MAX_CONFIG_DEPTH:
            said = f"lies more than {MAX_CONFIG_DEPTH} objects and arrays deep"
            yield ConfigProblem(path, None, said, "Use fewer levels.")
            return
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in inner:
            if isinstance(value, dict) and not (isinstance(name, str) and _is_unicode(name)):
                said = f"has the name {name!r}, which is no text of UTF-8"
                yield ConfigProblem(path, repr(name), said, "Use texts as names.")
                return
            yield from _unfit(one, f"{path}.{name}" if isinstance(value, dict) else f"{path}[{name}]", depth + 1)
    elif value is not None:
        said = f"is a {type(value).__name__}, which is no JSON"
        yield ConfigProblem(path, repr(value), said, "Give texts, whole numbers, true, false, null, lists and dicts.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
