"""Parties in Kuscia mode for tests: real coordinators, each with its own node (kuscia_nodes) behind mutual TLS."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvicorn

from tests.coordinator.coordinator_rig import Rig, free_ports
from tests.coordinator.kuscia_jobs import folder
from tests.coordinator.kuscia_nodes import Network, controllers
from tests.kuscia import kuscia_builders
from tests.kuscia.tls_files import TlsFiles, tls_files

TIMEOUTS = {
    "heartbeat_s": 0.1,
    "peer_lost_after_s": 1,
    "promise_s": 5,
    "start_lead_s": 0.1,
    "start_window_s": 5,
    "job_s": 60,
    "shutdown_s": 5,
    "peer_request_s": 1.5,
    "peer_transfer_s": 5,
    "rayfed_barrier_s": 60,
    "spu_link_desc": {"recv_timeout_ms": 1000},
}


@dataclass(frozen=True)
class Door:
    """Where a party's KusciaAPI is, and what a caller needs there."""

    url: str
    files: TlsFiles
    token: str


@functools.cache
def _files(party: str) -> TlsFiles:
    """Once per run: making keys is slow."""
    folder = Path(tempfile.mkdtemp(prefix="kuscia-tls-"))
    atexit.register(shutil.rmtree, folder)
    return tls_files(kuscia_builders.domain(party), folder)


class KusciaParties(Rig):
    """As Rig, but nothing goes from one coordinator to another: each has a node."""

    def __init__(self, home: Path, doors: dict[str, Door], **more: Any) -> None:
        self.doors = doors
        super().__init__(home, list(doors), **more)

    def document(self, party: str) -> dict[str, Any]:
        config, door = super().document(party), self.doors[party]
        token = self.folder / party / "secrets" / "kuscia.token"
        token.write_text(door.token)
        config |= {
            "slots": 0,
            "peers": {},
            "own": {"fed": {}, "spu": {}},
            "ray": None,
            "datasets": {name: f"/data/{name}.csv" for name in ("customers", "patients")},
            "timeouts": TIMEOUTS,
            "kuscia": {
                "url": door.url,
                "ca_file": str(door.files.ca),
                "certificate_file": str(door.files.certificate),
                "key_file": str(door.files.key),
                "token_file": str(token),
                "signing_keys": {p: self.public(p) for p in self.parties if p != party},
            },
        }
        del config["secrets"]["gateway_token_file"]
        return config

    async def __aenter__(self) -> Self:
        return self

    async def propose(self, party: str = "alice", **fields: Any) -> str:
        """Submit a pipeline; returns the job id."""
        return await self.submit(party, folder(**fields))


class KusciaRig(KusciaParties):
    """With nodes in memory."""

    def __init__(self, home: Path, *, network: Network | None = None, **more: Any) -> None:
        self.network = network or Network(["alice", "bob"])
        ports = iter(free_ports(len(self.network.parties)))
        doors = {}
        for party, node in self.network.nodes.items():
            doors[party] = Door(f"https://127.0.0.1:{next(ports)}", _files(party), node.token)
        self._exits = contextlib.AsyncExitStack()
        super().__init__(home, doors, **more)

    async def __aenter__(self) -> Self:
        for party in self.parties:
            await self._serve_node(party)
        await self._exits.enter_async_context(controllers(self.network))
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.network.nodes.values():
            node.down = True  # ends every watch
        await super().__aexit__(*_)
        await self._exits.aclose()

    async def _serve_node(self, party: str) -> None:
        files = self.doors[party].files
        server = uvicorn.Server(
            uvicorn.Config(
                self.network.nodes[party].app(),
                host="127.0.0.1",
                port=int(self.doors[party].url.rpartition(":")[2]),
                log_level="error",
                lifespan="off",
                access_log=False,
                ssl_certfile=str(files.server_certificate),
                ssl_keyfile=str(files.server_key),
                ssl_ca_certs=str(files.ca),
                ssl_cert_reqs=ssl.CERT_REQUIRED,
                timeout_graceful_shutdown=1,
            )
        )
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve())
        self._servers.append((server, task))
        while not server.started:
            await asyncio.sleep(0.01)
