"""What goes wrong between a program, its state and the daemon, and how it is put right."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from airgap_harness import Stack, eventually

pytestmark = pytest.mark.docker

NODE = """
docker.Container("node", name=f"{{NAME}}-node", image=IMAGE, restart="no", {more})
"""
HEALTHY_WHEN_THERE = """
wait=True, wait_timeout={timeout},
healthcheck={{"tests": ["CMD", "test", "-e", "{path}"], "interval": "200ms", "retries": 100, "timeout": "2s"}}
"""


def node(more: str = "") -> str:
    """A program of one container."""
    return NODE.format(more=more)


def waiting(path: str, timeout: int) -> str:
    """A container that is healthy once ``path`` exists."""
    return node(HEALTHY_WHEN_THERE.format(path=path, timeout=timeout))


def running(daemon: Any, stack: Stack) -> bool:
    """Whether the container is there and runs."""
    found = daemon.containers(filters={"name": f"{stack.name}-node"})
    return bool(found)


def touch(daemon: Any, stack: Stack, path: str) -> None:
    """Makes a file in the container."""
    made = daemon.exec_create(f"{stack.name}-node", ["touch", path])
    daemon.exec_start(made["Id"])


def test_drift_is_seen_and_put_right(stack: Stack, daemon: Any) -> None:
    """A stopped container is started, a changed limit is set back, a removed one is made again."""
    stack.program(node("memory=64"))
    stack.up()
    name = f"{stack.name}-node"
    first = daemon.inspect_container(name)["Id"]

    daemon.kill(name)
    assert stack.up("--refresh").changes == {"update": 1, "same": 1}
    assert daemon.inspect_container(name)["State"]["Running"]
    assert daemon.inspect_container(name)["Id"] == first

    daemon.update_container(name, mem_limit=32 << 20, restart_policy={"Name": "always"})
    stack.up("--refresh")
    host = daemon.inspect_container(name)["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (64 << 20, "no")

    daemon.remove_container(name, force=True)
    stack.refresh()
    assert [r for r in stack.state() if "Container" in r["type"]] == []
    assert stack.up().changes == {"create": 1, "same": 1}


def test_a_failed_start_is_known_and_repaired(stack: Stack, daemon: Any) -> None:
    """A container that does not become healthy is in state; it is repaired as it is, or replaced."""
    stack.program(waiting("/tmp/there", timeout=1))
    assert "not healthy within 1 s" in stack.up(ok=False).said
    assert [r["id"] for r in stack.state() if "Container" in r["type"]]
    first = daemon.inspect_container(f"{stack.name}-node")["Id"]

    touch(daemon, stack, "/tmp/there")  # the world changes, the program does not
    stack.program(waiting("/tmp/there", timeout=1))
    stack.up()
    assert daemon.inspect_container(f"{stack.name}-node")["Id"] == first

    stack.program(node('command=["no-such-program"]'))
    assert "no-such-program" in stack.up(ok=False).said
    stack.program(node('command=["sleep", "60"]'))
    stack.up()
    assert running(daemon, stack)

    ends = 'command=["sh", "-c", "echo last words; exit 3"], wait=True, healthcheck={"tests": ["CMD", "true"]}'
    stack.program(node(ends))
    assert "exit code 3: last words" in stack.up(ok=False).said
    stack.destroy()


def test_cancel_ends_soon_and_keeps_track(stack: Stack, daemon: Any) -> None:
    """^C during a wait: the command ends, its processes are gone, the container is in state."""
    stack.program(waiting("/tmp/never", timeout=120))
    child = stack.popen("up", "--yes", "--skip-preview")
    eventually(lambda: running(daemon, stack), 60)
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert "cancelled while waiting" in said
    eventually(lambda: stack.processes() == [])
    assert [r["id"] for r in stack.state() if "Container" in r["type"]]
    stack.destroy()
    assert not running(daemon, stack)


def test_a_killed_cli_leaves_no_process_and_can_go_on(stack: Stack, daemon: Any) -> None:
    """kill -9 closes nothing: plugins and program leave by themselves, and the next up takes away
    the container that no state knows of, because it is this resource's own."""
    stack.program(waiting("/tmp/never", timeout=120))
    child = stack.popen("up", "--yes", "--skip-preview")
    eventually(lambda: running(daemon, stack), 60)
    assert len(stack.processes()) >= 3
    child.kill()
    child.communicate(timeout=10)
    eventually(lambda: stack.processes() == [], 10)

    left = daemon.inspect_container(f"{stack.name}-node")["Id"]
    assert stack.run("cancel", "--yes").code == 0
    stack.program(node())
    assert "left by an interrupted create of this resource: removed" in stack.up().said
    assert daemon.inspect_container(f"{stack.name}-node")["Id"] != left


