"""The parts that only compute: values on the wire, differences, requests."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airgap.pulumi_resource_docker import container_read, wire
from airgap.pulumi_resource_docker.container import Container
from airgap.pulumi_resource_docker.container_files import archive
from airgap.pulumi_resource_docker.container_table import CONTAINER
from airgap.pulumi_resource_docker.container_values import bad_duration, nanoseconds
from airgap.pulumi_resource_docker.diff import difference, equal, leaves
from airgap.pulumi_resource_docker.network import Network
from airgap.pulumi_resource_docker.table import On, Prop, Shape, request
from airgap.pulumi_resource_docker.volume import Volume

WORDS = st.text("abc.[]\"' ü", max_size=4)
SCALARS = st.booleans() | st.integers(-(2**40), 2**40) | WORDS
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS, v, max_size=3), max_leaves=8)
PROPERTIES = st.dictionaries(WORDS, VALUES, max_size=4)


@given(PROPERTIES)
def test_values_survive_the_wire(properties: dict[str, Any]) -> None:
    """What goes out comes back, types included."""
    back = wire.props(wire.struct(properties))
    assert back == properties
    assert repr(sorted(back)) == repr(sorted(properties))


def test_secrets_are_unwrapped() -> None:
    """Wherever they are."""
    secret = {wire.SIGNATURE: wire.SECRET, "value": "hunter2"}
    assert wire.props(wire.struct({"a": secret, "b": [secret]})) == {"a": "hunter2", "b": ["hunter2"]}
    assert wire.unknown({"a": [{"b": wire.UNKNOWN}]})
    assert not wire.unknown({"a": ["b"]})


@given(VALUES)
def test_nothing_differs_from_itself(value: Any) -> None:
    """Otherwise an up would never be without changes."""
    assert list(leaves(value, value, "p")) == []
    assert equal(None, value, value)


@given(PROPERTIES, PROPERTIES)
def test_differences_are_complete_and_symmetric(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Values that differ have a leaf that says so; the other way round the same leaves differ."""
    there, back = dict(leaves(old, new, "p")), dict(leaves(new, old, "p"))
    assert bool(there) == (not _same(old, new))
    assert there.keys() == back.keys()
    opposite = {"ADD": "DELETE", "DELETE": "ADD", "UPDATE": "UPDATE"}
    assert {path: opposite[what] for path, what in there.items()} == back


def _same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from True, as the wire does."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


@given(st.lists(WORDS), st.randoms())
def test_order_matters_only_where_docker_keeps_it(values: list[str], random: Any) -> None:
    """envs is a set, a command is not."""
    shuffled = random.sample(values, len(values))
    assert equal(Prop(Shape.TEXTS, unordered=True), values, shuffled)
    assert equal(Prop(Shape.TEXTS), values, shuffled) == (values == shuffled)


@given(st.dictionaries(st.sampled_from(sorted(CONTAINER)), SCALARS, max_size=5), st.data())
def test_what_a_change_leads_to(old: dict[str, Any], data: st.DataObject) -> None:
    """Exactly the changed names are told, and replacing ones by their place in the table."""
    names = st.sampled_from(sorted(CONTAINER))
    new = data.draw(st.dictionaries(names, SCALARS, max_size=5))
    found = difference(CONTAINER, old, new)
    assert found.changed == {n for n in {*old, *new} if not _same(old.get(n), new.get(n))}
    assert found.replaces == {
        name
        for name in found.changed
        if CONTAINER[name].on is On.REPLACE or (CONTAINER[name].on is On.LIMIT and name not in new)
    }
    assert bool(found.details) == bool(found.changed)


def test_differences_by_example() -> None:
    """Paths as the engine writes them."""
    old = {"envs": ["A=1", "B=1"], "sysctls": {"net.core": "1"}, "memory": 64, "name": "n", "__defaults": ["name"]}
    new = {"envs": ["A=1", "B=2"], "sysctls": {"net.core": "2"}, "memory": 32, "name": "n", "labels": []}
    found = difference(CONTAINER, old, new)
    assert found.details == {"envs[1]": "UPDATE", 'sysctls["net.core"]': "UPDATE", "memory": "UPDATE"}
    assert found.replaces == {"envs", "sysctls"}
    assert difference(CONTAINER, old, new, ["envs", "sysctls", "memory"]).changed == set()
    assert difference(CONTAINER, {"memory": 64}, {}).replaces == {"memory"}
    assert difference(Network.table, {"driver": "bridge"}, {}).changed == set(), "docker settles it"
    assert difference(Volume.table, {"driver": "local"}, {"driver": "x"}).replaces == {"driver"}


