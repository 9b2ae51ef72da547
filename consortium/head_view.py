"""What the templates of Ray and of the coordinator need, all decided here."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from consortium import ports
from consortium.gateway_view import gateway_name
from consortium.node_paths import ACCESS_LOG, GATEWAY_CERTIFICATE, JOBS_DIR, SECRETFLOW_PYTHON, SECRETS_DIR, STATE_DIR
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


def head_name(party: str) -> str:
    """Host name of a party's head."""
    return f"{party}-head"


def ray_view(model: Model, role: str) -> dict[str, Any]:
    """The variable `ray` of the launcher: options and environment, ready for a shell."""
    limits = model.settings.resources.for_role(role)
    store = max(LEAST_OBJECT_STORE, int(limits.shm_mb * 1024 * 1024 * OBJECT_STORE_SHARE))
    options = [
        f"--num-cpus={max(LEAST_RAY_CPUS, math.ceil(limits.cpus))}",
        f"--object-store-memory={store}",
        *(f"--{name}={port}" for name, port in ports.RAY_FIXED_PORTS.items()),
    ]
    if role == "head":
        options += [
            "--head",
            f"--port={ports.RAY_GCS_PORT}",
            "--include-dashboard=true",
            # The Jobs API has no password: only this node's own coordinator may reach it.
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={ports.RAY_JOBS_PORT}",
            f"--resources={json.dumps({HEAD_RESOURCE: HEAD_RESOURCE_AMOUNT})}",
        ]
    else:
        options.append(f"--address={head_name(model.party)}:{ports.RAY_GCS_PORT}")
    return {"options": [shlex.quote(option) for option in options]}


def coordinator_config(model: Model, datasets: Mapping[str, str]) -> dict[str, Any]:
    """coordinator.json; its model is coordinator/config.py. `datasets`: name → path on the node."""
    slots = range(model.consortium.slots)
    return {
        "consortium": model.consortium.name,
        "party": model.party,
        "members": list(model.consortium.members),
        "left": {name: model.parties[name].signing_key for name in model.consortium.left},
        "consortium_digest": model.digest(),
        "versions": model.consortium.versions.model_dump(mode="json"),
        "slots": model.consortium.slots,
        "ports": {"operator": ports.COORDINATOR_OPERATOR_PORT, "peer": ports.COORDINATOR_PEER_PORT},
        "bind": "0.0.0.0",
        "peers": {name: _peer(model, name, party) for name, party in model.peers.items()},
        "own": {
            "fed": {str(k): f"0.0.0.0:{ports.fed_port(k)}" for k in slots},
            "spu": {str(k): f"0.0.0.0:{ports.spu_port(k)}" for k in slots},
        },
        "datasets": dict(datasets),
        "ray": {
            "jobs_url": f"http://127.0.0.1:{ports.RAY_JOBS_PORT}",
            "address": f"{head_name(model.party)}:{ports.RAY_GCS_PORT}",
            "python": str(SECRETFLOW_PYTHON),
            "head_resources": {HEAD_RESOURCE: 1},
        },
        "state_dir": str(STATE_DIR),
        "jobs_dir": str(JOBS_DIR),
        "secrets": {
            "signing_key_file": str(SECRETS_DIR / "signing.key"),
            "operator_token_file": str(SECRETS_DIR / "operator.token"),
            "gateway_token_file": str(SECRETS_DIR / "gateway.token"),
        },
        "timeouts": {
            **model.timeouts.model_dump(mode="json"),
            "cross_silo_comm_options": model.timeouts.cross_silo_comm_options(),
            "spu_link_desc": model.timeouts.spu_link_desc(),
        },
        "limits": model.consortium.limits.model_dump(mode="json") | model.settings.limits.model_dump(mode="json"),
        "policy": model.settings.policy.model_dump(mode="json"),
        "access_log": str(ACCESS_LOG),
        "certificate_file": str(GATEWAY_CERTIFICATE),
    }


def health_checks(_model: Model) -> list[dict[str, str]]:
    """The coordinator answers, and so does Ray's Jobs API."""
    return [
        {"url": f"http://127.0.0.1:{ports.COORDINATOR_OPERATOR_PORT}/healthz", "contains": ""},
        {"url": f"http://127.0.0.1:{ports.RAY_JOBS_PORT}/api/version", "contains": ""},
    ]


def _peer(model: Model, name: str, party: Party) -> dict[str, Any]:
    outbound = ports.outbound_ports(model.consortium.members, model.party, model.consortium.slots)[name]
    host = gateway_name(model.party)
    slots = range(model.consortium.slots)
    return {
        "url": f"http://{host}:{outbound[ports.COORDINATOR]}",
        "signing_key": party.signing_key,
        "fed": {str(k): f"{host}:{outbound[ports.fed_service(k)]}" for k in slots},
        "spu": {str(k): f"{host}:{outbound[ports.spu_service(k)]}" for k in slots},
    }
