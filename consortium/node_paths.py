"""Where things lie on a node. Roles and coordinator.json hold the same paths."""

from __future__ import annotations

from pathlib import PurePosixPath

CONFIG_DIR = PurePosixPath("/etc/consortium")
COORDINATOR_CONFIG = CONFIG_DIR / "coordinator.json"
SECRETS_DIR = CONFIG_DIR / "secrets"
GATEWAY_DIR = CONFIG_DIR / "gateway"
GATEWAY_CERTIFICATE = CONFIG_DIR / "gateway.crt"
"""On the head: the gateway's public certificate, so that the coordinator can tell how long it lasts."""

KUSCIA_KEY = SECRETS_DIR / "kuscia.key"
KUSCIA_TOKEN = SECRETS_DIR / "kuscia.token"
KUSCIA_CERTIFICATE = CONFIG_DIR / "kuscia.crt"
"""On the head: with which the coordinator speaks to its Kuscia node; its CA is the node's own certificate."""
KUSCIA_CA = CONFIG_DIR / "kuscia-ca.crt"

KUSCIA_CONFIG = SECRETS_DIR / "kuscia.yaml"
"""On a host that carries the node: all of it is a secret."""
REGISTRY_PASSWORD = SECRETS_DIR / "registry.password"
KUSCIA_FOLDER = PurePosixPath("/var/lib/consortium-kuscia")
"""On such a host: what outlives the node's container."""

STATE_DIR = PurePosixPath("/var/lib/consortium")
"""The coordinator's database and audit log; a volume on the head."""
JOBS_DIR = PurePosixPath("/var/lib/consortium-jobs")
"""Programs, outputs and logs of jobs; one volume on head and workers."""
DATA_DIR = PurePosixPath("/data")
"""Datasets, read-only, on head and workers."""

ACCESS_DIR = PurePosixPath("/var/log/consortium/access")
"""The gateway's access log; a volume, which the head sees read-only so that the audit log can vouch for it."""
ACCESS_LOG = ACCESS_DIR / "access.log"
SECRETFLOW_PYTHON = PurePosixPath("/opt/secretflow/bin/python")
RAY_LEAVING = PurePosixPath("/run/consortium-ray-leaves")
"""On a worker: while this file is there, a Ray that has ended is not started again (consortium/draining.py)."""
