"""A stack's life, driven by the real CLI on a real daemon."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airgap_harness import Stack

pytestmark = pytest.mark.docker

EVERYTHING = """
secret = pulumi.Config().require_secret("token")
image = docker.RemoteImage("image", name=IMAGE, keep_locally=True)
inside = docker.Network("inside", name=f"{NAME}-in", internal=True,
    ipam_configs=[{"subnet": "10.231.77.0/24", "gateway": "10.231.77.1"}],
    labels=[{"label": "what", "value": "inside"}])
outside = docker.Network("outside", name=f"{NAME}-out", options={"com.docker.network.bridge.enable_icc": "true"})
data = docker.Volume("data", name=f"{NAME}-data", labels=[{"label": "what", "value": "data"}])
node = docker.Container("node", name=f"{NAME}-node", image=image.name,
    hostname="node", user="0:0", working_dir="/data",
    entrypoints=["/bin/sh", "-c"], command=["cat /etc/motd && sleep 600"],
    envs=["PLAIN=1", pulumi.Output.concat("TOKEN=", secret)],
    networks_advanced=[
        {"name": inside.name, "aliases": ["node.inside", "also"], "ipv4_address": "10.231.77.9"},
        {"name": outside.name, "aliases": ["node.outside"]}],
    volumes=[{"volume_name": data.name, "container_path": "/data"},
             {"host_path": "/etc/hostname", "container_path": "/host", "read_only": True}],
    mounts=[{"type": "tmpfs", "target": "/scratch", "tmpfs_options": {"size_bytes": 1048576}}],
    tmpfs={"/run": "size=1m"},
    ports=[{"internal": 80, "ip": "127.0.0.1"}, {"internal": 81, "protocol": "udp"}],
    labels=[{"label": "role", "value": "node"}],
    restart="unless-stopped", memory=64, memory_swap=96, cpus="0.5", cpu_shares=512, shm_size=32,
    ulimits=[{"name": "nofile", "soft": 1024, "hard": 2048}], sysctls={"net.core.somaxconn": "256"},
    healthcheck={"tests": ["CMD", "test", "-e", "/etc/motd"], "interval": "200ms", "timeout": "2s", "retries": 3,
                 "start_period": "1s"},
    wait=True, wait_timeout=30, must_run=True, stop_timeout=1, destroy_grace_seconds=1,
    log_driver="json-file", log_opts={"max-size": "1m"},
    uploads=[{"file": "/etc/motd", "content": "hello\\n", "permissions": "0640"}],
    hosts=[{"host": "peer", "ip": "10.9.9.9"}], dns=["10.9.9.53"], init=True, read_only=False,
    capabilities={"adds": ["CAP_NET_ADMIN"], "drops": ["CAP_MKNOD"]}, security_opts=["no-new-privileges"],
    privileged=False, pid_mode="", ipc_mode="private")
