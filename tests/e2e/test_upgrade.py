"""Two institutions go over to another coordinator in the agreed window; what does not work is taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from consortium.folders import COORDINATOR, INSTALLATION, PACKAGE
from consortium.stackfile import StackFile
from consortium.subcommand import CommandFailed
from coordinator.release import source_digest
from testing import Consortium, Party, Run

pytestmark = pytest.mark.long

STOP = "/tmp/upgrade-stop"
JOB = {
    "job.yaml": f"name: upgrade\nparties: [alice, bob]\nparameters: {{until: {STOP}}}\n",
    "main.py": """
        import os
        import time

        from coordinator.session import session

        with session() as s:
            while s.settings.party == "alice" and not os.path.exists(s.parameters["until"]):
                time.sleep(0.2)
            s.result({"ok": True})
    """,
}
LINKED = ("Pulumi.yaml", "__main__.py", "roles", "templates", "jobs", "airgap", "consortium.lock", "pyproject.toml")


@dataclass(frozen=True)
class Release:
    """A whole installation with another coordinator, and the node image that it would bake."""

    folder: Path
    image: str

    @property
    def digest(self) -> str:
        return source_digest(self.folder / "coordinator")


def release(engine: docker.DockerClient, folder: Path, base: str, file: str, more: str) -> Release:
    """This code with lines added to one file of the coordinator, and an image with the same file on `base`."""
    for package in (PACKAGE, COORDINATOR):
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LINKED:
        (folder / name).symlink_to(INSTALLATION / name)
    with (folder / "coordinator" / file).open("a") as source:
        source.write(more)
    add = f"cat >> /opt/consortium/src/coordinator/{file} && /opt/coordinator/bin/python -m compileall -q -f "
    add += "--invalidation-mode unchecked-hash /opt/consortium/src/coordinator"
    node = engine.containers.run(base, ["-c", f"printf %s '{more}' | {add}"], entrypoint="/bin/sh", detach=True)
    try:
        assert node.wait()["StatusCode"] == 0, node.logs()
        settings = ['ENTRYPOINT ["/usr/local/sbin/node-init"]', "CMD []"]
        node.commit("consortium-node-test", folder.name, changes=settings)
    finally:
        node.remove(force=True)
    return Release(folder, f"consortium-node-test:{folder.name}")


@pytest.fixture(scope="module")
def two() -> Iterator[Consortium]:
    with Consortium(parties=2, workers=0, slots=1) as made:
        yield made


@pytest.fixture(scope="module")
def releases(two: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Release, Release]]:
    """One that works, one whose coordinator ends at its start."""
    base = StackFile(two.party("alice").workspace.stack_file("alice")).config()["settings"]["image"]
    place = tmp_path_factory.mktemp(two.name)
    works = release(two.engine, place / f"{two.name}-works", base, "release.py", "# another release\n")
    ends = release(two.engine, place / f"{two.name}-ends", base, "app.py", 'raise SystemExit("this release ends")\n')
    yield works, ends
    for made in (works, ends):
        two.engine.images.remove(made.image, force=True)


def at(party: Party, installed: Release, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """A command of another release, which is installed at this party."""
    file = StackFile(party.workspace.stack_file(party.name))
    file.update(settings={**file.config()["settings"], "image": installed.image})
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(installed.folder))
        return party.cli(*arguments)


def agree(two: Consortium, **versions: str) -> None:
    """All take up the same file with a window that is open."""
    now = datetime.now(UTC).replace(microsecond=0)
    window = {"from": (now - timedelta(minutes=1)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()}
    for party in two.parties.values():
        path = party.workspace.root / "consortium.yaml"
        document = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**document, "maintenance": {**window, "versions": versions}}))
    two.each(lambda party: party.up())


def status(party: Party) -> dict[str, Any]:
    return dict(party.coordinator.get("/status"))


def holds(party: Party) -> list[str]:
    """What the audit log says of holds."""
    lines = b"".join(party.coordinator.stream("/audit")).splitlines()
    records = [json.loads(json.loads(line)["content"]) for line in lines if b'"content"' in line]
    return [record["reason"] for record in records if record["kind"] == "hold"]


def reason(run: Run, party: Party, text: str) -> None:
    """Until the job's reason at a party holds a text."""
    party.coordinator.wait(f"/jobs/{run.job_id}", lambda job: text in job["reason"], 120, f"{text!r} in the reason")


def test_over_and_back(two: Consortium, releases: tuple[Release, Release], monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = two.party("alice"), two.party("bob")
    works, ends = releases
    agree(two, coordinator=works.digest)
    before = status(alice)["release"]
    image = alice.head.container.image.id
    runs = alice.submit(JOB)
    runs.wait_for_phase("running")
    waits = alice.submit(JOB)

    # A release that does not work, and a job that runs: it ends well, the other one waits, everything is put back.
    with pytest.raises(CommandFailed, match="no maintenance window"):
        at(alice, ends, monkeypatch, "upgrade", "run", "--yes")
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(at, alice, ends, monkeypatch, "upgrade", "run", "--yes", "--now", "--health", "20")
        alice.coordinator.wait("/status", lambda seen: bool(seen["held"]), 60, "the hold")
        assert status(alice)["release"] == before
        alice.head.check("touch", STOP)
        assert runs.wait().phase == "succeeded"
        with pytest.raises(CommandFailed) as failed:
            going.result(timeout=400)
    assert "image and configuration from before are in force again" in str(failed.value), failed.value
    assert "Traceback" not in str(failed.value)
    assert (status(alice)["release"], alice.head.container.image.id) == (before, image)
    assert "rolled back: " in holds(alice)[-1]
    alice.head.check("touch", STOP)
    assert waits.wait().phase == "succeeded"

    # In the window: alice goes over, a job waits until bob has gone over too.
    with pytest.raises(CommandFailed, match="going over to other versions takes more than `up`"):
        at(alice, works, monkeypatch, "up", "--yes")
    done = json.loads(at(alice, works, monkeypatch, "upgrade", "run", "--yes", "--json"))
    assert (done["upgraded"], list(done["changes"])) == (True, ["coordinator"])
    assert status(alice)["release"] == works.digest
    assert json.loads(at(alice, works, monkeypatch, "upgrade", "run", "--yes", "--json"))["upgraded"] is False
    two.wait_until_connected()
    alice.head.check("touch", STOP)
    between = bob.submit(JOB)
    reason(between, bob, "the consortium files differ")
    seen = json.loads(at(bob, works, monkeypatch, "upgrade", "status", "--json"))["parties"]
    assert seen["alice"].startswith("as agreed") and seen["bob"].startswith("not yet: coordinator"), seen
    at(bob, works, monkeypatch, "upgrade", "run", "--yes")
    assert between.wait().phase == "succeeded"
    assert "upgraded, and healthy" in holds(bob)[-1]
    alice.cli("audit", "verify")
