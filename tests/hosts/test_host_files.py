"""What is laid on hosts, judged by the real tools on a real systemd: units, their hardening, the firewall."""

from __future__ import annotations

import re
from typing import Any

import pytest

from consortium.host_files import services_of
from consortium.nodefiles import NodeFile, files_for, hosts_of
from consortium.spec import Model
from tests import builders
from tests.hosts.machine import Machine

EXPOSURE = {"ray": 1.5, "coordinator": 1.5, "gateway": 1.4}
"""The most that `systemd-analyze security` may say, of 10; docs/ssh.md has the figures."""


def model(workers: int = 1, **overrides: Any) -> Model:
    return builders.model(settings=builders.on_hosts(workers, **overrides))


def files(of: Model, role: str) -> dict[str, NodeFile]:
    host = next(host for host in hosts_of(of) if host.role == role)
    return {file.path: file for file in files_for(of, builders.secrets(), host)}


@pytest.mark.parametrize("role", ["head", "worker", "gateway"])
def test_systemd_accepts_every_unit(one_machine: Machine, role: str) -> None:
    found = files(model(), role)
    one_machine.lay(found.values())
    units = [path for path in found if path.endswith(".service")]
    assert len(units) == len(services_of(role)) + 1
    code, said = one_machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert (code, said) == (0, ""), said


@pytest.mark.parametrize("role", ["head", "worker", "gateway"])
def test_units_are_hardened(one_machine: Machine, role: str) -> None:
    found = files(model(), role)
    one_machine.lay(found.values())
    for service in services_of(role):
        unit = f"consortium-{service}.service"
        said = one_machine.sh(f"systemd-analyze security --offline=true --no-pager /etc/systemd/system/{unit}")
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert level, said
        assert float(level[1]) <= EXPOSURE[service], said


def test_no_unit_runs_as_root_and_none_without_the_firewall() -> None:
    for role in ("head", "worker", "gateway"):
        found = files(model(), role)
        for service in services_of(role):
            unit = found[f"/etc/systemd/system/consortium-{service}.service"].content
            assert f"\nUser={service}\n" in unit
            assert "\nRequires=consortium-firewall.service\n" in unit
            assert "\nNoNewPrivileges=yes\n" in unit


def test_a_gateway_with_a_low_port_has_that_one_right() -> None:
    unit = files(model(gateway={"bind": "0.0.0.0", "port": 443}), "gateway")
    text = unit["/etc/systemd/system/consortium-gateway.service"].content
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" in text
    assert "PrivateUsers" not in text, "the right would count only in the service's own user namespace"


def test_gpus_reach_the_unit_and_ray() -> None:
    found = files(model(resources={"worker": {"memory_mb": 4096, "cpus": 2, "gpus": 2}}), "worker")
    assert "--num-gpus=2" in found["/etc/consortium/services/ray"].content
    unit = found["/etc/systemd/system/consortium-ray.service"].content
    assert "DeviceAllow=char-nvidia* rw\n" in unit
    assert "PrivateDevices" not in unit
    head = files(model(), "head")
    assert "--num-gpus" not in head["/etc/consortium/services/ray"].content


@pytest.mark.parametrize(("role", "workers"), [("head", 0), ("gateway", 0), ("head", 2), ("worker", 2), ("gateway", 2)])
def test_nftables_takes_every_firewall(one_machine: Machine, role: str, workers: int) -> None:
    ssh = {"admin_from": ["10.1.0.0/16", "fd00::/8"], "also_open": [{"port": 9100, "sources": ["10.2.0.0/16"]}]}
    one_machine.lay([files(model(workers, ssh=ssh), role)["/etc/consortium/firewall.nft"]])
    code, said = one_machine.run("nft", "--check", "--file", "/etc/consortium/firewall.nft")
    assert (code, said) == (0, ""), said


def opened(role: str, workers: int = 1, **overrides: Any) -> dict[str, str]:
    """Who → which ports, of one host's firewall."""
    text = files(model(workers, **overrides), role)["/etc/consortium/firewall.nft"].content
    rules = re.findall(r"^ +(?:(?:ip|ip6) saddr \{ (.*?) \} )?tcp dport \{ (.*?) \} accept$", text, re.M)
    assert "policy drop" in text
    found: dict[str, str] = {}
    for who, which in rules:
        found[who or "anyone"] = ", ".join(filter(None, [found.get(who or "anyone"), which]))
    return found


def test_only_the_gateway_is_open_to_peers_and_inside_ports_to_own_hosts() -> None:
    admin = {"admin_from": ["10.1.0.0/16"]}
    ray = "6379-6385, 10002-19999"
    assert opened("head", ssh=admin) == {"10.1.0.0/16": "22", "10.0.0.10": ray, "10.0.0.4": "8080, 8081, 20000, 20001"}
    assert opened("worker", ssh=admin) == {"10.1.0.0/16": "22", "10.0.0.5": ray}
    assert opened("gateway", ssh=admin) == {
        "anyone": "18443",
        "10.1.0.0/16": "22",
        "10.0.0.5, 10.0.0.10": "21100-21102",
    }
    elsewhere = opened("gateway", ssh=admin, operator={"bind": "10.0.0.4", "port": 18080})
    assert elsewhere["10.1.0.0/16"] == "22, 18080", "an operator's port off loopback is for administrators"


def test_one_worker_more_restarts_nothing() -> None:
    secrets = builders.secrets()

    def of(workers: int) -> dict[tuple[str, str], NodeFile]:
        whole = model(workers)
        return {(host.name, f.path): f for host in hosts_of(whole) for f in files_for(whole, secrets, host)}

    one, two = of(1), of(2)
    differs = {key: file for key, file in one.items() if file != two[key]}
    assert {file.on_change for file in differs.values()} == {"nothing", "reload"}
    assert {file.service for file in differs.values()} == {None, "firewall"}


def test_services_speak_to_own_hosts_only() -> None:
    for role in ("head", "worker"):
        found = files(model(), role)
        for service in services_of(role):
            unit = f"/etc/systemd/system/consortium-{service}.service"
            assert "\nIPAddressDeny=any\nIPAddressAllow=localhost\n" in found[unit].content
            addresses = found[f"{unit}.d/addresses.conf"].content
            assert addresses.endswith("[Service]\nIPAddressAllow=10.0.0.5 10.0.0.10 10.0.0.4\n")
    assert not [path for path in files(model(), "gateway") if "addresses" in path]


def test_containers_have_none_of_it() -> None:
    found = {path for host in ("head", "gateway") for path in files(builders.model(), host)}
    assert not [path for path in found if "systemd" in path or "firewall" in path]
