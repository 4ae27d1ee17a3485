"""Configuration errors name the variable, the value and the remedy, all at once, and never a secret."""

from __future__ import annotations

import pytest

from springline.config import ConfigurationError, fold_config, load_settings
from springline.projection.config import FoldConfig

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("SPRINGLINE_"):
            monkeypatch.delenv(name)


def test_the_environment_is_read_and_defaults_are_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", SECRET)
    settings = load_settings()
    assert settings.store_url == "file:///data"
    assert settings.jwt_secret is not None
    assert settings.jwt_secret.get_secret_value() == SECRET
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 8080)
    assert (settings.metrics_port, settings.health_port) == (9464, 9465)
    assert settings.jwt_audience == "springline"


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_API_PORT", "9000")
    assert load_settings({"api_port": 9001}).api_port == 9001


def test_a_missing_variable_is_named_with_its_remedy() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    (problem,) = caught.value.problems
    assert problem.variable == "SPRINGLINE_STORE_URL"
    assert problem.message == "is not set"
    assert "file:///absolute/folder" in problem.remedy


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("SPRINGLINE_STORE_URL", "s3://bucket", "file://"),
        ("SPRINGLINE_API_PORT", "eighty", "'eighty'"),
        ("SPRINGLINE_API_PORT", "70000", "65535"),
        ("SPRINGLINE_COMMIT_DEADLINE", "0", "greater than 0"),
        ("SPRINGLINE_LOG_FORMAT", "xml", "'json'"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://example.org/keys", "https://"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://localhost.evil.com/keys", "https://"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://127.0.0.1.evil.com/keys", "https://"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://127.0.0.1@evil.com/keys", "user name"),
        ("SPRINGLINE_JWT_JWKS_URL", "https://keys.example.org@evil.com/", "user name"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://127.0.0.1:80evil.com/keys", "URL"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://127.0.0.1#.evil.com/ keys", "URL"),
        ("SPRINGLINE_JWT_JWKS_URL", "https:///keys", "URL"),
        ("SPRINGLINE_JWT_JWKS_URL", "https:keys", "URL"),
        ("SPRINGLINE_JWT_JWKS_URL", "file:///etc/keys", "URL"),
        ("SPRINGLINE_JWT_JWKS_URL", "http://[fe80::1]/keys", "https://"),
        ("SPRINGLINE_HTTP_WORKERS", "workers.example.com", "no plain http or https URL"),
        ("SPRINGLINE_HTTP_WORKERS", "https://a.example.com,https://*.example.com", "https://*.example.com"),
        ("SPRINGLINE_CALLBACK_URL", "http://springline.example.com", "https://"),
        ("SPRINGLINE_RETENTION_DAYS", "-1", "greater than or equal to 0"),
        ("SPRINGLINE_RETENTION_DAYS", "1.5", "integer"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    (problem,) = caught.value.problems
    assert problem.variable == variable
    assert value in problem.message
    assert part in problem.message
    assert problem.remedy.startswith("Correct it.")


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example.org/keys",
        "https://keys.example.org:8443/a?b=c",
        "http://127.0.0.1:9/keys",
        "http://127.9.9.9/keys",
        "http://localhost/keys",
        "http://[::1]:80/keys",
    ],
)
def test_published_keys_come_by_tls_or_from_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_JWT_JWKS_URL", url)
    assert load_settings().jwt_jwks_url == url


@pytest.mark.parametrize("variable", ["SPRINGLINE_JWT_SECRET", "SPRINGLINE_TASK_SECRET"])
def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv(variable, "hunter2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert variable in str(caught.value)
    monkeypatch.setenv(variable, SECRET)
    assert SECRET not in repr(load_settings())


def test_two_sources_of_signing_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_JWT_SECRET", SECRET)
    monkeypatch.setenv("SPRINGLINE_JWT_JWKS_URL", "https://example.org/keys")
    with pytest.raises(ConfigurationError, match="Unset one of the two"):
        load_settings()


def test_several_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_API_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert {problem.variable for problem in caught.value.problems} == {
        "SPRINGLINE_STORE_URL",
        "SPRINGLINE_API_PORT",
    }


def test_a_ledger_is_folded_without_secret_and_retention_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    assert fold_config(load_settings(), "acme", "prod") == FoldConfig("acme", "prod")
    monkeypatch.setenv("SPRINGLINE_RUN_ID_SECRET", "dGVzdC1zZWNyZXQ=")
    monkeypatch.setenv("SPRINGLINE_RETENTION_DAYS", "0")
    config = fold_config(load_settings(), "acme", "prod")
    assert config == FoldConfig("acme", "prod", run_id_secret=b"test-secret", retention_days=0)
    assert config.fingerprint != FoldConfig("acme", "prod").fingerprint


@pytest.mark.parametrize("wrong", ["not base64!", "dGVzdC1zZWNyZXQ", "dGVz\ndA==", "schlüssel"])
def test_a_run_id_secret_that_is_no_base64_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """The reference takes it for the empty secret, and derives other run ids than all who read it right."""
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_RUN_ID_SECRET", wrong)
    with pytest.raises(
        ConfigurationError, match=r"SPRINGLINE_RUN_ID_SECRET: value \(hidden\): is not base64"
    ) as caught:
        load_settings()
    assert wrong not in str(caught.value)


def test_a_run_id_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "file:///data")
    monkeypatch.setenv("SPRINGLINE_RUN_ID_SECRET", "dGVzdC1zZWNyZXQ=")
    assert "dGVzdC1zZWNyZXQ=" not in repr(load_settings())
