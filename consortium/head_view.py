"""What the templates of Ray and of the coordinator need, all decided here."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from consortium import ports
from consortium.kuscia.names import node_name
from consortium.kuscia.node_config import API_PORT
from consortium.node_addresses import gateway_address, head_address
from consortium.node_file import Host
from consortium.node_paths import (
    ACCESS_LOG,
    GATEWAY_CERTIFICATE,
    JOBS_DIR,
    KUSCIA_CA,
    KUSCIA_CERTIFICATE,
    KUSCIA_KEY,
    KUSCIA_TOKEN,
    RAY_LEAVING,
    SECRETFLOW_PYTHON,
    SECRETS_DIR,
    STATE_DIR,
)
from consortium.spec import Model, Party

HEAD_RESOURCE = "consortium_head"
"""A Ray resource that only the head has: receivers ask for it, as the gateway forwards to the head."""
HEAD_RESOURCE_AMOUNT = 1000
LEAST_RAY_CPUS = 4
"""Ray's CPUs are tickets for tasks that run at the same time; the container's own limit bounds the real ones. With
fewer, two programs side by side wait for one another."""
OBJECT_STORE_SHARE = 0.5
"""Of shared memory; the rest is for what libraries share by themselves."""
LEAST_OBJECT_STORE = 80 * 1024 * 1024
"""Bytes; Ray refuses less than 75 MB."""


def ray_view(model: Model, host: Host, address: str = "") -> dict[str, Any]:
    """The variable `ray` of the launcher: options, ready for a shell. `address`: the node's own; empty = it asks."""
    limits = model.limits_of(host.role)
    store = max(LEAST_OBJECT_STORE, int(limits.shm_mb * 1024 * 1024 * OBJECT_STORE_SHARE))
    options = [
        f"--node-name={host.name}",
        f"--num-cpus={max(LEAST_RAY_CPUS, math.ceil(limits.cpus))}",
        f"--object-store-memory={store}",
        *(f"--{name}={port}" for name, port in ports.RAY_FIXED_PORTS.items()),
        *([f"--num-gpus={limits.gpus}"] if limits.gpus else []),
    ]
    outside = model.settings.ray
    if host.role == "head":
        options.append(f"--resources={json.dumps({HEAD_RESOURCE: HEAD_RESOURCE_AMOUNT})}")
    if host.role == "head" and not outside:
        options += [
            "--head",
            f"--port={ports.RAY_GCS_PORT}",
            "--include-dashboard=true",
            # The Jobs API has no password: only this node's own coordinator may reach it.
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={ports.RAY_JOBS_PORT}",
        ]
    else:
        options.append(f"--address={_gcs(model)}")
    leaving = str(RAY_LEAVING) if host.role == "worker" else ""
    return {
        "options": [shlex.quote(option) for option in options],
        "address": address,
        "toward": outside.address if outside else "",
        "leaving": leaving,
    }


def _gcs(model: Model) -> str:
    if model.settings.ray:
        return model.settings.ray.address
    return f"{head_address(model)}:{ports.RAY_GCS_PORT}"


def coordinator_config(model: Model, datasets: Mapping[str, str]) -> dict[str, Any]:
    """coordinator.json; its model is coordinator/config.py. `datasets`: name → path on the node."""
    common = {
        "consortium": model.consortium.name,
        "party": model.party,
        "members": list(model.consortium.members),
        "left": {name: model.parties[name].signing_key for name in model.consortium.left},
        "revoked": {n: model.parties[n].signing_key for n in model.settings.revoked if n not in model.consortium.left},
        "consortium_digest": model.digest(),
        "versions": model.consortium.versions.packages(),
        "release": model.consortium.versions.coordinator,
        # Of a party that has gone over too: it waits for the others until the window ends.
        "maintenance": model.window and model.window.model_dump(mode="json", include={"from_", "to"}),
        "ports": {"operator": operator_port(model), "peer": ports.COORDINATOR_PEER_PORT},
        "bind": "0.0.0.0",
        "datasets": dict(datasets),
        "state_dir": str(STATE_DIR),
        "jobs_dir": str(JOBS_DIR),
        "secrets": {
            "signing_key_file": str(SECRETS_DIR / "signing.key"),
            "operator_token_file": str(SECRETS_DIR / "operator.token"),
        },
        "timeouts": _timeouts(model),
        "limits": model.consortium.limits.model_dump(mode="json") | model.settings.limits.model_dump(mode="json"),
        "policy": model.settings.policy.model_dump(mode="json"),
    }
    of_mode = _of_kuscia(model) if model.kuscia else _of_ray(model)
    secrets = common["secrets"] | of_mode.pop("secrets", {})
    return common | of_mode | {"secrets": secrets}


