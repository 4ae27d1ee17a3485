"""Configs with types: what a run was asked with, as an instance of the Pydantic model that an asset declares for it.

A model judges the whole config of a run, which all its assets share: each sees it through its own model, or as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from springline.definitions.configs import problem_of_config
from springline.definitions.ids import meant, named
from springline.sdk.errors import ConfigRefused, InvalidConfig

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    ConfigModel: TypeAlias = BaseModel

_MOST_TOLD: Final = 10
_MOST_VALUE: Final = 80
_DERIVE: Final = "Derive it from Pydantic's: class Settings(pydantic.BaseModel), and give @{kind}(config=Settings)."


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as a run would hand it over, or raise `InvalidConfig` if no run could have it."""
    import json  # noqa: PLC0415 - importing the library must be quick

    plain = dict(config)
    found = problem_of_config(plain)
    if found is not None:
        raise InvalidConfig(f"{found.field} {found.message} ({_shown(found.value)}): {_lower(found.remedy)}")
    read: dict[str, Any] = json.loads(json.dumps(plain))
    return read


def problem_of_model(value: Any, kind: str) -> tuple[str, str] | None:
    """Return why a value can be no model of configs, to go on from it, and the remedy; None if it can be one."""
    from pydantic import BaseModel  # noqa: PLC0415 - only who declares a model waits for its import

    derive = _DERIVE.format(kind=kind)
    if isinstance(value, BaseModel):
        name = type(value).__name__
        return (
            f"is an instance of {name}",
            f"Give the model itself: config={name}; its defaults are those of its fields.",
        )
    if not isinstance(value, type) or not issubclass(value, BaseModel):
        return "is no Pydantic model", derive
    if value is BaseModel:
        return "has no fields", derive
    try:
        value.model_rebuild()
    except Exception as error:
        first = str(error).partition("\n")[0]
        return f"cannot be built: {first}", "Define what its annotations name above the model."
    return None


def problems_of_defaults(model: type[ConfigModel]) -> list[tuple[str, str]]:
    """Return which defaults of a model its own fields refuse, each to go on from the asset, with the remedy."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    try:
        # Pydantic takes defaults as they are: a model that looks at them, too, tells which do not fit. What a function
        # makes is left alone, which an import must not call.
        made = [name for name, one in model.model_fields.items() if one.default_factory is not None]
        own = {"__module__": __name__, "__annotations__": dict.fromkeys(made, Any), **dict.fromkeys(made)}
        strict: Any = type(model.__name__, (model,), own, validate_default=True)
        strict.model_validate({})
    except ValidationError as error:
        found = [one for one in error.errors(include_url=False, include_context=False) if one["loc"]]
    except Exception:
        # A model that cannot be derived from, or validators that raise what they should not: an attempt tells that.
        return []
    else:
        return []
    return [
        (
            f"has config {model.__name__}, whose field {_place(one)} has the default {_shown(one['input'])}: "
            f"{_lower(one['msg'])}",
            "Give a default that the field takes, or none.",
        )
        for one in found
        if one["type"] != "missing"
    ]


def config_of(model: type[ConfigModel], config: Mapping[str, Any], asset: str) -> ConfigModel:
    """Return a run's config as an instance of the model that an asset declares; raises `ConfigRefused`.

    What the model's own validators raise beyond what Pydantic takes from them is raised as it is.
    """
    import json  # noqa: PLC0415 - as above

    from pydantic import ValidationError  # noqa: PLC0415 - as above

    try:
        # As JSON: a strict model, too, takes dates and tuples then, which JSON has no other way to write.
        return model.model_validate_json(json.dumps(dict(config)))
    except ValidationError as error:
        told = list(_told(model, error))
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    said = "; ".join(told[:_MOST_TOLD])
    raise ConfigRefused(f"the run's config does not fit {model.__name__}, the config of {asset}: {said}{more}")


def _told(model: type[ConfigModel], error: ValidationError) -> Iterator[str]:
    fields = [one.alias or name for name, one in model.model_fields.items()]
    hides = bool(model.model_config.get("hide_input_in_errors"))
    for one in error.errors(include_url=False, include_context=False):
        place = "config" if not one["loc"] else f"config.{_place(one)}"
        value = "" if hides or not one["loc"] else f" is {_shown(one['input'])}, which"
        if one["type"] == "missing":
            yield f"{place} is missing: give it"
        elif one["type"] == "extra_forbidden":
            near = meant(str(one["loc"][-1]), fields).strip() if len(one["loc"]) == 1 else ""
            remedy = _lower(near) if near else f"leave it out; there are {named(fields)}"
            yield f"{place} is no field of {model.__name__}: {remedy}"
        else:
            yield f"{place}{value} does not fit: {_lower(one['msg'])}; give another value"


def _place(one: ErrorDetails) -> str:
    found = ""
    for part in one["loc"]:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else str(part)
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_VALUE else f"{text[: _MOST_VALUE - 3]}..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
