"""The page for beginners is run as it stands: every command of it, in order, in one shell, on real containers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from consortium.engine import engine_address
from testing import registry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-consortium.md"


@pytest.fixture
def environment(engine: docker.DockerClient) -> Iterator[registry.Environment]:
    """A name and ports that nobody else uses. Whatever the page leaves behind is taken away."""
    made = registry.claim(("alice", "bob"), engine_address())
    yield made
    registry.reap(engine, [made.name])


def script(environment: registry.Environment) -> str:
    """The page's commands, with this run's own name, folder, address and ports in place of the page's."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = "".join(blocks)
    own = {
        "../first": str(environment.folder),
        "--name first": f"--name {environment.name}",
        "172.17.0.1": engine_address(),
        "18443": str(environment.gateway_ports["alice"]),
        "28443": str(environment.gateway_ports["bob"]),
        "18080": str(environment.operator_ports["alice"]),
        "28080": str(environment.operator_ports["bob"]),
    }
    for word, replacement in own.items():
        assert word in text, f"{PAGE.name} no longer has {word}"
        text = text.replace(word, replacement)
    return text


def test_every_command_of_the_page_works_in_order(
    environment: registry.Environment, engine: docker.DockerClient
) -> None:
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script(environment)],
        cwd=ROOT, input="y\n", capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    said = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert done.returncode == 0, said
    assert done.stdout.count('"intersection": 200') == 2, said
    assert registry.sweep(engine, environment.name) == [], "the page takes down what it made"
