"""The production-like Compose file: valid by the specification, pinned, closed to the outside, and true to the code."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from springline import names
from springline.config import PREFIX, Settings, load_settings
from springline.local.binaries import FAKE_GCS_VERSION, TEMPORAL_SERVER_VERSION
from springline.local.devserver import DYNAMIC_CONFIG

ROOT = Path(__file__).parents[2]
PINS = ROOT / "springline" / "local" / "pins"
OURS = "springline:"
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")
SECRETS = {name: name[0] * 64 for name in ("POSTGRES_PASSWORD", "TEMPORAL_DB_PASSWORD", "SPRINGLINE_JWT_SECRET")}
GIVEN = SECRETS | {"SPRINGLINE_TOKEN": "a.b.c"}
README = (ROOT / "README.md").read_text()


def load(name: str = "docker-compose.yml") -> dict[str, Any]:
    """A file as Compose sees it once `.env` has its secrets."""
    text = VARIABLE.sub(lambda match: GIVEN[match[1]], (ROOT / name).read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


COMPOSE = load()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENVIRONMENTS = [
    pytest.param(service.get("environment", {}), id=name)
    for name, service in SERVICES.items()
    if service["image"].startswith(OURS)
]


def check(compose: dict[str, Any]) -> None:
    PyCompose.from_json(json.dumps(compose)).validate()


def test_the_file_is_valid_by_the_compose_specification() -> None:
    check(COMPOSE)


@pytest.mark.parametrize(
    "damage",
    [
        {"helthcheck": {}},
        {"networks": ["nowhere"]},
        {"ports": [{"published": 80}]},
        {"depends_on": {"gcs": {"condition": "service_done"}}},
    ],
)
def test_the_check_sees_mistakes(damage: dict[str, Any]) -> None:
    compose = copy.deepcopy(COMPOSE)
    compose["services"]["api"].update(damage)
    with pytest.raises(ValueError, match=r"."):
        check(compose)


def test_every_image_is_pinned_and_none_sets_itself_up() -> None:
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{name}: {service['image']} is not pinned to a version"
        assert "auto-setup" not in image
        assert "build" not in service or image.startswith("springline")


def test_each_image_of_ours_is_built_once_and_never_asked_for_elsewhere() -> None:
    images = {service["image"] for service in SERVICES.values() if service["image"].startswith("springline")}
    for image in images:
        users = [service for service in SERVICES.values() if service["image"] == image]
        assert sum("build" in service for service in users) == 1
        assert all("build" in service or service.get("pull_policy") == "never" for service in users)


def test_images_are_the_versions_that_the_tests_run() -> None:
    images = {service["image"] for service in SERVICES.values()}
    server = ".".join(map(str, TEMPORAL_SERVER_VERSION))
    assert f"temporalio/server:{server}" in images
    assert any(image.startswith(f"temporalio/admin-tools:{server}-") for image in images)
    assert f"springline-gcs:{FAKE_GCS_VERSION}" in images
    assert f"github.com/fsouza/fake-gcs-server v{FAKE_GCS_VERSION}\n" in (ROOT / "ops" / "gcs" / "go.mod").read_text()
    assert f"\tgo.temporal.io/server v{server}" in (PINS / "temporal-server" / "go.mod").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"{OURS}{version}" in images


def test_services_wait_for_what_they_need() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            condition, other = how["condition"], SERVICES[needed]
            once = other.get("restart") == "on-failure"
            assert once == (condition == "service_completed_successfully"), f"{name} waits wrongly for {needed}"
            assert (condition == "service_healthy") <= ("healthcheck" in other), f"{needed} never gets healthy"
    for name in ("api", "worker-1", "worker-2"):
        assert {"namespace", "gcs"} <= SERVICES[name]["depends_on"].keys()
        assert "healthcheck" in SERVICES[name]


def test_only_the_loopback_interface_of_the_host_is_listened_on() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_environment_is_what_the_configuration_knows(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    given = {name for name in environment if name.startswith(PREFIX)}
    assert given <= known
    other = {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "STORAGE_EMULATOR_HOST"}
    assert environment.keys() - given <= other
    if given:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name in given:
            monkeypatch.setenv(name, environment[name])
        load_settings()


@pytest.mark.parametrize("name", ["worker-1", "worker-2"])
def test_a_worker_is_asked_where_it_listens_and_may_finish_its_drain(name: str) -> None:
    worker = SERVICES[name]
    environment = worker["environment"]
    assert f":{environment['SPRINGLINE_HEALTH_PORT']}/readyz" in worker["healthcheck"]["test"][-1]
    assert int(worker["stop_grace_period"].removesuffix("s")) > float(environment["SPRINGLINE_SHUTDOWN_GRACE"])


def test_every_part_speaks_of_one_namespace_and_of_our_search_attributes() -> None:
    environments = [service.get("environment", {}) for service in SERVICES.values()]
    spoken = {environment.get("TEMPORAL_NAMESPACE") for environment in environments} - {None}
    assert spoken == {"springline"} == {SERVICES["ui"]["environment"]["TEMPORAL_DEFAULT_NAMESPACE"]}
    said = SERVICES["namespace"]["environment"]["SEARCH_ATTRIBUTES"].split()
    assert said == [f"{name}={kind}" for name, kind in names.SEARCH_ATTRIBUTES.items()]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["restart"] in {"unless-stopped", "on-failure"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "/tmp" in service["tmpfs"]
    # Images of ours say by themselves that they are not root's.
    assert "user" in service or service["image"].startswith("springline")
    assert ("healthcheck" in service) == (service["restart"] == "unless-stopped" and name != "ui")


@pytest.mark.parametrize("folder", [".", "ops/gcs"])
def test_an_image_of_ours_runs_as_a_user_of_its_own(folder: str) -> None:
    assert re.search(r"^USER \w", (ROOT / folder / "Dockerfile").read_text(), re.MULTILINE)


def test_temporal_is_no_superuser_of_its_database() -> None:
    for name in ("schema", "temporal"):
        environment = SERVICES[name]["environment"]
        assert SECRETS["POSTGRES_PASSWORD"] not in environment.values()
        assert {environment.get("SQL_USER"), environment.get("POSTGRES_USER")} == {"temporal", None}
    made = (ROOT / "ops" / "postgres" / "temporal.sh").read_text()
    assert "CREATE ROLE temporal LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE" in made


def test_a_real_bucket_takes_a_file_of_a_few_lines() -> None:
    over = load("ops/real-bucket.yml")
    check(over)
    for name in ("api", "worker-1", "worker-2"):
        environment = {**SERVICES[name]["environment"], **over["services"][name]["environment"]}
        assert environment["STORAGE_EMULATOR_HOST"] == ""
        assert environment["SPRINGLINE_STORE_URL"].startswith("gs://")
        assert SERVICES[name]["depends_on"]["gcs"]["required"] is False
    assert over["services"]["gcs"]["profiles"]


def test_a_worker_for_pipelines_is_one_more_service_that_may_do_no_more_than_others() -> None:
    over = load("ops/pipelines.yml")
    check(COMPOSE | {"services": SERVICES | over["services"]})
    ((name, service),) = over["services"].items()
    for key in ("read_only", "cap_drop", "security_opt", "networks", "tmpfs", "logging", "pids_limit"):
        assert service[key] == SERVICES["worker-1"][key]
    assert name not in SERVICES
    environment, other = service["environment"], SERVICES["worker-1"]["environment"]
    assert {key: environment[key] for key in environment if key in other} | {"SPRINGLINE_SHUTDOWN_GRACE": "20"} == {
        key: other[key] for key in environment if key in other
    }
    assert int(service["stop_grace_period"].removesuffix("s")) > float(environment["SPRINGLINE_SHUTDOWN_GRACE"])
    image = SERVICES["api"]["image"]
    dockerfile = (ROOT / "ops" / "pipelines" / "Dockerfile").read_text()
    assert re.search(rf"^FROM {image}$", dockerfile, re.MULTILINE)
    assert dockerfile.rindex("USER springline") > dockerfile.rindex("USER root")


def test_the_readme_speaks_of_what_the_file_publishes() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert str(port).rpartition(":")[0] in README


def test_secrets_come_from_outside() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert {match[1] for match in VARIABLE.finditer(text)} == SECRETS.keys()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"SECRET|PASSWORD", name):
                assert value in SECRETS.values(), f"{name} is written into the file"
    assert all(f"{name}" in README for name in SECRETS)


def test_what_is_mounted_and_run_is_there() -> None:
    for service in SERVICES.values():
        mounts = [mount.split(":") for mount in service.get("volumes", [])]
        for source, target, *_ in mounts:
            if not source.startswith("."):
                assert source in COMPOSE["volumes"]
                continue
            words = [*service.get("entrypoint", []), *service.get("command", [])]
            words += [value for value in service.get("environment", {}).values() if value.startswith(target)]
            used = [ROOT / source / word.removeprefix(f"{target}/") for word in words if word.startswith(f"{target}/")]
            assert used or (ROOT / source).is_file()
            assert all(file.exists() for file in used)


@pytest.mark.parametrize("script", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "ops").rglob("*.sh")))
def test_scripts_are_valid_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n", ROOT / script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_dynamic_configuration_agrees_with_the_embedded_server() -> None:
    dynamic = yaml.safe_load((ROOT / "ops" / "temporal" / "config" / "dynamicconfig.yaml").read_text())
    assert "history.maxInFlightUpdates" in dynamic
    for key, entries in dynamic.items():
        assert [json.dumps(entry["value"]) for entry in entries] == [DYNAMIC_CONFIG[key]]


def test_the_image_is_built_from_pinned_and_hashed_parts_that_are_there() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("FROM "):
            assert re.match(r"FROM python:\d+\.\d+\.\d+-", line)
        if "pip install" in line:
            assert "--require-hashes" in line or "--no-index" in line
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert all(word.split("/")[0] in allowed for word in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {package.removesuffix("*") for package in packages} <= set(copied)
