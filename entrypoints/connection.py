"""The one place that connects to Temporal, with an operator's hooks.

`temporalio.envconfig` reads address and credentials from the same `TEMPORAL_*` variables and
`temporal.toml` as the Temporal CLI. Codec, interceptors and tracing are `Hooks`: worker, API and `springline
doctor` load those that SPRINGLINE_TEMPORAL_HOOKS names, so that all of them use the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Interceptor
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from entrypoints.updates import QUERY_TIMEOUT
from springline.config import PREFIX, ConfigurationError, Problem, Settings
from springline.errors import SpringlineError

DEFAULT_ADDRESS = "localhost:7233"
CONNECT_SECONDS = 10.0
HOOKS_VARIABLE = f"{PREFIX}TEMPORAL_HOOKS"


class TemporalUnreachable(SpringlineError):
    """Temporal does not answer at the configured address; it may do so later."""


class TemporalMisconfigured(SpringlineError):
    """The Temporal configuration in the environment is invalid; an operator has to correct it."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """An operator's hooks between Springline and Temporal; every process of a namespace needs the same.

    `data_converter` must convert Pydantic models: give `dataclasses.replace(pydantic_data_converter,
    payload_codec=...)` for encryption or compression. `interceptors` see every call of the client; one that is a
    worker's interceptor too, as `temporalio.contrib.opentelemetry.TracingInterceptor`, sees workflows and activities
    as well.
    """

    data_converter: DataConverter = pydantic_data_converter
    interceptors: Sequence[Interceptor] = ()

    def __post_init__(self) -> None:
        """Refuse a converter that cannot carry our messages."""
        if not issubclass(self.data_converter.payload_converter_class, PydanticPayloadConverter):
            raise TypeError("data_converter must be built on temporalio.contrib.pydantic.PydanticPayloadConverter")


NO_HOOKS = Hooks()


def load_hooks(named: str | None) -> Hooks:
    """Return the hooks that `module:attribute` names: a `Hooks`, or a function without arguments that returns one.

    None names none. Raises `ConfigurationError` if it cannot be had.
    """
    if named is None:
        return NO_HOOKS
    module, _, attribute = named.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        hooks = found() if callable(found) else found
    except Exception as error:
        raise _bad_hooks(named, f"cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(hooks, Hooks):
        raise _bad_hooks(named, f"is a {type(hooks).__name__}, no entrypoints.connection.Hooks")
    return hooks


def connect_config(address: str | None = None, namespace: str | None = None) -> ClientConnectConfig:
    """Return address and credentials of Temporal: from the environment, or only `address`.

    Raises `TemporalMisconfigured` if the environment is invalid.
    """
    if address is not None:
        return {"target_host": address, "namespace": namespace or "default"}
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise TemporalMisconfigured(
            f"the configuration of the Temporal client cannot be read: {error}. Correct the TEMPORAL_* variables or "
            "the file temporal.toml; `temporal config list` shows what the Temporal CLI makes of them."
        ) from error
    config.setdefault("target_host", DEFAULT_ADDRESS)
    config.setdefault("namespace", "default")
    _check_address(config["target_host"])
    return config


async def connect(
    runtime: Runtime | None = None,
    *,
    address: str | None = None,
    namespace: str | None = None,
    lazy: bool = False,
    hooks: str | None = None,
    within_s: float = CONNECT_SECONDS,
) -> Client:
    """Connect to Temporal, by the environment or at `address`; Pydantic converts the messages.

    With `lazy` the first call connects, for processes that may start before Temporal does (no worker can). `hooks`
    names the hooks for `load_hooks`. Raises `ConfigurationError` if they cannot be loaded,
    `TemporalMisconfigured`, and `TemporalUnreachable` naming the address if there is no answer `within_s` seconds.
    """
    between = load_hooks(hooks)
    config = connect_config(address, namespace)
    where = config["target_host"]
    try:
        async with asyncio.timeout(within_s):
            return await Client.connect(
                **config,
                data_converter=between.data_converter,
                interceptors=between.interceptors,
                runtime=runtime,
                lazy=lazy,
            )
    except ValueError as error:
        raise TemporalMisconfigured(f"Temporal cannot be called at {where}: {error}. Correct TEMPORAL_*.") from error
    except (RuntimeError, RPCError, TimeoutError) as error:
        # Of the SDK's text, what stands behind its first sentence is the inside of its library.
        said = str(error).partition(": tonic::")[0] or f"no answer within {within_s:g} s"
        raise TemporalUnreachable(
            f"Temporal does not answer at {where}: {said}. Start it, or set TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE."
        ) from error


async def check_namespace(client: Client) -> None:
    """Return if Temporal answers and has the client's namespace; raises `RPCError` or `RuntimeError` otherwise."""
    await namespace_id(client)


async def namespace_id(client: Client) -> str:
    """Return the id of the client's namespace: one that is made anew under its name has another. Raises as
    `check_namespace`.
    """
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), timeout=QUERY_TIMEOUT
    )
    return described.namespace_info.id


def metrics_runtime(settings: Settings) -> Runtime:
    """Return a runtime that serves the SDK's and the workers' metrics for Prometheus; one per process.

    Names come out as Temporal's own dashboards expect them: seconds, with unit and `_total` suffixes. Raises
    `OSError` naming the address if it cannot be bound.
    """
    address = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        return Runtime(
            telemetry=TelemetryConfig(
                metrics=PrometheusConfig(
                    bind_address=address,
                    counters_total_suffix=True,
                    unit_suffix=True,
                    durations_as_seconds=True,
                )
            )
        )
    except (RuntimeError, ValueError) as error:
        raise OSError(
            f"metrics cannot be served on {address}: {error}. Set {PREFIX}METRICS_PORT (0: any free port) or "
            f"{PREFIX}METRICS_HOST."
        ) from error


def _check_address(address: str) -> None:
    """Refuse an invalid `host:port`: the SDK treats some of them as an unreachable server."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535 or "/" in host:
        raise TemporalMisconfigured(
            f"TEMPORAL_ADDRESS: value {address!r} is no host:port. Correct it, for example {DEFAULT_ADDRESS}."
        )


def _bad_hooks(named: str, message: str) -> ConfigurationError:
    remedy = "Name an importable `module:attribute`, or unset it."
    return ConfigurationError([Problem(HOOKS_VARIABLE, f"value {named!r} {message}", remedy)])
