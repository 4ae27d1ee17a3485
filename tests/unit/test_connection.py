"""Connecting to Temporal: what the environment says, what is refused, and hooks that every payload passes through."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, PayloadCodec, SerializationContext, WithSerializationContext
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from entrypoints.connection import NO_HOOKS, Hooks, TemporalMisconfigured, TemporalUnreachable, connect, load_hooks
from entrypoints.sandbox import ContextFreeSandbox, ContextMatters, uses_context, workflow_runner
from springline.config import ConfigurationError
from workflows.commit_messages import CommitStart


class Reversing(PayloadCodec):
    """A codec that looks at no context."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"reversed"}, data=one.SerializeToString()[::-1]) for one in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(one.data[::-1]) for one in payloads]


class Contextual(Reversing, WithSerializationContext):
    """A codec that would use another key for each workflow."""

    def with_context(self, context: SerializationContext) -> Contextual:
        return Contextual()


def with_codec(codec: PayloadCodec) -> DataConverter:
    return dataclasses.replace(pydantic_data_converter, payload_codec=codec)


HOOKS = Hooks(data_converter=with_codec(Reversing()), interceptors=[Interceptor()])
NO_HOOKS_AT_ALL = 7


def make_hooks() -> Hooks:
    return HOOKS


def fail() -> Hooks:
    raise RuntimeError("no key")


@pytest.fixture(autouse=True)
def _nobodys_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY", "TEMPORAL_PROFILE", "TEMPORAL_TLS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "temporal.toml").touch()
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "temporal.toml"))


async def test_hooks_are_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    client = await connect(lazy=True, hooks=f"{__name__}:HOOKS")
    start = CommitStart(tenant="acme", workspace="prod", table_id="t")
    (payload,) = await client.data_converter.encode([start])
    assert payload.metadata["encoding"] == b"reversed"
    assert await client.data_converter.decode([payload], [CommitStart]) == [start]
    assert list(client.config()["interceptors"]) == list(HOOKS.interceptors)


@pytest.mark.parametrize("attribute", ["HOOKS", "make_hooks"])
def test_hooks_are_loaded_by_name(attribute: str) -> None:
    assert load_hooks(f"{__name__}:{attribute}") is HOOKS
    assert load_hooks(None) is NO_HOOKS


@pytest.mark.parametrize(
    "named", ["no_such_module:x", f"{__name__}:nothing", f"{__name__}:NO_HOOKS_AT_ALL", f"{__name__}:fail"]
)
def test_hooks_that_cannot_be_had_are_named(named: str) -> None:
    with pytest.raises(ConfigurationError, match="SPRINGLINE_TEMPORAL_HOOKS"):
        load_hooks(named)


def test_a_converter_that_cannot_carry_our_messages_is_refused() -> None:
    with pytest.raises(TypeError, match="pydantic"):
        Hooks(data_converter=DataConverter.default)


@pytest.mark.parametrize("address", ["nonsense", "host:port", "host:99999", "http://host:7233", ":7233"])
async def test_an_address_that_is_none_is_wrong_and_not_out_of_reach(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    with pytest.raises(TemporalMisconfigured, match="TEMPORAL_ADDRESS"):
        await connect()


async def test_connecting_says_where_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    with pytest.raises(TemporalUnreachable, match=r"127\.0\.0\.1:1.*TEMPORAL_ADDRESS"):
        await connect()
    (tmp_path / "temporal.toml").write_text("this is = not [toml")
    with pytest.raises(TemporalMisconfigured, match=r"temporal\.toml"):
        await connect()


def test_the_shortcut_of_the_sandbox_is_for_converters_that_look_at_no_context() -> None:
    for converter in (pydantic_data_converter, with_codec(Reversing())):
        assert not uses_context(converter)
        assert isinstance(workflow_runner(["springline"], converter), ContextFreeSandbox)


def test_the_shortcut_refuses_a_codec_that_looks_at_contexts() -> None:
    converter = with_codec(Contextual())
    assert uses_context(converter)
    with pytest.raises(ContextMatters, match="serialization contexts"):
        ContextFreeSandbox(["springline"], converter)
    assert isinstance(workflow_runner(["springline"], converter), SandboxedWorkflowRunner)
