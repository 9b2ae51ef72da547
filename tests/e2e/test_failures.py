"""Each thing that goes wrong gets one clear message and leaves a state from which the same command succeeds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from consortium import trust
from consortium.demo import Demo
from consortium.errors import EXIT_DOCUMENTS, EXIT_UNREACHABLE
from testing import Party, registry
from tests.e2e.conftest import claimed_demo

COMMAND = ("preview", "--party", "alice")


def run(workspace: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "consortium", *arguments],
        cwd=workspace,
        env={k: v for k, v in os.environ.items() if not k.startswith(("CONSORTIUM_", "PULUMI_"))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def workspace(engine: docker.DockerClient, institutions: Demo) -> Iterator[Path]:
    """Alice's workspace of a consortium that was prepared and not yet brought up."""
    demo = claimed_demo()
    demo.prepare()
    yield demo.workspace("alice")
    registry.reap(engine, [demo.name])


@contextmanager
def edited(path: Path, edit: Callable[[Any], None]) -> Iterator[None]:
    before = path.read_bytes()
    document = yaml.safe_load(before)
    edit(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        yield
    finally:
        path.write_bytes(before)


def expect(workspace: Path, *words: str, code: int | None = None) -> None:
    """The command fails, says each of `words`, and shows no traceback."""
    found, text = run(workspace, *COMMAND)
    assert found != 0, text
    assert code is None or found == code, text
    for word in words:
        assert word in text, text
    assert "Traceback" not in text, text


@pytest.fixture(autouse=True)
def afterwards_the_same_command_succeeds(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "workspace" in request.fixturenames:
        code, text = run(request.getfixturevalue("workspace"), *COMMAND)
        assert code == 0, text


def settings(document: Any) -> Any:
    return document["config"]["consortium:settings"]


def test_a_wrong_document(workspace: Path) -> None:
    with edited(workspace / "consortium.yaml", lambda d: d.update(slots="many", membres=["alice"])):
        expect(workspace, "consortium.yaml", "slots", "many", "membres", code=EXIT_DOCUMENTS)


def test_a_missing_engine(workspace: Path) -> None:
    gone = "unix:///nowhere/docker.sock"
    with edited(workspace / "stacks/Pulumi.alice.yaml", lambda d: settings(d).update(engine=gone)):
        expect(workspace, "container engine does not answer", gone, "fix:")


def test_a_port_in_use(workspace: Path) -> None:
    listen = settings(yaml.safe_load((workspace / "stacks/Pulumi.alice.yaml").read_text()))["operator"]
    with socket.create_server((listen["bind"], listen["port"])):
        expect(workspace, "port is in use", f"{listen['bind']}:{listen['port']}", "fix:")


def test_a_wrong_passphrase(workspace: Path) -> None:
    file = workspace / ".private" / "passphrase"
    before = file.read_text()
    file.write_text("wrong")
    try:
        expect(workspace, "passphrase", str(file))
    finally:
        file.write_text(before)


def test_an_expired_certificate(workspace: Path) -> None:
    name = yaml.safe_load((workspace / "consortium.yaml").read_text())["name"]
    then = datetime.now(UTC) - timedelta(days=800)
    ca = trust.make_ca("alice", name, now=then)
    old = trust.issue_gateway(ca, "alice", name, now=then)
    with (
        edited(workspace / "parties/alice.yaml", lambda d: d.update(ca_certificates=[ca.certificate])),
        edited(
            workspace / "stacks/Pulumi.alice.yaml",
            lambda d: d["config"].update({"consortium:gatewayCertificate": old.certificate}),
        ),
    ):
        expect(workspace, "expired", "consortium:gatewayCertificate", "consortium rotate certificate")


def test_a_data_file_that_is_missing(workspace: Path) -> None:
    file = workspace / "data" / "customers.csv"
    away = file.rename(file.with_suffix(".away"))
    try:
        expect(workspace, "file of a dataset is missing", str(file), "fix:")
    finally:
        away.rename(file)


def test_an_image_that_is_not_there(workspace: Path) -> None:
    with edited(workspace / "stacks/Pulumi.alice.yaml", lambda d: settings(d).update(image="consortium-node:none")):
        expect(workspace, "node image is not on this engine", "consortium-node:none", "consortium image bake")


def test_a_peer_that_is_down_is_named_and_the_job_can_be_run_again(institutions: Demo, bob: Party) -> None:
    alice = institutions.workspace("alice")
    psi = str(Path(__file__).resolve().parents[2] / "jobs" / "psi")
    bob.node("gateway").container.pause()
    try:
        until = time.monotonic() + 60
        while institutions.json("alice", "status")["peers"]["bob"]["up"]:
            assert time.monotonic() < until, "alice never noticed"
            time.sleep(0.5)
        code, text = run(alice, "job", "submit", psi)
        assert code == EXIT_UNREACHABLE, text
        assert "bob is down" in text
        assert "fix:" in text
        assert "Traceback" not in text
    finally:
        bob.node("gateway").container.unpause()
    institutions.wait_until_connected()
    assert institutions.run_job("psi")["results"]["alice"]["result"]["intersection"] > 0