def test_what_cannot_be_there_twice() -> None:
    """A name, a port of the host, a fixed address; a generated name can be chosen anew."""
    exclusive = Container().exclusive
    assert exclusive({"name": "n"}, {"name": "n"})
    assert not exclusive({"name": "n"}, {"name": "n", "__defaults": ["name"]})
    assert not exclusive({"name": "n"}, {"name": "m", "ports": [{"internal": 80}]})
    assert exclusive({"name": "n"}, {"name": "m", "ports": [{"internal": 80, "external": 80}]})
    assert exclusive({}, {"name": "m", "networksAdvanced": [{"name": "x", "ipv4Address": "10.0.0.1"}]})
    assert not exclusive({}, {"name": "m", "networksAdvanced": wire.UNKNOWN, "ports": [wire.UNKNOWN]})
    assert Network().exclusive({"name": "n"}, {"name": "m", "ipamConfigs": [{"subnet": "10.0.0.0/8"}]})


def test_request_of_a_container() -> None:
    """Several properties meet in one object, one goes to several places."""
    made = request(
        CONTAINER,
        {
            "image": "i",
            "restart": "on-failure",
            "maxRetryCount": 3,
            "ports": [{"internal": 53, "protocol": "udp", "external": 5353}],
            "volumes": [
                {"volumeName": "v", "containerPath": "/v"},
                {"hostPath": "/h", "containerPath": "/h", "readOnly": True, "selinuxRelabel": "z"},
                {"containerPath": "/anonymous"},
                {"fromContainer": "other", "readOnly": True},
            ],
            "memory": 1,
            "memorySwap": -1,
            "cpus": "1.5",
        },
    )
    assert made == {
        "Image": "i",
        "ExposedPorts": {"53/udp": {}},
        "Volumes": {"/anonymous": {}},
        "HostConfig": {
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "PortBindings": {"53/udp": [{"HostIp": "0.0.0.0", "HostPort": "5353"}]},
            "Binds": ["v:/v:rw", "/h:/h:ro,z"],
            "VolumesFrom": ["other:ro"],
            "Memory": 1 << 20,
            "MemorySwap": -1,
            "NanoCpus": 1_500_000_000,
        },
    }


def test_durations() -> None:
    """Go's notation."""
    assert nanoseconds("1m30s") == 90 * 10**9
    assert nanoseconds("200ms") == 2 * 10**8
    assert nanoseconds("0") == 0
    assert bad_duration("1.5h") is None
    assert bad_duration("0s") is None
    assert bad_duration("30") and bad_duration("") and bad_duration("1 s")


def test_uploads() -> None:
    """Modes and owners are as given."""
    data = archive(
        [
            {"file": "/a/b", "content": "text"},
            {"file": "/x", "contentBase64": "AAE=", "permissions": "0600", "owner": "7", "group": "8"},
            {"file": "/run", "content": "", "executable": True},
        ]
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {m.name: m for m in tar.getmembers()}
        content = tar.extractfile("x")
        assert content and content.read() == b"\0\1"
    assert (members["a/b"].mode, members["x"].mode, members["run"].mode) == (0o644, 0o600, 0o744)
    assert (members["x"].uid, members["x"].gid) == (7, 8)


def shown(running: bool = True, **host: Any) -> dict[str, Any]:
    """A container as docker shows it."""
    policy = {"Name": "no", "MaximumRetryCount": 0}
    return {
        "Id": "abc",
        "Name": "/n",
        "Image": "sha256:1",
        "State": {"Running": running, "ExitCode": 0},
        "Config": {"Image": "i", "Labels": {"pulumi.urn": "u", "x": "y"}, "Env": ["A=1", "P=image"]},
        "HostConfig": {"RestartPolicy": policy, "PortBindings": None, "Binds": None, **host},
        "NetworkSettings": {"Networks": {"net": {"NetworkID": "net-id"}}},
    }


def test_drift_of_a_container() -> None:
    """Only what changes in a living container, and only what the program gave."""
    inputs = {"name": "n", "image": "i", "memory": 64, "cpus": "2.0", "networksAdvanced": [{"name": "net-id"}]}
    same = shown(Memory=64 << 20, NanoCpus=2 * 10**9, CpuShares=7)
    assert container_read.drifted(same, inputs, "sha256:1") == {}
    changed = shown(Memory=32 << 20, NanoCpus=10**9)
    assert container_read.drifted(changed, inputs, "sha256:2") == {
        "memory": 32,
        "cpus": "1",
        "image": "sha256:1",
    }
    elsewhere = {**inputs, "networksAdvanced": [{"name": "net"}, {"name": "gone"}]}
    assert container_read.drifted(same, elsewhere, "sha256:1") == {"networksAdvanced": [{"name": "net"}]}
    assert container_read.drifted(shown(running=False), {"image": "i"}, "sha256:1") == {"mustRun": False}
    assert container_read.drifted(shown(running=False), {"image": "i", "mustRun": False}, "sha256:1") == {}


def test_import_of_a_container() -> None:
    """What the image or docker sets is not told, nor are the provider's own labels."""
    image = {"Config": {"Env": ["P=image"], "Labels": {}}}
    found = container_read.importable(shown(NetworkMode="net", Memory=0, ShmSize=64 << 20), image)
    assert found == {
        "name": "n",
        "image": "i",
        "envs": ["A=1"],
        "labels": [{"label": "x", "value": "y"}],
        "networksAdvanced": [{"name": "net"}],
    }
