"""Configuration from the environment: every `SPRINGLINE_*` variable, in one place.

The connection to Temporal is not configured here: `temporalio.envconfig` reads the same `TEMPORAL_*` variables and
`temporal.toml` as the Temporal CLI does.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from springline.definitions.urls import AllowedUrls
from springline.errors import SpringlineError
from springline.projection.config import FoldConfig

PREFIX = "SPRINGLINE_"
MIN_SECRET_BYTES = 32
"""RFC 7518 3.2: an HS256 key is at least as long as the hash."""

STORE_SCHEMES = ("file://", "gs://", "memory://")


@dataclass(frozen=True, slots=True)
class Problem:
    """One variable that is wrong: its name, what is wrong with it, and what to do."""

    variable: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return one line for a terminal or a log."""
        return f"{self.variable}: {self.message}. {self.remedy}"


class ConfigurationError(SpringlineError):
    """The environment has no valid configuration; `problems` names every wrong variable at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _known_scheme(url: str) -> str:
    if not url.startswith(STORE_SCHEMES):
        raise ValueError(f"is not a store URL: it must start with one of {', '.join(STORE_SCHEMES)}")
    return url


def _long_enough(secret: SecretStr) -> SecretStr:
    length = len(secret.get_secret_value().encode())
    if length < MIN_SECRET_BYTES:
        raise ValueError(f"has {length} bytes, and an HS256 secret needs at least {MIN_SECRET_BYTES}")
    return secret


def _base64(secret: SecretStr) -> SecretStr:
    try:
        base64.b64decode(secret.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64 (RFC 4648, with its padding)") from None
    return secret


def _web_url(url: str) -> str:
    # URL parsers differ in what they take for the host: so refuse odd characters and user names in it.
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if not url.isascii() or not url.isprintable() or set(url) & set(" \\@") or not host:
        raise ValueError("is not a URL of a host and a path, without a user name")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("is not an https:// URL (plain http:// is taken for loopback addresses only)")
    return url


def _allowed_urls(text: str) -> str:
    AllowedUrls.parsed(text)
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
_SECRETS = ("jwt_secret", "run_id_secret", "task_secret")


class Settings(BaseSettings):
    """The settings of a process, from its environment. Build it with `load_settings`.

    Times are in seconds. A port of 0 takes any free port.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    store_url: Annotated[str, AfterValidator(_known_scheme)] = Field(
        description="Where the tables are: file:///absolute/folder or gs://bucket/prefix."
    )

    run_id_secret: Annotated[SecretStr, AfterValidator(_base64)] = Field(
        default=SecretStr(""),
        description="Base64 of the secret that run ids are derived with; one for all processes, and never changed.",
    )
    retention_days: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Days a finished run stays in the projections, and its logs about a week longer; 0 keeps runs, "
        "unset prunes nothing at all.",
    )

    jwt_secret: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        default=None, description="HS256 secret of the bearer tokens, 32 bytes or more."
    )
    jwt_jwks_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        default=None, description="URL of the JSON Web Key Set that signs RS256 bearer tokens."
    )
    jwt_audience: str = Field(default="springline", min_length=1, description="The `aud` a token must carry.")
    jwt_issuer: str | None = Field(default=None, description="The `iss` a token must carry, if set.")

    http_workers: Annotated[str, AfterValidator(_allowed_urls)] = Field(
        default="",
        description="Beginnings of the URLs to which attempts may be posted, separated by commas; unset: none.",
    )
    task_secret: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        default=None, description="HS256 secret of the tokens of attempts over HTTP, 32 bytes or more."
    )
    callback_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        default=None, description="URL of the HTTP API, as workers over HTTP reach it."
    )

    api_host: str = Field(default="127.0.0.1", description="Address the HTTP API listens on.")
    api_port: Port = Field(default=8080, description="Port of the HTTP API.")
    api_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=500, description="Most connections of the HTTP API; beyond, the longest idle one is closed."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of a worker's metrics and health.")
    metrics_port: Port = Field(default=9464, description="Port of a worker's Prometheus metrics.")
    health_port: Port = Field(default=9465, description="Port of a worker's health endpoint.")

    deployment: str = Field(
        default="springline",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the Worker Deployment: letters, digits, _ and -, at most 64; one for each namespace.",
    )
    build_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Build id of a worker's version: letters, digits, ., _ and -; default: made from its code.",
    )
    versioning: Literal["auto", "manual", "off"] = Field(
        default="auto",
        description="Who makes a worker's version current: the worker, an operator, or nobody, without versions.",
    )
    temporal_hooks: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="module:attribute of the Hooks (codec, interceptors) that every process puts before Temporal.",
    )
    commit_deadline: Seconds = Field(
        default=60.0, description="How long the API keeps trying to commit before it answers 503, in seconds."
    )
    max_cached_workflows: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Workflows a worker keeps in memory; 0 replays every time."
    )
    checkpoint_interval: Annotated[int, Field(ge=1)] = Field(
        default=100, description="Versions between two checkpoints of a table."
    )
    max_active_runs: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="Runs of a workspace under way at once; the others wait, the most urgent first."
    )
    shutdown_grace: Seconds = Field(
        default=20.0, description="How long a process may finish its work after SIGTERM, in seconds."
    )

    log_format: Literal["text", "json"] = Field(default="text", description="Form of the log lines.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe log lines that are written."
    )


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Read the settings from the environment.

    `overrides` (field name -> value) win over the environment; the CLI passes its options here. Raises
    `ConfigurationError` naming every wrong or missing variable, its value (secrets excepted) and a remedy.
    """
    try:
        settings = Settings(**dict(overrides or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_problem(detail) for detail in error.errors()) from None
    if settings.jwt_secret is not None and settings.jwt_jwks_url is not None:
        raise ConfigurationError(
            [
                Problem(
                    f"{PREFIX}JWT_JWKS_URL",
                    f"is set together with {PREFIX}JWT_SECRET, so that it is not clear who may sign tokens",
                    "Unset one of the two.",
                )
            ]
        )
    return settings


def fold_config(settings: Settings, tenant: str, workspace: str) -> FoldConfig:
    """Return the rules under which every process folds a workspace's ledger.

    See docs/protocol.md#state-of-a-set.

    A process refuses a state that was folded under other rules, by the fingerprint in its manifest: see `FoldConfig`.
    """
    return FoldConfig(
        tenant=tenant,
        workspace=workspace,
        run_id_secret=base64.b64decode(settings.run_id_secret.get_secret_value()),
        retention_days=settings.retention_days,
    )


def _problem(detail: ErrorDetails) -> Problem:
    name = str(detail["loc"][0])
    variable = PREFIX + name.upper()
    field = Settings.model_fields.get(name)
    about = field.description if field is not None and field.description is not None else ""
    if detail["type"] == "missing":
        return Problem(variable, "is not set", f"Set it. {about}")
    said = detail["msg"].removeprefix("Value error, ")
    shown = "(hidden)" if name in _SECRETS else repr(detail["input"])
    return Problem(variable, f"value {shown}: {said}", f"Correct it. {about}")
