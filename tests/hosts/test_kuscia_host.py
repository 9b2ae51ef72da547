"""A Kuscia node on a host: its files judged by the real tools, and what a host without the image is told."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest

from consortium.ansible import AnsibleFailed, run_playbook
from consortium.converge import _inventory
from consortium.kuscia import keys
from consortium.kuscia.node_config import NodeSecrets
from consortium.nodefiles import NodeFile, Secrets, files_for, hosts_of
from consortium.reach import SITE, on_hosts, play
from consortium.spec import Model
from tests import builders
from tests.hosts.machine import USER, Machine, SshKey
from tests.kuscia.kuscia_builders import DIGEST, ENGINE, domain

NAME = f"registry.example/team/kuscia@{DIGEST}"
PUBLIC = {"bind": "0.0.0.0", "port": 18443}


def model(host: dict[str, Any] | None = None, ssh: dict[str, Any] | None = None, **overrides: Any) -> Model:
    node = {"image": NAME, "engine": ENGINE, **overrides.pop("node", {})}
    place = {"head": host or builders.machine("10.0.0.5"), "admin_from": ["10.1.0.0/16"], **(ssh or {})}
    data = {"customers": {"path": "/srv/consortium/cust'omers,1.csv"}}
    settings = {"placement": "ssh", "ssh": place, "gateway": PUBLIC, "datasets": data, "kuscia": node, **overrides}
    parties = {"alice": {"datasets": {"customers": {}}}}
    return builders.model(consortium={"mode": "kuscia"}, parties=parties, settings=settings)


def secrets(registry: str = "") -> Secrets:
    own = domain("alice")
    return replace(builders.secrets(), kuscia=NodeSecrets(own, "", registry, keys.issue_client(own)))


def files(of: Model, known: Secrets | None = None) -> dict[str, NodeFile]:
    (head,) = hosts_of(of)
    return {file.path: file for file in files_for(of, known or secrets(), head)}


def launched(of: Model) -> list[str]:
    return shlex.split(files(of)["/etc/consortium/services/kuscia"].content.split("exec ")[1])


def test_one_port_is_published_and_kusciaapi_on_loopback_alone() -> None:
    words = launched(model())
    assert [w for w in words if w.startswith("--publish")] == [
        "--publish=0.0.0.0:18443:1080",
        "--publish=127.0.0.1:8082:8082",
    ]
    assert words[words.index(NAME) :] == [NAME, "bin/kuscia", "start", "-c", "/home/kuscia/etc/conf/kuscia.yaml"]
    assert "--cap-add=SYS_PTRACE" in words
    assert "--privileged" not in words
    assert "--privileged" in launched(model(node={"runtime": "runc"}))


def test_datasets_are_mounted_read_only_whatever_their_path() -> None:
    """The option is a line of CSV, and the launcher a shell's."""
    mounts = [word for word in launched(model()) if "customers" in word]
    target = "/home/kuscia/var/storage/data/customers.csv"
    assert mounts == [f'--mount=type=bind,"source=/srv/consortium/cust\'omers,1.csv",target={target},readonly']


def test_an_image_that_was_loaded_by_hand_is_asked_for_by_its_id() -> None:
    words = launched(model(node={"image_id": DIGEST}))
    assert DIGEST in words
    assert NAME not in words


def test_the_nodes_file_is_roots_and_secret_and_makes_it_start_anew() -> None:
    found = files(model(node={"registry": {"endpoint": "registry.example", "username": "u"}}), secrets("hunter2"))
    config = found["/etc/consortium/secrets/kuscia.yaml"]
    assert (config.mode, config.owner, config.secret, config.service, config.on_change) == (
        "0400",
        "root",
        True,
        "kuscia",
        "restart",
    )
    password = found["/etc/consortium/secrets/registry.password"]
    assert (password.content, password.secret, password.mode) == ("hunter2", True, "0400")
    assert not [path for path, file in found.items() if "hunter2" in file.content and not file.secret]
    assert "/etc/consortium/secrets/registry.password" not in files(model())


def test_the_role_is_told_of_the_image_and_of_no_password(ssh_key: SshKey) -> None:
    of = model(node={"registry": {"endpoint": "registry.example/x", "username": "u"}})
    told = on_hosts(of, ssh_key.private).variables["alice-head"]
    assert [told[f"kuscia_{what}"] for what in ("registry", "registry_user", "name")] == ["registry.example", "u", NAME]
    assert told["host_services"] == ["kuscia", "coordinator"]
    assert told["host_datasets"] == {}


def test_the_coordinator_asks_loopback_and_listens_where_the_settings_say() -> None:
    found = files(model(operator={"bind": "127.0.0.1", "port": 19090}))
    told = json.loads(found["/etc/consortium/coordinator.json"].content)
    assert told["kuscia"]["url"] == "https://127.0.0.1:8082"
    assert told["ports"]["operator"] == 19090


@pytest.mark.parametrize(("bind", "admin"), [("127.0.0.1", "22"), ("10.0.0.5", "22, 18080")])
def test_the_firewall_opens_the_door_and_what_administrators_need(bind: str, admin: str) -> None:
    text = files(model(operator={"bind": bind, "port": 18080}))["/etc/consortium/firewall.nft"].content
    found: dict[str, list[str]] = {}
    for who, which in re.findall(r"(?:ip6? saddr \{ (.*?) \} )?tcp dport \{ (.*?) \} accept", text):
        found.setdefault(who, []).append(which)
    assert {who: ", ".join(which) for who, which in found.items()} == {"": "18443", "10.1.0.0/16": admin}
    assert "skuid coordinator" in text
    assert "skuid kuscia" not in text


def test_systemd_the_shell_and_nftables_take_every_file(one_machine: Machine) -> None:
    found = files(model())
    one_machine.lay(found.values())
    # The engine's unit is the distribution's.
    one_machine.sh("printf '[Service]\\nExecStart=/bin/true\\n' > /run/systemd/system/docker.service")
    units = [path for path in found if path.endswith(".service")]
    assert len(units) == 3
    one_machine.sh("ln -sf /bin/true /usr/bin/docker")
    code, said = one_machine.run("systemd-analyze", "verify", "--man=no", *units)
    one_machine.sh("rm /usr/bin/docker /run/systemd/system/docker.service")
    assert (code, said) == (0, ""), said
    assert one_machine.run("sh", "-n", "/etc/consortium/services/kuscia") == (0, "")
    assert one_machine.run("nft", "--check", "--file", "/etc/consortium/firewall.nft") == (0, "")
    unit = "/etc/systemd/system/consortium-kuscia.service"
    said = one_machine.sh(f"systemd-analyze security --offline=true --no-pager {unit}")
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= EXPOSURE


EXPOSURE = 4.5
"""It asks the container engine, as root; the node itself is held by its container."""


def test_a_host_without_the_image_is_told_what_to_do(one_machine: Machine, ssh_key: SshKey) -> None:
    of = model(one_machine.settings(), {"user": USER})
    reach = on_hosts(of, ssh_key.private)
    payload = {"alice-head": {"group": "head", "base_files": [f.as_variables() for f in files(of).values()]}}
    with play(reach, {}, ssh_key.private) as run, pytest.raises(AnsibleFailed) as caught:
        run_playbook(SITE, _inventory(json.dumps(payload), run.variables), private_files=run.private_files)
    said = str(caught.value)
    for words in (NAME, "is not on the engine of alice-head", "kuscia.registry", "registry.example", "kuscia.image_id"):
        assert words in said
