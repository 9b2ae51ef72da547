"""What a stranger's machine sees of an institution, and where its secrets could lie about."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.models.networks import Network

from consortium import ports
from consortium.demo import Demo
from consortium.workspace import Workspace
from testing import Party
from tests.e2e.test_institution import secrets_of

PROGRAM = "pulumi-language-python-exec"
NODES = ("head", "worker-1", "gateway")
# Every TCP port of some addresses, many at a time. Prints {address: [open ports]}. The kernel connects,
# and is asked at the end what became of it: a busy machine makes the scan slow, and no open port closed.
SCANNER = """
import json, select, socket, sys
def scan(host, ports):
    tried, poll, waiting = {}, select.epoll(), 0
    for port in ports:
        one = socket.socket()
        one.setblocking(False)
        if one.connect_ex((host, port)) == 115:  # EINPROGRESS
            poll.register(one, select.EPOLLOUT | select.EPOLLONESHOT)
            waiting += 1
        tried[port] = one
    while waiting and (done := poll.poll(5)):
        waiting -= len(done)
    for port, one in tried.items():
        try:
            one.getpeername()
            yield port
        except OSError:
            pass
        one.close()
print(json.dumps({h: [p for at in range(1, 65536, 16384) for p in scan(h, range(at, min(at + 16384, 65536)))]
                  for h in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def wide_area(engine: docker.DockerClient, institutions: Demo) -> Iterator[Network]:
    """A network of neither institution, which stands for all that lies between them."""
    network = engine.networks.create(f"{institutions.name}-wide-area", driver="bridge")
    try:
        yield network
    finally:
        network.remove()


def scan(engine: docker.DockerClient, image: str, network: str, *addresses: str) -> dict[str, set[int]]:
    """The open TCP ports of each address, seen from a machine on the network."""
    machine = engine.containers.run(
        image,
        ["/usr/bin/python3", "-c", SCANNER, *addresses],
        entrypoint=[],
        network=network,
        detach=True,
        ulimits=[docker.types.Ulimit(name="nofile", soft=20000, hard=20000)],
    )
    try:
        code = machine.wait(timeout=500)["StatusCode"]
        said = machine.logs(stderr=code != 0).decode()
    finally:
        machine.remove(force=True)
    assert code == 0, said
    return {host: set(found) for host, found in json.loads(said).items()}


def published(party: Party) -> dict[int, str]:
    """Port on the engine's machine → address at which it is published, of every node of a party."""
    bindings = [b for n in NODES for b in (party.node(n).container.attrs["HostConfig"]["PortBindings"] or {}).values()]
    return {int(entry["HostPort"]): entry["HostIp"] for binding in bindings for entry in binding}


def test_a_scan_from_the_wide_area_network_finds_one_port(
    engine: docker.DockerClient, institutions: Demo, wide_area: Network, alice: Party, bob: Party
) -> None:
    host, port = institutions.json("alice", "outputs")["gateway_endpoint"].split(":")
    every = [
        network["IPAddress"]
        for name in NODES
        for network in alice.node(name).container.attrs["NetworkSettings"]["Networks"].values()
    ]
    assert len(every) == 4  # the gateway stands on two networks
    image = alice.node("head").container.image.id
    found = scan(engine, image, str(wide_area.name), host, *every)
    assert {address: found[address] for address in every} == {address: set() for address in every}
    ours = {**published(alice), **published(bob)}
    assert found[host] & set(published(alice)) == {int(port)}
    assert found[host] & set(ours) == {p for p, address in ours.items() if address != "127.0.0.1"}
    assert {address for p, address in published(alice).items() if p != int(port)} == {"127.0.0.1"}


def test_a_neighbour_of_the_gateway_itself_finds_what_the_documents_say(
    engine: docker.DockerClient, institutions: Demo, alice: Party
) -> None:
    """On the gateway's own outside network, past the published port: no port that docs/security.md does not name."""
    network = f"{institutions.name}-alice-outside"
    gateway = alice.node("gateway").container
    address = gateway.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    found = scan(engine, gateway.image.id, network, address)[address]
    listeners = set(ports.outbound_ports(("alice", "bob"), "alice", alice.model.consortium.slots)["bob"].values())
    assert found == {ports.GATEWAY_PUBLIC_PORT, ports.GATEWAY_OPERATOR_PORT, *listeners}


@pytest.fixture(scope="module")
def needles(institutions: Demo) -> dict[str, list[bytes]]:
    """Name of each secret of both institutions → the forms in which it could be seen."""
    found: dict[str, list[bytes]] = {}
    for party in ("alice", "bob"):
        for name, line in secrets_of(institutions, party).items():
            raw = line.encode()
            found[f"{party}'s {name}"] = [raw, raw.hex().encode(), *(_base64(raw, shift) for shift in range(3))]
    assert len(found) == 12
    return found


def _base64(raw: bytes, shift: int) -> bytes:
    """The middle of the base64 of the secret, at each place it can have in a longer text."""
    return base64.b64encode(b"\0" * shift + raw)[4:-4]


def seen(content: bytes, needles: dict[str, list[bytes]]) -> list[str]:
    """Names of the secrets that stand in these bytes."""
    return [name for name, forms in needles.items() if any(form in content for form in forms)]


def seen_in_stream(pieces: Iterable[bytes], needles: dict[str, list[bytes]]) -> tuple[list[str], int]:
    """The same for what is too long to hold; and how many bytes there were."""
    longest = max(len(form) for forms in needles.values() for form in forms)
    found: set[str] = set()
    before, total = b"", 0
    for piece in pieces:
        total += len(piece)
        found.update(seen(before + piece, needles))
        before = (before + piece)[-longest:]
    return sorted(found), total


def test_the_search_finds_a_secret_in_each_form(needles: dict[str, list[bytes]]) -> None:
    name, forms = next(iter(needles.items()))
    raw = forms[0]
    for content in (raw, raw.hex().encode(), base64.b64encode(b"ab" + raw + b"c"), base64.b64encode(raw)):
        assert seen(b"x" + content, needles) == [name]
        text = b"x" * 70_000 + content
        assert seen_in_stream((text[at : at + 999] for at in range(0, len(text), 999)), needles)[0] == [name]


def test_no_secret_stands_in_a_layer_or_in_the_history_of_the_image(
    engine: docker.DockerClient, alice: Party, needles: dict[str, list[bytes]]
) -> None:
    image = alice.node("head").container.image
    about = json.dumps([image.attrs, image.history()]).encode()
    assert seen(about, needles) == []
    found, total = seen_in_stream(image.save(chunk_size=1 << 22), needles)
    assert found == []
    assert total > 100_000_000, "that was no image"


@pytest.mark.parametrize("role", NODES)
def test_no_secret_stands_on_a_node_but_in_its_own_files(
    alice: Party, bob: Party, role: str, needles: dict[str, list[bytes]]
) -> None:
    """Arguments and environments of all processes, all logs, and what the engine knows."""
    for party in (alice, bob):
        node = party.node(role)
        assert seen(json.dumps(node.container.attrs).encode(), needles) == []
        assert seen(node.container.logs(), needles) == []
        processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
        logs = "find /var/log /tmp /run -type f -size -50M -exec cat {} + 2>/dev/null"
        for command in (processes, logs):
            _, text = node.container.exec_run(["sh", "-c", command])
            assert text
            assert seen(text, needles) == [], f"{node.name}: {command}"


def test_no_secret_stands_in_state_history_or_backups(institutions: Demo, needles: dict[str, list[bytes]]) -> None:
    for party in ("alice", "bob"):
        workspace = institutions.workspace(party)
        allowed = {workspace / ".private" / name for name in ("passphrase", f"{party}.token")}
        files = [path for path in workspace.rglob("*") if path.is_file() and path not in allowed]
        kinds = {"stacks", "history", "backups"}
        assert kinds <= {part for path in files for part in path.parts}, "the state has another form than expected"
        leaks = {str(path): seen(path.read_bytes(), needles) for path in files}
        assert {path: found for path, found in leaks.items() if found} == {}


def test_no_secret_is_seen_of_a_pulumi_that_runs(
    institutions: Demo, alice: Party, needles: dict[str, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events, output, and arguments and environment of every process of an `up` that lays all files of a node again."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PULUMI_DEBUG_COMMANDS", "1")  # else there is no --event-log
    workspace = Workspace.find(institutions.workspace("alice"))
    for path in ("/etc/consortium/secrets/operator.token", "/etc/consortium/health.json"):
        alice.node("head").check("sh", "-c", f"echo strange >> {path}")
    said: list[str] = []
    events = tmp_path / "events.jsonl"

    def up() -> None:
        for verb in (["refresh"], ["up", "--skip-preview"]):
            said.append(workspace.pulumi(*verb, "--yes", "--event-log", str(events), party="alice"))
            said.append(events.read_text())

    running = threading.Thread(target=up)
    running.start()
    looked: set[str] = set()
    leaks: dict[str, list[str]] = {}
    modes: set[int] = set()
    while running.is_alive():
        for command, environment in processes():
            looked.add(command[:300])
            # Pulumi hands a program its decrypted configuration in its environment, which only its user can read.
            content = command if PROGRAM in command else command + environment
            if found := seen(content.encode(errors="replace"), needles):
                leaks[command[:300]] = found
        for folder in (tmp_path / "tmp").glob("consortium-ansible-*"):
            with suppress(FileNotFoundError):
                modes.add(folder.stat().st_mode & 0o777)
        time.sleep(0.05)
    running.join()
    assert len(said) == 4, said
    for program in (PROGRAM, "ansible_runner", "ansible-playbook"):
        assert any(program in command for command in looked), f"no process of {program} was seen"
    assert leaks == {}
    assert "operator.token" in "".join(said) or "has drifted" in "".join(said)
    assert seen("".join(said).encode(), needles) == []
    assert modes == {0o700}
    left = [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
    assert [str(path) for path in left if seen(path.read_bytes(), needles)] == []
    assert [str(path) for path in left if "consortium-ansible" in str(path)] == []


def processes() -> Iterator[tuple[str, str]]:
    """Command and environment of every process of this machine that may be read."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command, environment = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
            yield command.replace(b"\0", b" ").decode(errors="replace"), environment.decode(errors="replace")
