"""kuscia.yaml, the one file of a node: it holds the node's key and passwords, so all of it is a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from consortium.errors import UsageError
from consortium.kuscia.keys import Domain, encoded
from consortium.kuscia.names import DATABASE_PASSWORD, REGISTRY_PASSWORD, database_name, node_name
from consortium.kuscia.settings import Amounts, KusciaSettings, MySql, Reserved
from consortium.stackfile import dump
from consortium.trust import KeyPair

PUBLIC_PORT = 1080
"""Where peers come in; the one port that leaves the machine."""
API_PORT, API_GRPC_PORT = 8082, 8083
"""KusciaAPI, inside only."""
KEPT = {
    "storage": "/home/kuscia/var/storage",
    "database": "/home/kuscia/var/k3s/server/db",
    "stdout": "/home/kuscia/var/stdout",
}
"""What outlives a container → where it is. Certificates are made again from the key; the engine stays the image's."""
DATABASE = "kuscia"
"""Name and user of a database that is made."""
PATH = "/home/kuscia/etc/conf/kuscia.yaml"
_PASSWORD = re.compile(r"[A-Za-z0-9._~!*-]{1,200}")


@dataclass(frozen=True)
class NodeSecrets:
    """What the stack keeps encrypted for the node."""

    domain: Domain
    database_password: str = field(default="", repr=False)
    registry_password: str = field(default="", repr=False)
    client: KeyPair | None = None
    """With which the coordinator asks the node; it is no part of the node's own file."""


def kuscia_yaml(settings: KusciaSettings, secrets: NodeSecrets) -> str:
    """The file's text. Raises UsageError for a password that is missing or cannot stand in a connection string."""
    database = database_of(settings, secrets.domain.party)
    config: dict[str, Any] = {
        "mode": "autonomy",
        "domainID": secrets.domain.party,
        "domainKeyData": encoded(secrets.domain.key),
        "logLevel": settings.log_level,
        # Both the peers' door and KusciaAPI ask for a certificate; there is no setting for less.
        "protocol": "MTLS",
        "runtime": settings.runtime,
        "capacity": _amounts(settings.capacity),
        "reservedResources": _amounts(settings.reserved),
        "image": _image(settings, secrets),
        "datastoreEndpoint": _datastore(database, secrets.database_password) if database else "",
        # A party's jobs wait for its yes, as in the other mode.
        "enableWorkloadApprove": True,
        "logrotate": {
            "maxFiles": settings.logs.max_files,
            "maxFileSizeMB": settings.logs.max_file_mb,
            "maxAgeDays": settings.logs.max_age_days,
        },
        "garbageCollection": {"kusciaJobGC": {"durationHours": settings.keep_jobs_hours}},
    }
    # The node's own host name is there by itself; in a pod that is not the name of its service.
    config["kusciaAPISans"] = [node_name(secrets.domain.party), *settings.api_names]
    if settings.runk:
        config["runk"] = {
            "namespace": settings.runk.namespace,
            "dnsServers": list(settings.runk.dns_servers),
            "kubeconfigFile": "",
            "enableLogging": settings.runk.logs,
        }
    if settings.runtime == "runc":
        config["agent"] = {"allowPrivileged": False}
    return dump(config)


def database_of(settings: KusciaSettings, party: str) -> MySql | None:
    """The database that is there, or the one that is made; None = SQLite."""
    if settings.mariadb:
        return MySql(host=database_name(party), database=DATABASE, user=DATABASE)
    return settings.database


def _amounts(given: Amounts | Reserved) -> dict[str, str]:
    """Only what is given: an empty value would be no amount."""
    names = {"ephemeral_storage": "ephemeralStorage"}
    found = given.model_dump(exclude_none=True)
    return {names.get(name, name): str(value) for name, value in found.items()}


def _image(settings: KusciaSettings, secrets: NodeSecrets) -> dict[str, Any]:
    registry = settings.registry
    if not registry:
        return {"pullPolicy": "local"}
    entry = {"name": "registry", "endpoint": registry.endpoint}
    if registry.username:
        if not secrets.registry_password:
            raise _missing(REGISTRY_PASSWORD, "registry.username is set")
        entry |= {"username": registry.username, "password": secrets.registry_password}
    found: dict[str, Any] = {"pullPolicy": "remote", "defaultRegistry": "registry", "registries": [entry]}
    return found | ({"httpProxy": settings.http_proxy} if settings.http_proxy else {})


def _datastore(database: MySql, password: str) -> str:
    if not password:
        raise _missing(DATABASE_PASSWORD, "database is set")
    if problem := password_problem(password):
        raise UsageError(
            f"the password {problem}",
            where=DATABASE_PASSWORD,
            value="(not shown)",
            fix="give the database user another password",
        )
    return f"mysql://{database.user}:{password}@tcp({database.host}:{database.port})/{database.database}"


def password_problem(password: str) -> str:
    """Why a password cannot be that of the database, as the end of a sentence; empty if it can."""
    if _PASSWORD.fullmatch(password):
        return ""
    return (
        "cannot stand in Kuscia's connection string, which knows no escapes: 1 to 200 letters, digits and . _ ~ ! * -"
    )


def _missing(secret: str, because: str) -> UsageError:
    of = "database" if secret == DATABASE_PASSWORD else "registry"
    fix = f"consortium kuscia password {of}"
    return UsageError(f"the secret {secret} is missing, and {because}", where=secret, fix=fix)