def operator_port(model: Model) -> int:
    """Where the operator's interface listens; what publishes it elsewhere brings it to the port of the settings."""
    direct = model.kuscia and model.settings.ssh
    return model.settings.operator.port if direct else ports.COORDINATOR_OPERATOR_PORT


def _timeouts(model: Model) -> dict[str, Any]:
    return {
        **model.timeouts.model_dump(mode="json"),
        # Only the head reaches the gateway, so what sends to peers must not be placed elsewhere in another cluster.
        "cross_silo_comm_options": model.timeouts.cross_silo_comm_options()
        | ({"send_resource_label": {HEAD_RESOURCE: 1}} if model.settings.ray else {}),
        "spu_link_desc": model.timeouts.spu_link_desc(),
    }


def _of_ray(model: Model) -> dict[str, Any]:
    slots, outside = range(model.consortium.slots), model.settings.ray
    return {
        "slots": model.consortium.slots,
        "peers": {name: _peer(model, name, party) for name, party in model.peers.items()},
        "own": {
            "fed": {str(k): f"0.0.0.0:{ports.fed_port(k)}" for k in slots},
            "spu": {str(k): f"0.0.0.0:{ports.spu_port(k)}" for k in slots},
        },
        "ray": {
            "jobs_url": outside.jobs_url if outside else f"http://127.0.0.1:{ports.RAY_JOBS_PORT}",
            "address": _gcs(model),
            "python": str(SECRETFLOW_PYTHON),
            "head_resources": {HEAD_RESOURCE: 1},
            # Another cluster would start a driver on its own head: no files of the job are there, no ports of slots.
            "driver_resources": {HEAD_RESOURCE: 1} if outside else {},
        },
        "secrets": {"gateway_token_file": str(SECRETS_DIR / "gateway.token")},
        "access_log": str(ACCESS_LOG),
        "certificate_file": str(GATEWAY_CERTIFICATE),
    }


def kuscia_url(model: Model) -> str:
    """Where the head reaches its node's KusciaAPI. Both names are in the node's certificate."""
    host = "127.0.0.1" if model.settings.ssh else node_name(model.party)
    return f"https://{host}:{API_PORT}"


def _of_kuscia(model: Model) -> dict[str, Any]:
    """Coordinators do not meet: each asks its own node alone."""
    return {
        "kuscia": {
            "url": kuscia_url(model),
            "ca_file": str(KUSCIA_CA),
            "certificate_file": str(KUSCIA_CERTIFICATE),
            "key_file": str(KUSCIA_KEY),
            "token_file": str(KUSCIA_TOKEN),
            "signing_keys": {name: party.signing_key for name, party in model.peers.items()},
        },
        "certificate_file": str(KUSCIA_CERTIFICATE),
    }


def health_checks(model: Model) -> list[dict[str, str]]:
    """The coordinator answers, and so does Ray's Jobs API unless it is another machine's."""
    coordinator = {"url": f"http://127.0.0.1:{operator_port(model)}/healthz", "contains": ""}
    ray = {"url": f"http://127.0.0.1:{ports.RAY_JOBS_PORT}/api/version", "contains": ""}
    return [coordinator] if model.settings.ray or model.kuscia else [coordinator, ray]


def _peer(model: Model, name: str, party: Party) -> dict[str, Any]:
    outbound = ports.outbound_ports(model.consortium.members, model.party, model.consortium.slots)[name]
    host = gateway_address(model)
    slots = range(model.consortium.slots)
    return {
        "url": f"http://{host}:{outbound[ports.COORDINATOR]}",
        "signing_key": party.signing_key,
        "fed": {str(k): f"{host}:{outbound[ports.fed_service(k)]}" for k in slots},
        "spu": {str(k): f"{host}:{outbound[ports.spu_service(k)]}" for k in slots},
    }
