"""Kuscia's own KusciaAPI, controllers and carrier of jobs, built from its source, one process per party.

Each party has a Kubernetes API server of its own, as each Kuscia node has. What a node has besides is not here: no
agent, no scheduler, no Envoy. So every task fails, for want of a machine, as soon as its job has been approved.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from consortium.kuscia import keys
from coordinator.kuscia.channel import tls
from tests.coordinator.coordinator_rig import free_ports
from tests.kuscia import kuscia_builders
from tests.kuscia.api_server import ApiServer
from tests.kuscia.tls_files import tls_files

START_S = 60


@dataclass(frozen=True)
class Endpoint:
    """One party's KusciaAPI, and what a caller needs. `kubernetes`: what is behind it, where a test may look."""

    party: str
    url: str
    ca: Path
    certificate: Path
    key: Path
    token: str = field(repr=False)
    kubernetes: ApiServer | None = None


def kubeconfig(server: ApiServer, certificate: Path, path: Path) -> Path:
    """A file with which a program speaks to the server as its administrator."""
    token = server.client.headers["Authorization"].removeprefix("Bearer ")
    cluster = {"server": str(server.client.base_url).rstrip("/"), "certificate-authority": str(certificate)}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "own",
        "clusters": [{"name": "own", "cluster": cluster}],
        "users": [{"name": "own", "user": {"token": token}}],
        "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def running(
    binary: Path,
    party: str,
    kubernetes: ApiServer,
    config: Path,
    folder: Path,
    peers: Mapping[str, Path],
    *,
    tasks: bool = True,
) -> Iterator[Endpoint]:
    """The party's node; `config` and `peers`: kubeconfigs of its own API server and of its peers'.

    Without `tasks` Kuscia makes them, and a test says how they go (`Tasks`).
    """
    folder.mkdir()
    own = kuscia_builders.domain(party)
    files = tls_files(own, folder)
    (folder / "domain.key").write_text(own.key)
    (folder / "etc").mkdir()
    shutil.copytree(binary.parent / "conf", folder / "etc" / "conf")
    http, grpc, internal, health = free_ports(4)
    command = [
        str(binary), "-domain", party, "-key", str(folder / "domain.key"), "-certificate", str(files.ca),
        "-kubeconfig", str(config), "-folder", str(folder), "-http", str(http), "-grpc", str(grpc),
        "-internal", str(internal), "-health", str(health), f"-tasks={'true' if tasks else 'false'}",
    ]  # fmt: skip
    for name, path in peers.items():
        command += ["-peer", f"{name}={path}"]
    log = folder / "node.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            url, token = f"https://127.0.0.1:{http}", keys.api_token(own)
            endpoint = Endpoint(party, url, files.ca, files.certificate, files.key, token, kubernetes)
            _wait(process, endpoint, log)
            yield endpoint
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], endpoint: Endpoint, log: Path) -> None:
    end = time.monotonic() + START_S
    context = tls(endpoint.ca, endpoint.certificate, endpoint.key)
    with httpx.Client(base_url=endpoint.url, verify=context, headers={"Token": endpoint.token}) as client:
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if client.post("/healthZ", json={}).status_code == httpx.codes.OK:
                    return
            time.sleep(0.2)
    tail = "\n".join(log.read_text().splitlines()[-20:])
    raise AssertionError(f"Kuscia's node of {endpoint.party} does not answer after {START_S} s\n{tail}")
