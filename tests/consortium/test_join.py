"""Keys are made once, here, and never turn up in clear: with the real Pulumi, as an operator would run it."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from consortium import toolchain, trust
from consortium.documents import lint, load_model
from consortium.errors import ConsortiumError, DocumentErrors, UsageError
from consortium.founding import found
from consortium.joining import Wishes, join
from consortium.rotation import rotate_certificate
from consortium.stackfile import StackFile
from consortium.workspace import PulumiFailed, Workspace
from tests.consortium import builders

ENDPOINT = ("gateway.alice.example", 8443)
CLEAN = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "CONSORTIUM_WORKSPACE")


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    """Looked for once: preparing the airgap toolchain takes seconds."""
    return toolchain.pulumi_environment()


@pytest.fixture
def place(tmp_path: Path, tools: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    environment = {k: v for k, v in tools.items() if k not in CLEAN}
    monkeypatch.setattr(toolchain, "pulumi_environment", lambda: environment)
    found(tmp_path, "demo", ["alice", "bob"])
    return Workspace(tmp_path)


def snapshot(place: Workspace) -> dict[str, str]:
    wanted = [place.stack_file("alice"), place.party_file("alice"), place.passphrase_file, place.token_file("alice")]
    return {path.name: path.read_text() for path in wanted}


def secrets(place: Workspace) -> dict[str, str]:
    shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
    return {k.removeprefix("consortium:"): v["value"] for k, v in shown.items() if v["secret"]}


@pytest.mark.pulumi
def test_join_makes_everything_once_and_nothing_leaks(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: list[str] = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda a, **k: (arguments.extend(map(str, a)), real(a, **k))[1])
    (place.root / "people.csv").write_text("id, age,\nhunter2,2\n")
    wishes = Wishes(
        endpoint=ENDPOINT, datasets={"people": "people.csv"}, workers=2, bind="172.17.0.1", operator_port=18081
    )
    joined = join(place, "alice", wishes)
    assert {"passphrase", "caKey", "gatewayKey", "gatewayCertificate", "party file", "stack"} <= set(joined.changed)
    assert joined.gateway_days_left >= 396

    held = secrets(place)
    assert set(held) == {"caKey", "gatewayKey", "signingKey", "operatorToken", "gatewayToken"}
    assert place.token_file("alice").read_text().strip() == held["operatorToken"]
    for path in (place.token_file("alice"), place.passphrase_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    outside = [p for p in place.root.rglob("*") if p.is_file() and ".private" not in p.parts]
    text = "".join(p.read_text() for p in outside if p.name != "people.csv") + " ".join(arguments)
    assert "hunter2" not in text
    for value in held.values():
        assert value not in text
        assert value.splitlines()[min(1, len(value.splitlines()) - 1)] not in text
    assert "PRIVATE KEY" not in text

    (place.root / "parties/bob.yaml").write_text(yaml.safe_dump(builders.party("bob")))
    assert lint(place.root) == []
    model = load_model(place.root, "alice")
    assert (model.settings.workers, model.settings.operator.port, model.settings.gateway.bind) == (
        2,
        18081,
        "172.17.0.1",
    )
    assert model.own.datasets["people"].columns == ("id", "age")
    assert model.own.datasets["people"].types == {"age": "int"}
    assert (model.own.gateway.host, model.own.gateway.port) == ENDPOINT
    assert trust.signing_public_key(held["signingKey"]) == model.own.signing_key

    before = snapshot(place)
    assert join(place, "alice", Wishes()).changed == ()
    assert snapshot(place) == before

    changed = join(place, "alice", Wishes(endpoint=("203.0.113.9", 9443), policy="approve")).changed
    assert set(changed) == {"stack settings", "party file"}
    assert secrets(place) == held
    model = load_model(place.root, "alice")
    assert (model.own.gateway.port, model.settings.gateway.port, model.settings.policy.default) == (
        9443,
        9443,
        "approve",
    )

    old = StackFile(place.stack_file("alice")).config()["gatewayCertificate"]
    public = place.party_file("alice").read_text()
    made = rotate_certificate(place, "alice")
    renewed = secrets(place)
    assert {k for k in held if held[k] != renewed[k]} == {"gatewayKey"}
    assert StackFile(place.stack_file("alice")).config()["gatewayCertificate"] != old
    assert made.days_left >= 396
    assert place.party_file("alice").read_text() == public
    assert lint(place.root) == []


@pytest.mark.pulumi
def test_a_join_that_was_cut_off_goes_on_where_it_stood(place: Workspace) -> None:
    join(place, "alice", Wishes(endpoint=ENDPOINT))
    held = secrets(place)
    old = yaml.safe_load(place.party_file("alice").read_text())
    place.party_file("alice").unlink()
    place.token_file("alice").unlink()
    StackFile(place.stack_file("alice")).update(gatewayCertificate=None)

    with pytest.raises(UsageError, match="where do the peers"):
        join(place, "alice", Wishes())
    join(place, "alice", Wishes(endpoint=ENDPOINT))
    new = yaml.safe_load(place.party_file("alice").read_text())
    assert new["signing_key"] == old["signing_key"]
    assert trust.key_digest(new["ca_certificates"][0]) == trust.key_digest(old["ca_certificates"][0])
    assert place.token_file("alice").read_text().strip() == held["operatorToken"] == secrets(place)["operatorToken"]
    (place.root / "parties/bob.yaml").write_text(yaml.safe_dump(builders.party("bob")))
    assert lint(place.root) == []


@pytest.mark.pulumi
def test_a_wrong_passphrase_names_the_file_and_changes_nothing(place: Workspace) -> None:
    join(place, "alice", Wishes(endpoint=ENDPOINT))
    kept = place.passphrase_file.read_text()
    place.passphrase_file.write_text("another\n")
    before = snapshot(place)
    with pytest.raises(PulumiFailed) as caught:
        rotate_certificate(place, "alice")
    assert str(place.passphrase_file) in str(caught.value)
    assert {**snapshot(place), "passphrase": ""} == {**before, "passphrase": ""}
    place.passphrase_file.write_text(kept)
    assert rotate_certificate(place, "alice").days_left >= 396


@pytest.mark.parametrize(
    ("party", "wishes", "error", "said"),
    [
        ("alise", Wishes(endpoint=ENDPOINT), UsageError, "did you mean alice"),
        ("alice", Wishes(), UsageError, "--endpoint"),
        ("alice", Wishes(endpoint=("127.0.0.1", 1)), DocumentErrors, "gateway.host"),
        ("alice", Wishes(endpoint=ENDPOINT, workers=999), DocumentErrors, "workers"),
        ("alice", Wishes(endpoint=ENDPOINT, bind="eth0"), DocumentErrors, "gateway.bind"),
        ("alice", Wishes(endpoint=ENDPOINT, datasets={"../a": "x"}), DocumentErrors, "../a"),
    ],
)
def test_a_wrong_wish_makes_nothing(
    tmp_path: Path, party: str, wishes: Wishes, error: type[Exception], said: str
) -> None:
    found(tmp_path, "demo", ["alice", "bob"])
    with pytest.raises(error) as caught:
        join(Workspace(tmp_path), party, wishes)
    assert said in str(caught.value)
    made = [p for folder in ("stacks", "parties", ".private") for p in (tmp_path / folder).rglob("*")]
    assert made == []


def test_a_party_file_without_its_keys_is_not_silently_replaced(tmp_path: Path) -> None:
    builders.write(tmp_path, stack=None)
    with pytest.raises(ConsortiumError) as caught:
        join(Workspace(tmp_path), "alice", Wishes())
    assert "not the keys it speaks of" in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "config: [1]", "a: &x 1"])
def test_a_damaged_stack_file_is_not_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Pulumi.alice.yaml"
    path.write_text(text)
    with pytest.raises(DocumentErrors):
        StackFile(path).update(party="alice")
    assert path.read_text() == text


def test_an_unchanged_stack_file_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.alice.yaml"
    path.write_text("# mine\nconfig:\n  consortium:party: alice\n")
    assert not StackFile(path).update(party="alice")
    assert "# mine" in path.read_text()
    assert StackFile(path).update(party="bob", nothing=None)
    assert StackFile(path).config() == {"party": "bob"}
