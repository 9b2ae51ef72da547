"""What the gateway's templates need: names, addresses and ports of every peer and service, all decided here."""

from __future__ import annotations

import base64
import hashlib
import math
from typing import Any

from consortium import ports
from consortium.node_addresses import head_address
from consortium.node_paths import ACCESS_LOG, GATEWAY_DIR
from consortium.spec import Model, Party
from consortium.trust import server_name

BUFFER_BYTES = 1024 * 1024
"""What Envoy holds per connection and direction before it stops reading; bounds its memory."""
SERVICE_CONNECTIONS = 512
"""Connections per peer and service (and per listener inside)."""
COORDINATOR_CONNECTIONS = 128
"""Of these to the coordinator, each with one request; a coordinator opens at most 100 to a peer (httpx)."""
PUBLIC_CONNECTIONS = 2048
ALL_CONNECTIONS = 4096
LOG_BYTES = 50_000_000
"""Size at which the access log is put aside."""
LOG_FILES = 10
"""How many that were put aside are kept: access.log.1 is the youngest."""

_TYPES = "type.googleapis.com/envoy.extensions"
# `mtls` says only that a certificate was offered; a refused one leaves a reason. Every connection is one or the other.
_LET_IN = "connection.mtls && !has(connection.transport_failure_reason)"
_TURNED_AWAY = f"!({_LET_IN})"


def sni(service: str, sender: str, receiver: str, consortium: str) -> str:
    """The server name that a sender asks a receiver's gateway for."""
    return f"{service}.{sender}.{receiver}.{consortium}"


def gateway_view(model: Model) -> dict[str, Any]:
    """The variable `gateway` of templates/etc/consortium/gateway."""
    services = ports.services(model.consortium.slots)
    head = head_address(model)
    operator = {"cluster": "in-operator", "host": head, "port": ports.COORDINATOR_OPERATOR_PORT}
    return {
        "consortium": model.consortium.name,
        "party": model.party,
        "server_name": server_name(model.party, model.consortium.name),
        "folder": str(GATEWAY_DIR),
        "access_log": str(ACCESS_LOG),
        "log_bytes": LOG_BYTES,
        "log_files": LOG_FILES,
        "admin_port": ports.GATEWAY_ADMIN_PORT,
        **_listens(model),
        "operator_cluster": operator["cluster"],
        "buffer_bytes": BUFFER_BYTES,
        "service_connections": SERVICE_CONNECTIONS,
        # Room for the operator, too, when there is no peer.
        "inside_connections": SERVICE_CONNECTIONS * max(1, len(model.peers)),
        "public_connections": PUBLIC_CONNECTIONS,
        "all_connections": ALL_CONNECTIONS,
        "threads": max(1, math.floor(model.settings.resources.gateway.cpus)),
        "targets": [operator]
        + [{"cluster": f"in-{service}", "host": head, "port": port} for service, port in services.items()],
        "peers": [_peer(model, name, party) for name, party in model.peers.items()],
        "rejected_log": _access_log("in", None, "rejected", only_if=_TURNED_AWAY),
    }


def _listens(model: Model) -> dict[str, Any]:
    """Where the two doors listen: inside a container whose engine publishes them, or where the settings say."""
    settings = model.settings
    if settings.placement == "docker":
        public, operator = ("0.0.0.0", ports.GATEWAY_PUBLIC_PORT), ("0.0.0.0", ports.GATEWAY_OPERATOR_PORT)
    else:
        public = (settings.gateway.bind, settings.gateway.port)
        operator = (settings.operator.bind, settings.operator.port)
    return {
        "public_bind": public[0],
        "public_port": public[1],
        "operator_bind": operator[0],
        "operator_port": operator[1],
    }


def own_coordinator(gateway_token: str) -> str:
    """Who may use the outbound listeners to coordinators, as Envoy's basic_auth reads it: one line of htpasswd.

    The token is 256 random bits, so nothing is learnt from its SHA-1, and this may stand in a file that is shown.
    """
    digest = hashlib.sha1(gateway_token.encode(), usedforsecurity=False).digest()  # the one hash that Envoy knows
    return f"coordinator:{{SHA}}{base64.b64encode(digest).decode()}"


def health_checks(view: dict[str, Any]) -> list[dict[str, str]]:
    """Envoy is ready, and has accepted the listeners it was given (a refused file leaves it ready and deaf)."""
    admin = f"http://127.0.0.1:{view['admin_port']}"
    return [{"url": f"{admin}/ready", "contains": "LIVE"}, {"url": f"{admin}/listeners", "contains": "public::"}]


def _peer(model: Model, name: str, party: Party) -> dict[str, Any]:
    secret = f"peer-{name}"
    return {
        "name": name,
        "server_name": server_name(name, model.consortium.name),
        "host": party.gateway.host,
        "port": party.gateway.port,
        "ca_certificates": list(party.ca_certificates),
        "secret": secret,
        "secret_path": str(GATEWAY_DIR / "sds" / f"{secret}.yaml"),
        "services": [_service(model, name, service) for service in ports.services(model.consortium.slots)],
    }


def _service(model: Model, peer: str, service: str) -> dict[str, Any]:
    own, consortium = model.party, model.consortium.name
    is_http = service == ports.COORDINATOR
    return {
        "name": service,
        "is_http": is_http,
        "connections": COORDINATOR_CONNECTIONS if is_http else SERVICE_CONNECTIONS,
        "sni_in": sni(service, peer, own, consortium),
        "sni_out": sni(service, own, peer, consortium),
        "in_chain": f"in-{peer}-{service}",
        "in_cluster": f"in-{service}",
        "out_cluster": f"out-{peer}-{service}",
        "out_port": ports.outbound_port(model.consortium.members, peer, service),
        "in_log": _access_log("in", peer, service, only_if=None if is_http else _LET_IN),
        "out_log": _access_log("out", peer, service),
    }


def _access_log(direction: str, peer: str | None, service: str, *, only_if: str | None = None) -> dict[str, Any]:
    """Envoy's setting for a log of JSON lines; `only_if` is a CEL expression over the connection.

    A field that has no value (no path outside HTTP, say) becomes null.
    """
    outwards = direction == "out"
    fields = {
        "time": "%START_TIME%",
        "direction": direction,
        "peer": peer or "-",
        "service": service,
        "sni": "%REQUESTED_SERVER_NAME%",
        "remote": "%UPSTREAM_REMOTE_ADDRESS%" if outwards else "%DOWNSTREAM_REMOTE_ADDRESS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "flags": "%RESPONSE_FLAGS%",
        "code": "%RESPONSE_CODE%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%" if outwards else "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    }
    log: dict[str, Any] = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": str(ACCESS_LOG),
            "log_format": {"json_format": fields},
        },
    }
    if only_if:
        expression = {"@type": f"{_TYPES}.access_loggers.filters.cel.v3.ExpressionFilter", "expression": only_if}
        log["filter"] = {
            "extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": expression}
        }
    return log