pulumi.export("addresses", node.network_datas)
pulumi.export("image", image.image_id)
"""


def names(daemon: Any, stack: Stack) -> list[str]:
    """Everything of the test that the daemon has."""
    found = [c["Names"][0].lstrip("/") for c in daemon.containers(all=True)]
    found += [n["Name"] for n in daemon.networks()]
    found += [v["Name"] for v in daemon.volumes()["Volumes"] or []]
    return sorted(name for name in found if name.startswith(stack.name))


def test_preview_up_again_and_destroy(stack: Stack, daemon: Any) -> None:
    """A preview makes nothing, an up makes what was asked for, another changes nothing."""
    stack.program(EVERYTHING)
    stack.run("config", "set", "--secret", "token", "hunter2")
    stack.preview()
    assert names(daemon, stack) == []

    assert stack.up().changes == {"create": 6}  # with the stack itself
    check_node(daemon, stack)
    assert "hunter2" not in (stack.folder / "state/.pulumi/stacks/airgaptest/dev.json").read_text()
    addresses = json.loads(stack.run("stack", "output", "addresses", "--json").text)
    assert "10.231.77.9" in [address["ip_address"] for address in addresses]

    again = stack.up("--expect-no-changes")
    assert again.changes == {"same": 6}
    assert again.said == "", "nothing to warn of"
    print(f"an up without changes took {again.seconds:.1f} s")

    stack.destroy()
    assert names(daemon, stack) == []
    assert daemon.inspect_image(stack.image), "keep_locally keeps it"


def check_node(daemon: Any, stack: Stack) -> None:
    """The container is what the program says."""
    found = daemon.inspect_container(f"{stack.name}-node")
    config, host = found["Config"], found["HostConfig"]
    assert found["State"]["Health"]["Status"] == "healthy"
    assert config["Hostname"] == "node"
    assert {"PLAIN=1", "TOKEN=hunter2"} <= set(config["Env"])
    assert config["Labels"]["role"] == "node"
    assert config["StopTimeout"] == 1
    networks = found["NetworkSettings"]["Networks"]
    assert set(networks) == {f"{stack.name}-in", f"{stack.name}-out"}
    inside = networks[f"{stack.name}-in"]
    assert inside["IPAddress"] == "10.231.77.9"
    assert {"node.inside", "also"} <= set(inside["Aliases"])
    assert "node.outside" in networks[f"{stack.name}-out"]["Aliases"]
    mounted = {m["Destination"]: (m["Type"], m["RW"]) for m in found["Mounts"]}
    assert mounted["/data"] == ("volume", True)
    assert mounted["/host"] == ("bind", False)
    assert mounted["/scratch"][0] == "tmpfs"
    assert host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    assert "81/udp" in found["NetworkSettings"]["Ports"]
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (64 << 20, 96 << 20, 32 << 20)
    assert (host["NanoCpus"], host["CpuShares"]) == (500_000_000, 512)
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]
    assert host["Sysctls"] == {"net.core.somaxconn": "256"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert host["ExtraHosts"] == ["peer:10.9.9.9"]
    assert host["Dns"] == ["10.9.9.53"]
    assert host["Init"] is True
    assert host["CapAdd"] == ["CAP_NET_ADMIN"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Tmpfs"] == {"/run": "size=1m"}
    assert daemon.logs(f"{stack.name}-node") == b"hello\n"
    network = daemon.inspect_network(f"{stack.name}-in")
    assert network["Internal"]
    assert network["IPAM"]["Config"] == [{"Subnet": "10.231.77.0/24", "Gateway": "10.231.77.1"}]


def test_changes_in_place_and_by_replacement(stack: Stack, daemon: Any) -> None:
    """What docker can change in a running container is changed there; the rest needs a new one."""
    program = """
    net = docker.Network("net", name=f"{{NAME}}-net", labels=[{{"label": "v", "value": "{net}"}}])
    docker.Container("node", name=f"{{NAME}}-node", image=IMAGE, networks_advanced=[{{"name": net.name}}], {more})
    """
    stack.program(program.format(net=1, more="restart='no', memory=32"))
    stack.up()
    first = daemon.inspect_container(f"{stack.name}-node")

    stack.program(program.format(net=1, more="restart='always', memory=128, cpus='0.5', cpu_shares=100"))
    changed = stack.up()
    assert changed.step("node")["op"] == "update"
    assert sorted(changed.step("node")["diffs"]) == ["cpuShares", "cpus", "memory", "restart"]
    second = daemon.inspect_container(f"{stack.name}-node")
    assert second["Id"] == first["Id"]
    host = second["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (128 << 20, 500_000_000)
    assert (host["CpuShares"], host["RestartPolicy"]["Name"]) == (100, "always")

    # A limit cannot be taken from a container, and an environment is fixed: a new one, the old
    # one first, because both have the one name.
    stack.program(program.format(net=1, more="envs=['A=1']"))
    previewed = json.loads(stack.preview().text)
    step = next(s for s in previewed["steps"] if s["urn"].endswith("::node"))
    assert step["op"] in ("delete-replaced", "replace")
    stack.up()
    third = daemon.inspect_container(f"{stack.name}-node")
    assert third["Id"] != first["Id"]
    assert third["HostConfig"]["Memory"] == 0

    # A named network can only be replaced with the containers in it.
    stack.program(program.format(net=2, more="envs=['A=1']"))
    stack.up()
    assert daemon.inspect_network(f"{stack.name}-net")["Labels"]["v"] == "2"
    assert daemon.inspect_container(f"{stack.name}-node")["Id"] != third["Id"]


def test_changing_the_host_replaces_nothing(stack: Stack, daemon: Any) -> None:
    """A replaced provider would take the volumes with it."""
    program = """
    there = docker.Provider("there", host="{host}")
    docker.Volume("data", name=f"{{NAME}}-data", opts=pulumi.ResourceOptions(provider=there))
    """
    stack.program(program.format(host="unix:///var/run/docker.sock"))
    stack.up()
    stack.program(program.format(host="unix:///run/docker.sock"))
    changed = stack.up()
    assert changed.step("there")["op"] == "update"
    assert changed.changes == {"update": 1, "same": 2}


def test_a_local_image_is_built_from_its_folder(stack: Stack, daemon: Any) -> None:
    """An edited file is a change that a build follows."""
    context = stack.folder / "project" / "context"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text(f"FROM {stack.image}\nCOPY word /word\n")
    (context / "word").write_text("one")
    stack.program("""
    image = docker.Image("image", image_name=f"{NAME}:built", build={"context": "context"}, skip_push=True)
    docker.Container("node", name=f"{NAME}-node", image=image.repo_digest, command=["cat", "/word"], must_run=False)
    """)
    try:
        stack.up()
        assert stack.up().changes == {"same": 3}
        (context / "word").write_text("two")
        assert stack.up().step("image")["op"] == "update"
        daemon.wait(f"{stack.name}-node", timeout=20)
        assert daemon.logs(f"{stack.name}-node") == b"two"
        stack.destroy()
    finally:
        daemon.remove_image(f"{stack.name}:built", force=True)


def test_a_refused_property_says_what_to_do(stack: Stack) -> None:
    """Nothing is ignored: what cannot be honoured stops the update before it starts."""
    stack.program("""
    docker.Container("node", name=f"{NAME}-node", image=IMAGE, gpus="all", memory=True, restart="sometimes",
        healthcheck={"tests": ["CMD", "true"], "interval": "often"})
    """)
    said = stack.up(ok=False).said
    assert "gpus = 'all' is not served by the stand-in provider: use deviceRequests" in said
    assert "memory = True must be a whole number" in said
    assert "restart = 'sometimes' must be one of no, always, on-failure, unless-stopped" in said
    assert "healthcheck.interval = 'often' must be a duration" in said
    assert [r["type"] for r in stack.state() if r["type"].startswith("docker:")] == []

    stack.program("""docker.Service("service", task_spec={"container_spec": {"image": IMAGE}})""")
    assert "docker:index/service:Service is not served" in stack.up(ok=False).said
