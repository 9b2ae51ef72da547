"""`ray` in the stack settings: the head joins a cluster that is there already, and drivers still run on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from consortium.nodefiles import files_for, hosts_of
from coordinator.config import Config
from tests import builders

RAY = {"address": "ray.example:6379", "jobs_url": "https://ray.example", "network": "ray"}


def head(**settings: Any) -> dict[str, str]:
    """Path → content of the head's files."""
    model = builders.model(settings=settings)
    return {f.path: f.content for f in files_for(model, builders.secrets(), hosts_of(model)[0])}


def test_the_head_joins_and_is_where_drivers_and_receivers_run() -> None:
    files = head(workers=0, ray=RAY)
    launcher = files["/etc/consortium/services/ray"]
    assert "--head" not in launcher
    assert "--address=ray.example:6379" in launcher
    config = Config.model_validate(json.loads(files["/etc/consortium/coordinator.json"]))
    # The sender alone speaks to the gateway: placed on another node of the cluster, it would reach nobody.
    assert config.timeouts.cross_silo_comm_options["send_resource_label"] == {"consortium_head": 1}
    ray = config.ray
    assert (ray.jobs_url, ray.address) == ("https://ray.example", "ray.example:6379")
    assert ray.driver_resources == ray.head_resources == {"consortium_head": 1}
    assert all(resource in launcher for resource in ray.driver_resources)
    assert "8265" not in files["/etc/consortium/health.json"]


def test_an_own_ray_is_as_it_was() -> None:
    files = head(workers=0)
    assert "--head" in files["/etc/consortium/services/ray"]
    config = json.loads(files["/etc/consortium/coordinator.json"])
    assert config["ray"]["driver_resources"] == {}
    assert "send_resource_label" not in config["timeouts"]["cross_silo_comm_options"]
    assert "8265" in files["/etc/consortium/health.json"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"workers": 1, "ray": RAY}, "it must be 0"),
        ({"workers": 0, "ray": {**RAY, "network": None}}, "ray.network is needed"),
        ({"workers": 0, "ray": {**RAY, "address": "ray.example"}}, "ray.address"),
        ({"workers": 0, "ray": {**RAY, "address": "$(id):1"}}, "ray.address"),
        ({"workers": 0, "ray": {**RAY, "jobs_url": "ray://x"}}, "ray.jobs_url"),
        ({"workers": 0, "ray": {**RAY, "token": "t"}}, "ray.token"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        head(**settings)
