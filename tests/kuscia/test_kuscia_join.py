"""Joining with `mode: kuscia`, by the real Pulumi: the node's key is made once and never stands in clear."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from consortium import toolchain, trust
from consortium.cli import build
from consortium.documents import lint
from consortium.errors import ConsortiumError
from consortium.founding import found
from consortium.joining import Joined, Wishes, join
from consortium.kuscia import keys
from consortium.kuscia.keyring import node_secrets
from consortium.rotation import rotate_certificate
from consortium.spec import Party
from consortium.stackfile import StackFile
from consortium.workspace import Workspace
from tests.kuscia.test_kuscia_documents import NODE, party

ENDPOINT = ("gateway.alice.example", 8443)
pytestmark = pytest.mark.pulumi


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Joined]]:
    """Alice's workspace after its first join, made once: Pulumi takes seconds for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
            patch.delenv(name, raising=False)
        tools = toolchain.pulumi_environment()
        patch.setattr(toolchain, "pulumi_environment", lambda: tools)
        folder = tmp_path_factory.mktemp("alice")
        found(folder, "demo", ["alice", "bob"], mode="kuscia")
        (folder / "parties/bob.yaml").write_text(yaml.safe_dump(party("bob")))
        yield folder, join(Workspace(folder), "alice", Wishes(endpoint=ENDPOINT))


@pytest.fixture
def place(joined: tuple[Path, Joined], tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(joined[0], tmp_path / "alice")))


def secrets(place: Workspace) -> dict[str, str]:
    shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
    return {k.removeprefix("consortium:"): v["value"] for k, v in shown.items() if v["secret"]}


def of_key(key: str) -> str:
    return trust.key_digest(keys.domain("alice", key).certificate)


def own_file(place: Workspace) -> Party:
    return Party.model_validate(yaml.safe_load(place.party_file("alice").read_text()))


def in_clear(place: Workspace) -> str:
    return "".join(p.read_text() for p in place.root.rglob("*") if p.is_file() and ".private" not in p.parts)


def settle(place: Workspace) -> None:
    """What an operator adds by hand."""
    stack = StackFile(place.stack_file("alice"))
    stack.update(settings={**stack.config()["settings"], "kuscia": NODE})


def test_a_node_has_its_keys_from_join_and_they_last(place: Workspace, joined: tuple[Path, Joined]) -> None:
    assert {"kusciaKey", "kusciaClientKey", "kusciaClientCertificate"} <= set(joined[1].changed)
    held = secrets(place)
    public = own_file(place).kuscia
    assert public is not None
    assert trust.key_digest(public.certificate) == of_key(held["kusciaKey"])
    assert joined[1].kuscia_fingerprint == trust.fingerprint(public.certificate)
    client = StackFile(place.stack_file("alice")).config()["kusciaClientCertificate"]
    assert trust.key_digest(client) == of_key(held["kusciaClientKey"])
    text = in_clear(place)
    lines = {name: value.splitlines() for name, value in held.items()}
    assert not [name for name, found in lines.items() if found[min(1, len(found) - 1)] in text]

    assert [p.what for p in lint(place.root)] == [
        "the settings of the Kuscia node are missing: at least its image and the tasks'"
    ]
    settle(place)
    assert lint(place.root) == []
    before = place.party_file("alice").read_text()
    assert join(place, "alice", Wishes()).changed == ()
    assert place.party_file("alice").read_text() == before

    rotate_certificate(place, "alice")
    renewed = secrets(place)
    assert {name for name in held if held[name] != renewed[name]} == {"gatewayKey", "kusciaClientKey"}
    assert place.party_file("alice").read_text() == before


def test_a_lost_party_file_is_written_with_the_key_that_is_there(place: Workspace) -> None:
    key = secrets(place)["kusciaKey"]
    place.party_file("alice").unlink()
    join(place, "alice", Wishes(endpoint=ENDPOINT))
    public = own_file(place).kuscia
    assert public is not None
    assert trust.key_digest(public.certificate) == of_key(key)


def test_a_party_file_whose_node_key_is_not_here_is_not_replaced(place: Workspace) -> None:
    StackFile(place.stack_file("alice")).update(kusciaKey=None)
    before = place.party_file("alice").read_text()
    with pytest.raises(ConsortiumError, match="not the keys it speaks of") as caught:
        join(place, "alice", Wishes())
    assert "kusciaKey" in str(caught.value)
    assert place.party_file("alice").read_text() == before


@pytest.fixture
def run(place: Workspace) -> Callable[..., tuple[int, str]]:
    """The command as an operator has it; standard input is no terminal."""
    settle(place)

    def command(*words: str, given: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(build(), ["-w", str(place.root), *words], input=given)
        return done.exit_code, done.output + (f"{done.exception}" if done.exception else "")

    return command


def test_a_password_goes_in_by_standard_input_and_comes_out_in_the_nodes_file_only(
    place: Workspace, run: Callable[..., tuple[int, str]]
) -> None:
    code, said = run("kuscia", "password", "database", given="hunter2@\n")
    assert code
    assert "cannot stand in Kuscia's connection string" in said
    assert "hunter2" not in said
    assert run("kuscia", "password", "registry")[0]
    code, said = run("kuscia", "password", "database", given="hunter2\n")
    assert (code, "hunter2" in said) == (0, False)
    assert "consortium:kusciaDatabasePassword" in said
    assert "hunter2" not in in_clear(place)
    assert secrets(place)["kusciaDatabasePassword"] == "hunter2"

    database = {"host": "db.example", "database": "kuscia", "user": "node"}
    stack = StackFile(place.stack_file("alice"))
    stack.update(settings={**stack.config()["settings"], "kuscia": {**NODE, "database": database}})
    assert lint(place.root) == []


def test_manifests_and_their_secret_are_printed_apart(place: Workspace, run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("kuscia", "manifests")
    assert "cluster_dns" in said
    assert code
    stack = StackFile(place.stack_file("alice"))
    stack.update(settings={**stack.config()["settings"], "kuscia": {**NODE, "cluster_dns": "10.96.0.10"}})
    code, said = run("kuscia", "manifests")
    kinds = [found["kind"] for found in yaml.safe_load_all(said)]
    assert (code, kinds[-1], "Secret" in kinds) == (0, "Deployment", False)
    key = secrets(place)["kusciaKey"]
    assert keys.encoded(key) not in said
    code, said = run("kuscia", "manifests", "--secret")
    (only,) = yaml.safe_load_all(said)
    assert (code, only["kind"]) == (0, "Secret")
    assert yaml.safe_load(only["stringData"]["kuscia.yaml"])["domainKeyData"] == keys.encoded(f"{key}\n")


def test_a_key_that_the_peers_do_not_know_makes_no_node(place: Workspace) -> None:
    from consortium.documents import load_model
    from consortium.keyring import Keyring

    settle(place)
    model = load_model(place.root, "alice")
    ring = Keyring(place, "alice", "demo")
    assert node_secrets(ring, model).domain.party == "alice"
    ring.set("kusciaKey", keys.make_domain("alice").key)
    with pytest.raises(ConsortiumError, match="not the one of the certificate that the peers hold"):
        node_secrets(ring, model)
