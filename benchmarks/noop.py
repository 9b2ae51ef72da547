"""A no-op `pulumi up` against docker compose's no-op over containers of the same shape."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import yaml

from benchmarks.result import Result, median_s, timed
from consortium.demo import Demo
from consortium.folders import cache_folder
from consortium.workspace import Workspace

COMPOSE = "github.com/docker/compose/v2/cmd@v2.29.7"
ROUNDS = 7


def measure(demo: Demo) -> list[Result]:
    """Alternate the two, so that whatever else the machine does strikes both alike."""
    compose = compose_binary()
    project = demo.folder / "compose.yaml"
    project.write_text(yaml.safe_dump(same_shape(demo, "alice")))
    command = [str(compose), "--project-name", f"{demo.name}-compose", "--file", str(project)]
    workspace = Workspace.find(demo.workspace("alice"))

    def pulumi() -> None:
        workspace.pulumi("up", "--yes", "--skip-preview", party="alice")

    def docker_compose() -> None:
        subprocess.run([*command, "up", "--detach"], check=True, capture_output=True)

    try:
        docker_compose()
        pulumi()
        pairs = [(timed(pulumi), timed(docker_compose)) for _ in range(ROUNDS)]
    finally:
        subprocess.run([*command, "down", "--volumes", "--timeout", "1"], check=True, capture_output=True)
    ours, theirs = [list(samples) for samples in zip(*pairs, strict=True)]
    how = f"pulumi up --yes --skip-preview, nothing changed; median of {ROUNDS}, alternating with docker compose up -d"
    return [
        Result("no-op pulumi up", median_s(ours), "s", 4, how, ours),
        Result("no-op docker compose up", median_s(theirs), "s", None, how, theirs),
        Result("no-op pulumi up ÷ docker compose", median_s(ours) / median_s(theirs), "×", 2, how),
    ]


def compose_binary() -> Path:
    """Docker compose built from its Go module, kept in the user's cache folder."""
    folder = cache_folder() / COMPOSE.rpartition("@")[2].join(("compose-", ""))
    binary = folder / "docker-compose"
    if not binary.exists():
        print(f"building {COMPOSE} (once)", flush=True)
        environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
        subprocess.run(["go", "install", "-trimpath", "-ldflags", "-s -w", COMPOSE], check=True, env=environment)
        (folder / "cmd").rename(binary)
    return binary


def same_shape(demo: Demo, party: str) -> dict[str, Any]:
    """A compose file with the same networks, volumes and containers; only names and published ports differ."""
    engine = docker.from_env()
    services = {}
    for container in engine.containers.list(filters={"label": f"consortium.name={demo.name}"}):
        if container.labels["consortium.party"] != party:
            continue
        host = container.attrs["HostConfig"]
        services[container.attrs["Config"]["Hostname"]] = {
            "image": container.attrs["Config"]["Image"],
            "restart": "unless-stopped",
            "mem_limit": host["Memory"],
            "memswap_limit": host["MemorySwap"],
            "cpus": host["NanoCpus"] / 1e9,
            "shm_size": host["ShmSize"],
            "networks": ["inside", "outside"] if container.labels["consortium.role"] == "gateway" else ["inside"],
            "volumes": ["jobs:/var/lib/consortium-jobs"],
        }
    return {"services": services, "networks": {"inside": {"internal": True}, "outside": {}}, "volumes": {"jobs": {}}}
