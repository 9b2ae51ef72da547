"""Our kuscia.yaml as Kuscia itself reads it, strictly: a field that it does not know is an error.

It runs by `make kuscia-live KUSCIA_SOURCE=…`; elsewhere it says that it was skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from consortium.kuscia.node_config import kuscia_yaml
from consortium.kuscia.settings import KusciaSettings
from tests.kuscia import live
from tests.kuscia.kuscia_builders import runk, secrets, settings

pytestmark = pytest.mark.kubernetes


@pytest.fixture(scope="module")
def program() -> Path:
    source = os.environ.get(live.SOURCE)
    if not source:
        pytest.skip(f"no source of Kuscia: set {live.SOURCE}=CHECKOUT")
    return live.program(source)


def read(program: Path, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "kuscia.yaml").write_text(text)
    command = [str(program), "-read", str(folder / "kuscia.yaml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def taken(program: Path, given: KusciaSettings, folder: Path, **more: str) -> dict[str, Any]:
    said = read(program, kuscia_yaml(given, secrets(**more)), folder)
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout.splitlines()[-1]))


def test_a_node_asks_for_certificates_and_for_a_yes(program: Path, tmp_path: Path) -> None:
    found = taken(program, settings(api_names=["kuscia.inside"], keep_jobs_hours=24), tmp_path)
    assert (found["mode"], found["domain"], found["protocol"], found["approve"]) == ("autonomy", "alice", "MTLS", True)
    assert found["sans"] == ["alice-kuscia", "kuscia.inside"]
    assert (found["runtime"], found["datastore"], found["gc"]["KusciaJobGC"]["DurationHours"]) == ("runp", "", 24)


def test_tasks_as_pods_a_registry_and_a_database(program: Path, tmp_path: Path) -> None:
    given = runk(
        log_level="DEBUG",
        logs={"max_files": 7, "max_file_mb": 8, "max_age_days": 9},
        reserved={"cpu": "1", "memory": "1Gi", "bandwidth": 100},
        http_proxy="http://proxy.example:3128",
        registry={"endpoint": "registry.example/team", "username": "node"},
        database={"host": "db.example", "database": "kuscia", "user": "node"},
    )
    found = taken(program, given, tmp_path, database_password="s3cret", registry_password="word")
    assert found["datastore"] == "mysql://node:s3cret@tcp(db.example:3306)/kuscia"
    assert (found["runtime"], found["k8s"]["Namespace"]) == ("runk", "alice-tasks")
    assert found["k8s"]["DNS"]["Servers"] == ["10.96.0.20"]
    assert found["logs"] == {"MaxFiles": 7, "MaxFileSizeMB": 8, "MaxAgeDays": 9}
    assert (found["logLevel"], found["reserved"]["Bandwidth"]) == ("DEBUG", "100")
    assert (found["capacity"]["CPU"], found["capacity"]["Memory"]) == ("4", "8Gi")
    image = found["image"]
    assert image["HTTPProxy"] == "http://proxy.example:3128"
    (registry,) = image["Registries"]
    assert image["DefaultRegistry"] == registry["Name"]
    assert (registry["Endpoint"], registry["UserName"], registry["Password"]) == (
        "registry.example/team",
        "node",
        "word",
    )


def test_every_room_for_tasks_is_known(program: Path, tmp_path: Path) -> None:
    room = {"cpu": "8", "memory": "32Gi", "bandwidth": 1000, "pods": 50, "storage": "500Gi", "ephemeral_storage": "9Gi"}
    found = taken(program, settings(capacity=room, runtime="runc"), tmp_path)
    assert found["runtime"] == "runc"
    assert found["capacity"] == {
        "CPU": "8", "Memory": "32Gi", "Bandwidth": "1000", "Pods": "50", "Storage": "500Gi", "EphemeralStorage": "9Gi"
    }  # fmt: skip


def test_a_field_that_kuscia_does_not_know_and_a_key_that_is_none_are_errors(program: Path, tmp_path: Path) -> None:
    text = kuscia_yaml(settings(), secrets())
    assert "not found" in read(program, text + "protocoll: MTLS\n", tmp_path).stderr
    key = next(line for line in text.splitlines() if line.startswith("domainKeyData"))
    assert "domainKeyData" in read(program, text.replace(key, "domainKeyData: bm8="), tmp_path).stderr
