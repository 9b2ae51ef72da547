"""What the node image is made of, and that nothing of the making stays in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import docker
import docker.errors
import pytest

from consortium import image, image_stages, lockfile
from consortium.ansible import ROLES
from consortium.base_image import DEFAULT_BASE
from consortium.image_downloads import TOOLS, BakeFailed, Downloads, environment, mounts


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of everything that goes into the image, free to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROLES, tmp_path / "roles", ignore=ignored)
    shutil.copytree(image_stages.COORDINATOR, tmp_path / "coordinator", ignore=ignored)
    monkeypatch.setattr(image_stages, "ROLES", tmp_path / "roles")
    monkeypatch.setattr(image_stages, "BAKE", tmp_path / "roles" / "bake.yml")
    runtime, node = image_stages.STAGES
    moved = image_stages.Stage(node.name, node.roles, node.repository, (tmp_path / "coordinator",))
    monkeypatch.setattr(image_stages, "STAGES", (runtime, moved))
    return tmp_path


def digests() -> tuple[str, str]:
    runtime, node = image_stages.stage_digests(DEFAULT_BASE)
    return runtime, node


def append(path: Path) -> None:
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed\n")


@pytest.mark.parametrize(
    "path",
    ["roles/bake.yml", "roles/base/tasks/install.yml", "roles/base/files/strip.sh", "roles/ray/defaults/main.yml"]
    + [f"roles/{role}/files/requirements.lock" for role in ("secretflow", "gateway")],
)
def test_what_a_runtime_is_made_of_changes_both_digests(sources: Path, path: str) -> None:
    before = digests()
    append(sources / path)
    assert all(new != old for new, old in zip(digests(), before, strict=True))


@pytest.mark.parametrize(
    "path", ["coordinator/new.py", "coordinator/config.py", "roles/coordinator/files/requirements.lock"]
)
def test_an_edit_of_the_coordinator_keeps_the_runtime(sources: Path, path: str) -> None:
    before = digests()
    append(sources / path)
    after = digests()
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "path",
    [
        "roles/site.yml",
        "roles/README.md",
        "roles/base/tasks/configure.yml",
        "roles/gateway/tasks/configure.yml",
        "roles/base/tasks/service.yml",
        "roles/base/meta/argument_specs.yml",
        "coordinator/__pycache__/x.pyc",
    ],
)
def test_what_acts_at_up_time_bakes_nothing_anew(sources: Path, path: str) -> None:
    before = digests()
    (sources / path).parent.mkdir(exist_ok=True)
    append(sources / path)
    assert digests() == before


def test_another_base_is_another_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lockfile, "LOCK", tmp_path / "none.lock")
    assert image.image_name("debian:12") != image.image_name()
    assert image.image_name() == f"consortium-node:{image.content_digest()[:12]}"


def test_the_first_bundle_named_is_used(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.touch()
    theirs.touch()
    environ = {"SSL_CERT_FILE": str(theirs), "https_proxy": "http://proxy.example:3128"}
    assert Downloads.from_environment(environ).ca_bundle == theirs
    assert Downloads.from_environment(environ, ca_bundle=ours).ca_bundle == ours
    assert Downloads.from_environment({**environ, "CONSORTIUM_CA_BUNDLE": str(ours)}).ca_bundle == ours
    assert environment(Downloads.from_environment(environ))["https_proxy"] == "http://proxy.example:3128"
    assert Downloads.from_environment({}).ca_bundle is None


def test_a_bundle_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BakeFailed, match="not a file") as caught:
        Downloads.from_environment({}, ca_bundle=tmp_path / "none.pem")
    assert caught.value.value == str(tmp_path / "none.pem")


def test_mirrors_and_certificates_reach_the_tools_from_outside_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    (tmp_path / "folder").mkdir()
    downloads = Downloads(bundle, "http://mirror.example/debian", "https://mirror.example/simple")
    assert all(mount["Target"].startswith(f"{TOOLS}/") for mount in mounts(tmp_path / "folder", downloads))
    assert TOOLS.startswith("/dev/")
    told = environment(downloads)
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert told["SSL_CERT_FILE"] == f"{TOOLS}/ca.pem"
    conf = (tmp_path / "folder" / "apt" / "apt.conf").read_text()
    assert "sourceparts" in conf
    assert "mirror.example" in (tmp_path / "folder" / "apt" / "sources.list").read_text()


def test_an_engine_elsewhere_is_refused_with_the_way_to_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "connect", lambda _engine: None)
    monkeypatch.setattr(image, "_exists", lambda _client, _name: False)
    with pytest.raises(BakeFailed, match="this machine") as caught:
        image.bake("tcp://engine.example:2376", downloads=Downloads())
    assert "docker save" in caught.value.fix


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BakeFailed, match="does not answer") as caught:
        image.bake(f"unix://{tmp_path}/none.sock", downloads=Downloads())
    assert "none.sock" in caught.value.value


@pytest.fixture(scope="module")
def node_image() -> str:
    """The image of the present content; baked now unless it is there."""
    return image.bake("unix:///var/run/docker.sock", on_progress=print)


@pytest.fixture(scope="module")
def baked(node_image: str) -> Iterator[docker.models.containers.Container]:
    """A node that runs, of the image of the present content."""
    container = docker.from_env().containers.run(node_image, detach=True)
    yield container
    container.remove(force=True)


@pytest.mark.docker
@pytest.mark.timeout(1800)  # the first test that asks for the image may have to bake it
def test_a_node_without_services_is_healthy(baked: docker.models.containers.Container) -> None:
    code, output = baked.exec_run(["node-health"])
    assert (code, output.decode().strip()) == (0, "healthy")


@pytest.mark.docker
def test_nothing_of_the_bake_is_in_the_image(baked: docker.models.containers.Container) -> None:
    config = baked.image.attrs["Config"]
    assert config["Env"] is None or not [e for e in config["Env"] if not e.startswith("PATH=")]
    assert config["Entrypoint"] == ["/usr/local/sbin/node-init"]
    history = str(baked.image.history())
    assert "consortium-bake" not in history.replace(baked.image.tags[0], "")
    _, output = baked.exec_run(["sh", "-c", "ls -A /dev/consortium-bake /root/.cache /var/lib/apt/lists /tmp"])
    assert "consortium-bake'" in output.decode()
    listed = [line for line in output.decode().splitlines() if line and not line.startswith(("ls:", "/"))]
    assert listed == []
    _, output = baked.exec_run(["sh", "-c", "find / -xdev -name uv -o -xdev -name 'uv-*'"])
    assert output.decode() == ""
    _, output = baked.exec_run(["grep", "-rls", "consortium-bake", "/etc", "/usr/local", "/opt/coordinator/pyvenv.cfg"])
    assert output.decode() == ""


@pytest.mark.docker
def test_a_node_stops_at_once(node_image: str) -> None:
    container = docker.from_env().containers.run(node_image, detach=True)
    try:
        container.stop(timeout=10)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, "it was killed instead of ending"
    finally:
        container.remove(force=True)


class FakeImage:
    def __init__(self, name: str) -> None:
        self.id, self.tags = f"id-of-{name}", [name]


class FakeEngine:
    """Images by repository, and containers that use some of them."""

    def __init__(self, names: list[str], used: list[str], stood_on: list[str]) -> None:
        self.names, self.used, self.stood_on = names, used, stood_on
        self.images = self.containers = self

    def list(self, repository: str = "", **_: object) -> list[object]:
        if repository:
            return [FakeImage(name) for name in self.names if name.startswith(f"{repository}:")]
        return [SimpleNamespace(image=FakeImage(name)) for name in self.used]

    def remove(self, name: str) -> None:
        if name in self.stood_on:
            raise docker.errors.APIError("image has dependent child images")
        self.names.remove(name)


def test_prune_keeps_what_is_present_used_or_stood_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    present = [target for _, target in image.targets(lockfile.origin())]
    old = ["consortium-node:old", "consortium-node:used", "consortium-runtime:old", "consortium-runtime:stood-on"]
    engine = FakeEngine(
        [*present, *old, "consortium-base:x"], ["consortium-node:used"], ["consortium-runtime:stood-on"]
    )
    monkeypatch.setattr(image, "connect", lambda _engine: engine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert image.prune("unix:///x") == ["consortium-node:old", "consortium-runtime:old"]
    assert set(engine.names) == {*present, "consortium-node:used", "consortium-runtime:stood-on", "consortium-base:x"}
