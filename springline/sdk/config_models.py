"""What a model of configs takes, in the form in which it is deployed: for people, and for judging requests for runs.

How a model takes names and values is read from the schema that Pydantic validates by. Only forms of it that are known
here are judged by: behind any other one may be code that takes what its fields do not say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from springline.bounds import on_one_line
from springline.definitions.limits import (
    MAX_MODEL_BYTES,
    MAX_MODEL_FIELD_DEFAULT,
    MAX_MODEL_FIELD_DESCRIPTION,
    MAX_MODEL_FIELD_NAME,
    MAX_MODEL_FIELD_NAMES,
    MAX_MODEL_FIELD_TYPE,
    MAX_MODEL_FIELDS,
)

if TYPE_CHECKING:
    from springline.sdk.configs import ConfigModel

Json = dict[str, Any]

_KINDS: Final = ("null", "boolean", "number", "string", "array", "object")
_OF_ONE_VALUE: Final = frozenset({"int", "str", "float", "bool", "date", "datetime", "time"})
"""Types of Pydantic's schemas whose values are no arrays, no objects and not null, strict or not."""
_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
_MOST_WRAPPED: Final = 50
_MOST_VALUES: Final = 12


def described_model(model: type[ConfigModel]) -> Json:
    """Return what a model takes, as it is deployed (`springline.definitions.nodes.ConfigDefinition`)."""
    known = _Known.of(model)
    # A model of one value, not of fields, has the root alone, which no JSON names.
    shown = {} if getattr(model, "__pydantic_root_model__", False) else model.model_fields
    found: Json = {"model": model.__name__, "fields": [_field(name, one, known) for name, one in shown.items()]}
    if known is None:
        found["judged"] = False
    if (model.model_config.get("extra") if known is None else known.extra) == "forbid":
        found["forbids_others"] = True
    return found


def problem_of_description(model: type[ConfigModel]) -> tuple[str, str] | None:
    """Return why what a model takes cannot be deployed, to go on from it, and the remedy; None if it can be."""
    if len(model.model_fields) > MAX_MODEL_FIELDS:
        said = f"has {len(model.model_fields)} fields, and {MAX_MODEL_FIELDS} is the most"
        return said, "Put some into a model of their own, as one field."
    if not 0 < len(model.__name__) <= MAX_MODEL_FIELD_NAME or not model.__name__.isprintable():
        return "has a name that is too long, or cannot be printed", "Choose another name."
    found = described_model(model)
    for one in found["fields"]:
        for name in (one["name"], *one.get("also", ())):
            if not 0 < len(name) <= MAX_MODEL_FIELD_NAME or not name.isprintable():
                said = f"has a field whose name {on_one_line(repr(name), 80)} is empty, too long, or cannot be printed"
                return said, f"Choose another alias, of at most {MAX_MODEL_FIELD_NAME} characters."
        if len(one.get("also", ())) > MAX_MODEL_FIELD_NAMES:
            said = f"has a field {one['name']} of {len(one['also']) + 1} names, and {MAX_MODEL_FIELD_NAMES} is the most"
            return said, "Leave out some of its aliases."
    size = len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_MODEL_BYTES:
        said = f"takes {size} bytes to describe, and {MAX_MODEL_BYTES} is the most"
        return said, "Shorten the descriptions of its fields, or put some into a model of their own, as one field."
    return None


class _Known:
    """How a model takes names, where its schema says it: nothing sees the config before its fields do."""

    def __init__(
        self, fields: Mapping[str, Json], shared: Mapping[str, Any], extra: str, *, by_alias: bool, by_name: bool
    ) -> None:
        self.fields = fields
        self.extra = extra
        self._shared = shared
        self._by_alias = by_alias
        self._by_name = by_name

    @classmethod
    def of(cls, model: type[ConfigModel]) -> _Known | None:
        """Return how a model takes names, None if that is not known."""
        if any("model_validate_json" in vars(one) for one in model.__mro__ if one.__module__ != "pydantic.main"):
            return None
        try:
            return cls._read(model)
        except (AttributeError, IndexError, KeyError, TypeError):
            # Pydantic promises no form of its schemas: another release's may differ.
            return None

    @classmethod
    def _read(cls, model: type[ConfigModel]) -> _Known | None:
        schema: Any = model.__pydantic_core_schema__
        shared: dict[str, Any] = {}
        config: Mapping[str, Any] = {}
        for _ in range(_MOST_WRAPPED):
            kind = schema.get("type")
            if kind == "definitions":
                shared |= {one["ref"]: one for one in schema["definitions"] if "ref" in one}
                schema = schema["schema"]
            elif kind == "definition-ref" and schema["schema_ref"] in shared:
                schema = shared[schema["schema_ref"]]
            elif kind == "function-after":
                schema = schema["schema"]
            elif kind == "model" and not (schema.get("root_model") or schema.get("custom_init")):
                config = schema.get("config") or {}
                schema = schema["schema"]
            elif kind == "model-fields":
                break
            else:
                return None
        else:
            return None
        if set(schema["fields"]) != set(model.model_fields):
            return None
        extra = schema.get("extra_behavior") or config.get("extra_fields_behavior") or "ignore"
        names = ("validate_by_name", "populate_by_name")
        by_name = any(place.get(name) for place in (schema, config) for name in names)
        by_alias = config.get("validate_by_alias") is not False
        return cls(schema["fields"], shared, str(extra), by_alias=by_alias, by_name=by_name)

    def names(self, name: str) -> list[str]:
        """Return the names that a field is read from, first the one to tell people."""
        alias = self.fields[name].get("validation_alias")
        if alias is None:
            return [name]
        told = [*_names(alias), *([name] if self._by_name or not self._by_alias else ())]
        ordered = told if self._by_alias else [name, *told]
        return list(dict.fromkeys(ordered))

    def has_default(self, name: str) -> bool:
        """Say whether a field may have a value though its names are missing."""
        return any(one.get("type") == "default" for one in _wrapped(self.fields[name]["schema"], self._shared))

    def refused(self, name: str) -> list[str]:
        """Return the kinds of JSON that are no values of a field for certain."""
        found = _refused_kinds(self.fields[name]["schema"])
        return [one for one in _KINDS if one in found]


