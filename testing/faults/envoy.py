"""Where a gateway's clusters lead, changed while it runs: the gateway watches its own file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from testing.faults.fault import until
from testing.faults.hands import SYSTEM_PYTHON, read, write
from testing.nodes import Node

CLUSTERS = "/etc/consortium/gateway/cds.yaml"
_ASK = """
import json, sys, urllib.request
answer = urllib.request.urlopen("http://127.0.0.1:9901/clusters?format=json", timeout=5).read()
found = {}
for cluster in json.loads(answer).get("cluster_statuses", []):
    for host in cluster.get("host_statuses", []):
        at = host["address"]["socket_address"]
        found[cluster["name"]] = f"{at['address']}:{at['port_value']}"
print(json.dumps(found))
"""
Address = tuple[str, int]


def endpoints(gateway: Node) -> dict[str, Address]:
    """Cluster → where it leads, as the file says."""
    return {
        cluster["name"]: (address["address"], int(address["port_value"]))
        for cluster, address in _sockets(yaml.safe_load(read(gateway, CLUSTERS)))
    }


@contextmanager
def leading(gateway: Node, chosen: Callable[[str], bool], to: Address) -> Iterator[None]:
    """The chosen clusters lead elsewhere; each is put back afterwards to where it led."""
    before = {name: address for name, address in endpoints(gateway).items() if chosen(name)}
    try:
        _point(gateway, dict.fromkeys(before, to))
        yield
    finally:
        _point(gateway, before)


def _point(gateway: Node, wanted: dict[str, Address]) -> None:
    document = yaml.safe_load(read(gateway, CLUSTERS))
    for cluster, address in _sockets(document):
        if cluster["name"] in wanted:
            address["address"], address["port_value"] = wanted[cluster["name"]]
    write(gateway, CLUSTERS, yaml.safe_dump(document, sort_keys=False))
    until(lambda: _taken_over(gateway, wanted), f"{gateway.name}'s turn to {wanted}", 30)


def _taken_over(gateway: Node, wanted: dict[str, Address]) -> bool:
    code, text = gateway.run(SYSTEM_PYTHON, "-I", "-c", _ASK)
    try:
        found: dict[str, str] = json.loads(text) if code == 0 else {}
    except ValueError:  # an exec now and then loses the begin of its output
        return False
    ports = {name: address.rpartition(":")[2] for name, address in found.items()}
    # a name is resolved by the gateway: then only the port can be compared
    return all(
        found.get(name) == f"{host}:{port}" if host[0].isdigit() else ports.get(name) == str(port)
        for name, (host, port) in wanted.items()
    )


def _sockets(document: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for cluster in document["resources"]:
        for locality in cluster["load_assignment"]["endpoints"]:
            for endpoint in locality["lb_endpoints"]:
                yield cluster, endpoint["endpoint"]["address"]["socket_address"]
