"""A consortium of two: alice on machines, reached over SSH; bob in containers of the engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from consortium.keyring import Keyring
from consortium.ssh_settings import SSH_KEY
from consortium.stackfile import StackFile
from testing import Consortium, Party, registry
from tests.hosts.machine import USER, Machine, SshKey

ALICE = "alice"
DATA = "/srv/consortium"
TUNNEL_S = 60.0


class Mixed(Consortium):
    """As `Consortium`, with machines made when alice joins: head, one worker, gateway."""

    def __init__(self, machine_image: str, key: SshKey) -> None:
        super().__init__(2, slots=1, workers={"bob": 0, ALICE: 1})
        self._machine_image, self._key = machine_image, key
        self.machines: dict[str, Machine] = {}
        self.tunnel: subprocess.Popen[bytes] | None = None

    def join(
        self, party: Party, datasets: Mapping[str, str | Path], common: Mapping[str, Any], workers: int | None = None
    ) -> None:
        if party.name == ALICE:
            self._make_machines(datasets)
            common = self._settings_of(party, datasets)
        super().join(party, datasets, common, workers)
        if party.name == ALICE:
            Keyring(party.workspace, ALICE, self.name).set(SSH_KEY, self._key.private)

    def up(self) -> Mixed:
        super().up()
        return self

    def wait_until_connected(self, timeout_s: float = 180) -> None:
        self._open_tunnel()
        super().wait_until_connected(timeout_s)

    def close(self) -> None:
        try:
            self.each(lambda party: party.down())
        finally:
            if self.tunnel:
                self.tunnel.terminate()
                self.tunnel.wait()
            for machine in self.machines.values():
                machine.remove()
            self.engine.volumes.get(f"{self.name}-machines-jobs").remove()
        super().close()

    def logs(self) -> dict[str, str]:
        said = {
            name: machine.run("sh", "-c", "journalctl --namespace consortium -n 150 --no-pager; systemctl --failed")[1]
            for name, machine in self.machines.items()
        }
        return {
            **said,
            **{n.name: n.logs() for party in self.parties.values() if party.name != ALICE for n in party.nodes},
        }

    def machine(self, node: str) -> Machine:
        return self.machines[node]

    def another_worker(self) -> Machine:
        """A machine more, as the first worker is; nothing runs there yet."""
        made = self._make("worker-2", {})
        made.sh(f"mkdir -p {DATA}")
        source = self.machines["worker"]
        for path in source.sh(f"ls {DATA}/*.csv").split():
            made.write(path, source.sh(f"cat {path}"))
        return made

    def workers(self, *machines: Machine, **settings: Any) -> None:
        """Alice's workers from the next `up` on."""
        file = StackFile(self.party(ALICE).workspace.stack_file(ALICE))
        found = file.config()["settings"]
        ssh = {**found["ssh"], "workers": [machine.settings() for machine in machines]}
        file.update(settings={**found, **settings, "workers": len(machines), "ssh": ssh})

    def _make_machines(self, datasets: Mapping[str, str | Path]) -> None:
        # What a real institution mounts over NFS.
        self.engine.volumes.create(f"{self.name}-machines-jobs", labels={registry.LABEL: self.name})
        for node in ("head", "worker", "gateway"):
            port = self.environment.gateway_ports[ALICE]
            made = self._make(node, {port: port} if node == "gateway" else {})
            if node != "gateway":
                made.sh(f"mkdir -p {DATA}")
                for name, path in datasets.items():
                    made.write(f"{DATA}/{name}.csv", Path(path).read_text())

    def _make(self, node: str, published: Mapping[int, int]) -> Machine:
        self.machines[node] = Machine(
            self.engine,
            self._machine_image,
            self._key.public,
            published=published,
            volumes={} if node == "gateway" else {f"{self.name}-machines-jobs": "/var/lib/consortium-jobs"},
            name=f"{self.name}-{node}",
            labels={registry.LABEL: self.name},
        )
        return self.machines[node]

    def _settings_of(self, party: Party, datasets: Mapping[str, str | Path]) -> dict[str, Any]:
        found = {node: machine.settings() for node, machine in self.machines.items()}
        return {
            "placement": "ssh",
            "ssh": {"user": USER, "head": found["head"], "workers": [found["worker"]], "gateway": found["gateway"]},
            "gateway": {"bind": "0.0.0.0", "port": self.environment.gateway_ports[ALICE]},
            "operator": {"bind": "127.0.0.1", "port": party.operator_port},
            "datasets": {name: {"path": f"{DATA}/{name}.csv"} for name in datasets},
        }

    def _open_tunnel(self) -> None:
        party = self.party(ALICE)
        self.tunnel = subprocess.Popen(
            [sys.executable, "-m", "consortium", "hosts", "tunnel", "--party", ALICE],
            cwd=party.workspace.root,
            env={**os.environ, **party.workspace.environment()},
        )
        end = time.monotonic() + TUNNEL_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{party.operator_port}/healthz")
            except httpx.HTTPError as error:
                assert self.tunnel.poll() is None, "the tunnel has ended"
                assert time.monotonic() < end, str(error)
                time.sleep(0.3)
            else:
                return
