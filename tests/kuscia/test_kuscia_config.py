"""kuscia.yaml, and what may stand in the settings behind it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from consortium.errors import UsageError
from consortium.kuscia.node_config import kuscia_yaml
from consortium.kuscia.settings import KusciaSettings
from tests.kuscia.kuscia_builders import DIGEST, domain, runk, secrets, settings

DATABASE = {"host": "db.example", "database": "kuscia", "user": "node"}


def made(given: KusciaSettings, **more: str) -> dict[str, Any]:
    return dict(yaml.safe_load(kuscia_yaml(given, secrets(**more))))


def test_a_node_asks_for_certificates_and_for_a_yes() -> None:
    found = made(settings())
    assert (found["mode"], found["domainID"], found["protocol"]) == ("autonomy", "alice", "MTLS")
    assert found["enableWorkloadApprove"] is True
    assert base64.b64decode(found["domainKeyData"]).decode() == domain("alice").key


def test_without_a_database_the_node_keeps_its_own() -> None:
    assert made(settings())["datastoreEndpoint"] == ""


def test_a_database_is_named_with_its_password() -> None:
    found = made(settings(database=DATABASE), database_password="s3cret")
    assert found["datastoreEndpoint"] == "mysql://node:s3cret@tcp(db.example:3306)/kuscia"


@pytest.mark.parametrize("password", ["", "a@b", "a/b", "a:b"])
def test_a_password_that_would_change_the_connection_string_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(UsageError) as error:
        made(settings(database=DATABASE), database_password=password)
    assert not password or password not in str(error.value)


def test_a_registry_with_a_user_needs_a_password() -> None:
    given = settings(registry={"endpoint": "registry.example/team", "username": "node"})
    with pytest.raises(UsageError, match="kusciaRegistryPassword"):
        made(given)
    image = made(given, registry_password="p")["image"]
    assert image["defaultRegistry"] == image["registries"][0]["name"]
    assert image["pullPolicy"] == "remote"


def test_without_a_registry_nothing_is_fetched() -> None:
    assert made(settings())["image"] == {"pullPolicy": "local"}


def test_every_setting_of_the_node_reaches_its_file() -> None:
    found = made(
        runk(
            log_level="DEBUG",
            logs={"max_files": 7, "max_file_mb": 8, "max_age_days": 9},
            reserved={"cpu": "1", "memory": "1Gi", "bandwidth": 100},
            keep_jobs_hours=24,
            api_names=["kuscia.inside"],
            http_proxy="http://proxy.example:3128",
            registry={"endpoint": "registry.example"},
        )
    )
    assert found["logLevel"] == "DEBUG"
    assert found["logrotate"] == {"maxFiles": 7, "maxFileSizeMB": 8, "maxAgeDays": 9}
    assert found["reservedResources"] == {"cpu": "1", "memory": "1Gi", "bandwidth": "100"}
    assert found["capacity"] == {"cpu": "4", "memory": "8Gi"}
    assert found["garbageCollection"] == {"kusciaJobGC": {"durationHours": 24}}
    assert found["kusciaAPISans"] == ["alice-kuscia", "kuscia.inside"]
    assert found["image"]["httpProxy"] == "http://proxy.example:3128"
    assert found["runk"]["namespace"] == "alice-tasks"


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "registry.example/kuscia:latest"},
        {"engine": {"name": "x", "tag": "latest", "id": "abc"}},
        {"runtime": "runk"},
        {"runk": {"namespace": "x", "dns_servers": ["10.0.0.1"]}},
        {"runtime": "runk", "runk": {"namespace": "x", "dns_servers": ["10.0.0.1"]}},
        {"database": {"host": "db", "database": "a/b", "user": "u"}},
        {"http_proxy": "http://user:password@proxy"},
        {"protocol": "NOTLS"},
        {"cluster_dns": "kube-dns"},
    ],
)
def test_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


def test_the_builders_image_is_by_digest() -> None:
    assert settings().image.endswith(DIGEST)


def test_a_database_that_is_made_is_reached_by_its_containers_name() -> None:
    given = settings(mariadb={"image": f"registry.example/mariadb@{DIGEST}"})
    found = made(given, database_password="s3cret")
    assert found["datastoreEndpoint"] == "mysql://kuscia:s3cret@tcp(alice-kuscia-db:3306)/kuscia"
    with pytest.raises(ValidationError, match="take one out"):
        settings(mariadb={"image": f"registry.example/mariadb@{DIGEST}"}, database=DATABASE)
