"""Parties as they are in the field, without containers: each a coordinator process behind a real gateway of its own.

Files are a node's own; only addresses, folders, the ports of slots and the Python of drivers are replaced. What stands
in is Ray (this process, with real driver processes) and the network between gateways: `Link`s make it slow or cut it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consortium import ports
from consortium.node_paths import COORDINATOR_CONFIG
from consortium.nodefiles import Secrets, files_for, hosts_of
from tests import builders
from tests.coordinator.coordinator_rig import GATEWAY_TOKEN, OPERATOR_TOKEN, Rig
from tests.gateway.loopback_gateways import Gateway, lay_all, loopback_addresses, relocate
from tests.load.link import Link
from tests.load.processes import errors_logged

CLOCK = Path(__file__).parent / "clock"


class GatewayRig(Rig):
    """Coordinators that reach one another through mTLS from gateway to gateway only.

    `consortium` and `settings`: fields of consortium.yaml and of every stack's settings. `links`: whether a `Link` lies
    before each gateway for each peer.
    """

    up_s = 120.0

    def __init__(
        self,
        folder: Path,
        parties: list[str],
        *,
        consortium: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        links: bool = False,
        **overrides: Any,
    ) -> None:
        slots = overrides.get("slots", 1)
        settings = {"policy": {"default": "approve"}, **(settings or {})}
        self.models = {
            p: builders.model(*parties, own=p, slots=slots, settings=settings, consortium=consortium) for p in parties
        }
        pairs = [(a, b) for a in parties for b in parties if a != b] if links else []
        names = [n for p in parties for n in (p, f"{p}-head")] + [f"{a}-{b}-link" for a, b in pairs]
        self.addresses = loopback_addresses(names)
        self.links = {(a, b): Link(self.addresses[f"{a}-{b}-link"], self.addresses[b]) for a, b in pairs}
        self.gateways = {
            p: Gateway(p, self.addresses[p], self.addresses[f"{p}-head"], folder / p / "gateway") for p in parties
        }
        super().__init__(folder, parties, **overrides)
        self.ports = dict.fromkeys(parties, (ports.COORDINATOR_OPERATOR_PORT, ports.COORDINATOR_PEER_PORT))
        self.ray_ports = dict.fromkeys(parties, ports.RAY_JOBS_PORT)
        for party, ray in self.rays.items():
            ray.logs = folder / party / "ray"
            ray.logs.mkdir()

    def slot_ports(self, party: str) -> dict[int, int]:
        """Port of a slot on a head → a free one here: a driver takes its port on all addresses of the machine."""
        on_node = {"fed": ports.fed_port, "spu": ports.spu_port}
        return {
            on_node[service](int(slot)): int(address.rpartition(":")[2])
            for service, slots in self.own[party].items()
            for slot, address in slots.items()
        }

    def make_key(self, party: str) -> Ed25519PrivateKey:
        key = load_pem_private_key(builders.signing_key(party).private.encode(), None)
        assert isinstance(key, Ed25519PrivateKey)
        return key

    def host(self, party: str) -> str:
        return self.addresses[f"{party}-head"]

    def door(self, party: str) -> str:
        """The operator's door of a party's gateway."""
        return f"http://{self.addresses[party]}:{ports.GATEWAY_OPERATOR_PORT}"

    def secrets(self, party: str) -> Secrets:
        return replace(builders.secrets(party), gateway_token=GATEWAY_TOKEN, operator_token=OPERATOR_TOKEN)

    def document(self, party: str) -> dict[str, Any]:
        """The node's own coordinator.json, relocated."""
        model, gateway = self.models[party], self.gateways[party]
        host = self.host(party)
        replaced = {f"0.0.0.0:{port}": f"{host}:{here}" for port, here in self.slot_ports(party).items()}
        replaced |= {"0.0.0.0": host, "127.0.0.1": host, f"{party}-head": host, f"{party}-gateway": gateway.address}
        files = {f.path: f.content for f in files_for(model, builders.secrets(party), hosts_of(model)[0])}
        node = json.loads(relocate(files[str(COORDINATOR_CONFIG)], gateway.folder, replaced))
        home = super().document(party)
        certificate = self.folder / party / "gateway.pem"
        certificate.write_text(self.secrets(party).gateway_certificate)
        return {
            **node,
            **{key: home[key] for key in ("state_dir", "jobs_dir", "secrets", "datasets")},
            "ray": {**node["ray"], "python": str(self._python(party))},
            "certificate_file": str(certificate),
        }

    def environment(self, party: str) -> dict[str, str]:
        """What lets a party's clock be set (`set_clock`)."""
        return {"PYTHONPATH": str(CLOCK), "CLOCK_FILE": str(self.folder / party / "clock")}

    def set_clock(self, party: str, ahead_s: float) -> None:
        """Let the coordinator and the drivers of a party see a clock so many seconds ahead, at once."""
        with (self.folder / party / "clock").open("r+b") as file:
            file.write(f"{ahead_s:+016.6f}".encode())

    def _python(self, party: str) -> Path:
        """The Python of drivers: with the party's clock, as its coordinator has."""
        (self.folder / party / "clock").write_text(f"{0:+016.6f}")
        path = self.folder / party / "python"
        settings = " ".join(f"'{k}={v}'" for k, v in self.environment(party).items())
        path.write_text(f'#!/bin/sh\nexec env {settings} {sys.executable} "$@"\n')
        path.chmod(0o755)
        return path

    async def open_gateway(self) -> None:
        """Every party's own gateway."""
        for link in self.links.values():
            await link.open()
        for party, gateway in self.gateways.items():
            seen = {p: self.addresses[p] for p in self.parties}
            seen |= {b: link.address for (a, b), link in self.links.items() if a == party}
            slots = {f"port_value: {port}}}": f"port_value: {here}}}" for port, here in self.slot_ports(party).items()}
            lay_all(gateway, self.models[party], self.secrets(party), seen, slots)
            await asyncio.to_thread(gateway.start)

    async def __aexit__(self, *what: object) -> None:
        await super().__aexit__(*what)
        for gateway in self.gateways.values():
            gateway.stop()
        for link in self.links.values():
            await link.close()

    async def connected(self, limit_s: float = 120) -> None:
        """Run every coordinator as a process and wait until all have heard of one another."""
        for party in self.parties:
            self.spawn(party)
        await self.wait_up(*self.parties)
        end = time.monotonic() + limit_s
        for party in self.parties:
            while not all(p["up"] for p in (await self.status(party))["peers"].values()):
                if time.monotonic() > end:
                    raise AssertionError(f"{party}: {(await self.status(party))['peers']}")
                await asyncio.sleep(0.1)

    async def status(self, party: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.call(party, "GET", "status")).json()
        return found

    def errors(self) -> list[str]:
        """Lines that any coordinator logged as errors."""
        return errors_logged(self.folder / p / "coordinator.log" for p in self.parties)
