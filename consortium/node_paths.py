"""Where things lie on a node. Roles and coordinator.json hold the same paths."""

from __future__ import annotations

from pathlib import PurePosixPath

CONFIG_DIR = PurePosixPath("/etc/consortium")
COORDINATOR_CONFIG = CONFIG_DIR / "coordinator.json"
SECRETS_DIR = CONFIG_DIR / "secrets"
GATEWAY_DIR = CONFIG_DIR / "gateway"
GATEWAY_CERTIFICATE = CONFIG_DIR / "gateway.crt"
"""On the head: the gateway's public certificate, so that the coordinator can tell how long it lasts."""

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