def _names(alias: Any) -> Iterator[str]:
    """Yield the names that a validation alias reads, of paths the first step, and before it the path for people."""
    if isinstance(alias, str):
        yield alias
        return
    for path in [alias] if alias and not isinstance(alias[0], list) else alias:
        if len(path) > 1:
            yield "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path).removeprefix(".")
        yield str(path[0])


def _wrapped(schema: Any, shared: Mapping[str, Any]) -> Iterator[Any]:
    """Yield a schema and those within it that take the same value."""
    for _ in range(_MOST_WRAPPED):
        yield schema
        within = schema.get("schema")
        schema = shared.get(schema.get("schema_ref", "")) if within is None else within
        if not isinstance(schema, Mapping):
            return


def _refused_kinds(schema: Any) -> frozenset[str]:
    kind = schema.get("type")
    if kind in _OF_ONE_VALUE:
        return frozenset({"null", "array", "object"})
    if kind == "list":
        return frozenset(_KINDS) - {"array"}
    if kind == "dict" or (kind == "model" and _has_fields_alone(schema)):
        return frozenset(_KINDS) - {"object"}
    if kind == "nullable":
        return _refused_kinds(schema["schema"]) - {"null"}
    if kind == "function-after" or (kind == "default" and schema.get("on_error", "raise") == "raise"):
        return _refused_kinds(schema["schema"])
    return frozenset()


def _has_fields_alone(schema: Any) -> bool:
    own = schema.get("root_model") or schema.get("custom_init")
    return not own and schema["schema"].get("type") == "model-fields"


def _field(name: str, field: Any, known: _Known | None) -> Json:
    """Return a field of a model; what says nothing is left out."""
    alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
    names = [alias or name] if known is None else known.names(name)
    required = field.is_required() and (known is None or not known.has_default(name))
    found: Json = {"name": names[0], "type": _type_of(field), "required": required}
    default = None if required else _default_of(field)
    described = None if field.description is None else _described(field.description)
    more = {
        "default": default,
        "description": described,
        "also": names[1:],
        "refuses": [] if known is None else known.refused(name),
    }
    return found | {name: one for name, one in more.items() if one not in (None, "", [])}


def _described(text: str) -> str:
    plain = "".join(one if one.isprintable() or one in "\n\t" else " " for one in text.strip())
    most = MAX_MODEL_FIELD_DESCRIPTION
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _default_of(field: Any) -> str | None:
    """Return a field's default as a text of JSON; None if it has none, or one that is not for telling."""
    from pydantic_core import PydanticUndefined, to_json  # noqa: PLC0415 - importing the library must be quick

    # What its author keeps out of representations may be a secret.
    if field.default is PydanticUndefined or field.default_factory is not None or not field.repr:
        return None
    try:
        text = to_json(field.default).decode()
        json.loads(text, parse_constant=_no_json)
    except Exception:
        # Code of users makes JSON of some values, and may raise anything.
        return None
    return text if 0 < len(text) <= MAX_MODEL_FIELD_DEFAULT else None


def _no_json(name: str) -> Any:
    raise ValueError(name)


def _type_of(field: Any) -> str:
    try:
        bounds = [
            f"{name}={getattr(one, name)!r}"
            for one in field.metadata
            for name in _BOUNDS
            if getattr(one, name, None) not in (None, 0 if name == "min_length" else None)
        ]
        text = ", ".join([_type_text(field.annotation), *bounds])
    except Exception:
        # As above: of a value of users, its representation is code of theirs.
        text = "value"
    most = MAX_MODEL_FIELD_TYPE
    line = on_one_line(text, most)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _type_text(annotation: Any) -> str:
    """Return a type as people write it, without modules."""
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is Any:
        return "Any"
    if annotation is Ellipsis:
        return "..."
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(inner[0])
    if origin is Literal:
        return _one_of(inner)
    if origin in (Union, UnionType):
        return " | ".join(map(_type_text, inner))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of([one.value for one in annotation])
    if origin is not None and inner:
        taken = [f"[{', '.join(map(_type_text, one))}]" if isinstance(one, list) else _type_text(one) for one in inner]
        return f"{_type_text(origin)}[{', '.join(taken)}]"
    return getattr(annotation, "__name__", None) or str(annotation)


def _one_of(values: Any) -> str:
    shown = [repr(one.value if isinstance(one, Enum) else one) for one in values]
    more = ["..."] if len(shown) > _MOST_VALUES else []
    return " | ".join([*shown[:_MOST_VALUES], *more]) or "nothing"