def test_another_backend_is_another_owner(new_stack: Callable[..., Stack], daemon: Any, image: str) -> None:
    """Two stacks of the same project and name in two backends, on one daemon, with one set of
    names: the second is refused and takes nothing from the first."""
    program = node() + 'docker.Volume("data", name=f"{NAME}-data")\n'
    program += 'docker.Network("net", name=f"{NAME}-net")\n'
    first, second = new_stack().program(program), new_stack().program(program)
    first.up()
    ids = {r["id"] for r in first.state() if r["type"].startswith("docker:")}

    said = second.up("--continue-on-error", ok=False).said
    assert f"container {first.name}-node exists and is not of this stack" in said
    assert f"volume {first.name}-data exists and is not of this stack" in said
    assert f"network with name {first.name}-net already exists" in said
    second.destroy()
    assert first.up("--refresh", "--expect-no-changes").changes == {"same": 4}
    assert {r["id"] for r in first.state() if r["type"].startswith("docker:")} == ids


def test_import(stack: Stack, new_stack: Callable[..., Stack], daemon: Any) -> None:
    """What was made by hand is taken over, and the program that describes it changes nothing."""
    name = f"{stack.name}-node"
    daemon.create_network(f"{stack.name}-net")
    host = daemon.create_host_config(
        mem_limit=64 << 20, restart_policy={"Name": "always"}, network_mode=f"{stack.name}-net"
    )
    made = daemon.create_container(
        stack.image, "sleep 600", name=name, environment=["A=1"], labels={"x": "y"}, host_config=host
    )
    daemon.start(made["Id"])
    stack.program("")
    for token, resource, id_ in (
        ("container:Container", "node", made["Id"]),
        ("network:Network", "net", f"{stack.name}-net"),
    ):
        args = ("import", f"docker:index/{token}", resource, id_)
        done = stack.run(*args, "--yes", "--generate-code=false", "--protect=false")
        assert done.code == 0, done.text
    stack.program("""
    docker.Network("net", name=f"{NAME}-net")
    docker.Container("node", name=f"{NAME}-node", image=IMAGE, command=["sleep", "600"], envs=["A=1"],
        labels=[{"label": "x", "value": "y"}], memory=64, memory_swap=128, restart="always",
        networks_advanced=[{"name": f"{NAME}-net"}])
    """)
    result = stack.up("--expect-no-changes")
    assert result.changes == {"same": 3}
    assert daemon.inspect_container(name)["Id"] == made["Id"]

    # Only looked at, by a program that owns nothing of it.
    looking = new_stack().program("""
    seen = docker.Container.get("seen", os.environ["TEST_ID"])
    pulumi.export("seen", seen.envs)
    pulumi.export("driver", docker.get_network(name=f"{NAME}-net").driver)
    """)
    looking.env["TEST_ID"] = made["Id"]
    looking.up()
    assert json.loads(looking.run("stack", "output", "--json").text) == {"seen": ["A=1"], "driver": "bridge"}
    looking.destroy()
    assert daemon.inspect_container(name)["Id"] == made["Id"]
