"""How Ansible reaches the nodes of an institution, and what it is told of them besides their files.

`Reach` goes into Converge's inputs and state: it holds no secret, and no path of this machine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uv

from consortium import engine_socket, ssh
from consortium.ansible import ROLES
from consortium.folders import COORDINATOR
from consortium.host_files import services_of
from consortium.image_build import archive
from consortium.image_downloads import Downloads
from consortium.image_stages import files, stage_digests
from consortium.kuscia.host_view import role_variables
from consortium.machines import targets_of
from consortium.nodefiles import Host, dataset_paths, hosts_of
from consortium.spec import Model
from consortium.ssh import Target

SITE, HOSTS, LEAVE = ROLES / "site.yml", ROLES / "hosts.yml", ROLES / "leave.yml"
_FOLDER = "ssh"
_TOOLS = "/opt/consortium"


@dataclass(frozen=True)
class Reach:
    """`engine`: where the containers are; empty for hosts. `targets`, `variables`, `downloads`: of hosts, by node."""

    engine: str = ""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    downloads: Mapping[str, Any] = field(default_factory=dict)
    public_key: str = ""
    """Of the key with which hosts are reached."""

    @classmethod
    def from_props(cls, props: Mapping[str, Any]) -> Reach:
        """As it stands in Pulumi's state; one that an earlier version wrote knows engines only."""
        return cls(**{name: props[name] for name in cls.__dataclass_fields__ if name in props})


@dataclass(frozen=True)
class Play:
    """What one run of Ansible needs of the way to its nodes."""

    playbook: Path
    variables: Mapping[str, Mapping[str, Any]]
    private_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict)


def on_hosts(model: Model, key: str) -> Reach:
    """The way to the machines of an institution. ValueError unless the placement is ssh; Problem for a wrong key."""
    return Reach(
        targets={name: target.as_props() for name, target in targets_of(model).items()},
        variables={host.name: _variables(model, host) for host in hosts_of(model)},
        downloads={
            "ca_bundle": str(model.workspace / model.settings.ca_bundle) if model.settings.ca_bundle else "",
            "pip": model.settings.package_mirror.pip or "",
        },
        public_key=ssh.public_key(key, model.party),
    )


@contextmanager
def play(reach: Reach, ids: Mapping[str, str], key: str, *, leave: bool = False) -> Iterator[Play]:
    """What a run needs; `ids` are the containers by node. Some of it is on disk as long as the context is open."""
    if reach.engine:
        connection = "community.docker.docker_api"
        common = {"ansible_connection": connection, "base_service_manager": "runit"}
        hosts = {name: {**common, "ansible_host": ids[name]} for name in ids}
        with engine_socket.local(reach.engine) as address:
            yield Play(SITE, hosts, environment={"DOCKER_HOST": address})
        return
    targets = {name: Target.from_props(props) for name, props in reach.targets.items()}
    with tempfile.TemporaryDirectory(prefix="consortium-hosts-") as folder:
        common = _of_this_machine(reach, Path(folder))
        hosts = {name: {**common, **reach.variables[name], **_connection(target)} for name, target in targets.items()}
        private = {f"{_FOLDER}/{name}": text for name, text in ssh.files(key, targets.values()).items()}
        yield Play(LEAVE if leave else HOSTS, hosts, private)


def _variables(model: Model, host: Host) -> dict[str, Any]:
    """What the roles are told of one host; equal wherever it is asked."""
    assert model.settings.ssh
    gpu = model.settings.resources.for_role(host.role).gpus > 0
    return {
        "host_content": _content(services_of(host.role, kuscia=model.kuscia is not None), gpu),
        "host_clock": model.settings.ssh.clock,
        # Two parties may each be off by half of what may lie between them.
        "host_clock_bound_s": model.consortium.limits.clock_skew_ms / 2000,
        # A container reads what its engine mounts for it.
        "host_datasets": {} if host.role == "gateway" or model.kuscia else dataset_paths(model),
        "host_services": list(services_of(host.role, kuscia=model.kuscia is not None)),
        **role_variables(model),
        "secretflow_gpu": gpu,
    }


def _content(services: tuple[str, ...], gpu: bool) -> str:
    """SHA-256 over what would be installed on a host: the image's content, and what a host has besides."""
    digest = hashlib.sha256("\0".join([*stage_digests("host"), *services, str(gpu)]).encode())
    for path in (HOSTS, *files(ROLES / "host")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _of_this_machine(reach: Reach, folder: Path) -> dict[str, Any]:
    """Where the things to bring lie here, and what downloads need to know."""
    bundle = reach.downloads.get("ca_bundle")
    found = Downloads.from_environment(os.environ, ca_bundle=Path(bundle) if bundle else None)
    told = {**found.proxies, "DEBIAN_FRONTEND": "noninteractive", "UV_NO_CACHE": "1", "UV_NO_CONFIG": "1"}
    told |= {"UV_PYTHON_DOWNLOADS": "never"}
    if found.ca_bundle:
        told["SSL_CERT_FILE"] = f"{_TOOLS}/download-ca.pem"
    if reach.downloads.get("pip"):
        told["UV_DEFAULT_INDEX"] = str(reach.downloads["pip"])
    return {
        "base_service_manager": "systemd",
        "base_uv": f"{_TOOLS}/uv",
        "bake_environment": told,
        "coordinator_archive": str(archive(folder / "coordinator.tar", (COORDINATOR,))),
        "host_architecture": platform.machine(),
        "host_ca_bundle": str(found.ca_bundle or ""),
        "host_uv": uv.find_uv_bin(),
    }


def _connection(target: Target) -> dict[str, Any]:
    # inventory_dir is a folder in the private one of the run, beside that of the key.
    folder = "{{ inventory_dir | dirname }}/" + _FOLDER
    arguments = " ".join([*ssh.options(folder, target.name), *ssh.ALIVE])
    return {
        "ansible_connection": "ansible.builtin.ssh",
        "ansible_host": target.address,
        "ansible_port": target.port,
        "ansible_user": target.user,
        "ansible_become": target.become,
        "ansible_ssh_common_args": arguments,
    }
