"""A CA is replaced step by step: no step comes before every peer is ready, and each may be cut off and run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from consortium import ca_steps, toolchain, trust
from consortium.ca_rotation import Ask, look, take
from consortium.ca_steps import Running, Seen, waits_for
from consortium.documents import lint, load_model, load_party
from consortium.errors import EXIT_FAILED, EXIT_USAGE, ConsortiumError, Unreachable, UsageError
from consortium.founding import found
from consortium.joining import Wishes, join
from consortium.rotation import rotate_certificate
from consortium.stackfile import StackFile
from consortium.trust_checks import issued_by
from consortium.workspace import Workspace
from tests.consortium import builders
from tests.consortium.conftest import Command, Said
from tests.consortium.test_join import CLEAN

NEW, OLD = "n" * 64, "o" * 64


def seen(**changes: Any) -> Seen:
    running = {"digest": NEW, "certificate": "AA", "peers": {"bob": NEW, "carol": NEW}} | changes.pop("running", {})
    return Seen(**{"party": "alice", "documents": NEW, "certificate": "AA", "running": Running(**running)} | changes)


WAITS: list[tuple[ca_steps.Step, dict[str, Any], list[str]]] = [
    ("begin", {"running": {"problem": "no answer"}}, []),
    ("issue", {}, []),
    ("finish", {}, []),
    ("issue", {"running": {"peers": {}}}, []),
    ("issue", {"running": {"certificate": "BB"}}, []),
    ("finish", {"running": {"certificate": "BB"}}, ["does not show the new CA's certificate yet"]),
    ("finish", {"running": {"certificate": None}}, ["does not show the new CA's certificate yet"]),
    ("issue", {"running": {"peers": {"bob": OLD, "carol": NEW}}}, ["bob was not seen with the new party file"]),
    ("finish", {"running": {"peers": {"bob": "", "carol": OLD}}}, ["bob was not seen", "carol was not seen"]),
    ("issue", {"running": {"digest": OLD}}, ["alice itself runs with other documents"]),
    (
        "issue",
        {"running": {"problem": "no answer"}},
        ["cannot be asked whom it has seen with the new party file: no answer"],
    ),
    ("issue", {"documents": "", "running": {"digest": "", "peers": {"bob": ""}}}, ["not right"]),
]


@pytest.mark.parametrize(("step", "changes", "words"), WAITS)
def test_a_step_waits_for_whom_it_would_break(step: ca_steps.Step, changes: dict[str, Any], words: list[str]) -> None:
    found = waits_for(seen(**changes), step)
    assert len(found) == len(words), found
    for text, part in zip(found, words, strict=True):
        assert part in text


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    """Looked for once: it takes seconds."""
    return toolchain.pulumi_environment()


@pytest.fixture
def place(tmp_path: Path, tools: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    environment = {k: v for k, v in tools.items() if k not in CLEAN}
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(toolchain, "pulumi_environment", lambda: environment)
    found(tmp_path, "demo", ["alice", "bob"])
    made = Workspace(tmp_path)
    join(made, "alice", Wishes(endpoint=("gateway.alice.example", 8443)))
    (tmp_path / "parties/bob.yaml").write_text(yaml.safe_dump(builders.party("bob")))
    return made


def certificate(place: Workspace) -> str:
    return str(StackFile(place.stack_file("alice")).config()["gatewayCertificate"])


def cas(place: Workspace) -> tuple[str, ...]:
    return load_party(place.root, "alice").ca_certificates


def all_ready(place: Workspace, **status: Any) -> Ask:
    """What the own coordinator says once everybody has run `up`."""
    digest = load_model(place.root, "alice").digest()
    own = trust.fingerprint(certificate(place))
    answers = {
        "/status": {"consortium_digest": digest, "certificate": own, "peers": {"bob": {}}, **status},
        "/presented": {"parties": {"bob": {"presented": {"consortium_digest": digest}, "error": ""}}},
    }
    return lambda path: answers[path]


def nobody(_path: str) -> dict[str, Any]:
    raise Unreachable("the coordinator does not answer")


@pytest.mark.pulumi
def test_a_ca_is_replaced_with_an_overlap(place: Workspace) -> None:
    def ready(path: str) -> Any:
        return all_ready(place)(path)

    behind = all_ready(place)
    (old,), first = cas(place), certificate(place)
    assert look(place, "alice", ready).stage == "none"
    assert take(place, "alice", "finish", nobody).changed == ()
    with pytest.raises(UsageError, match="does not follow yet"):
        take(place, "alice", "issue", ready)

    begun = take(place, "alice", "begin", nobody)
    assert (begun.stage, begun.changed) == ("begun", ("nextCaKey", "party file"))
    assert (cas(place)[0], certificate(place)) == (old, first)
    assert (begun.ca, begun.next_ca) == tuple(map(trust.fingerprint, cas(place)))
    assert "every peer" in begun.next
    assert lint(place.root) == []
    assert take(place, "alice", "begin", nobody).changed == ()
    assert join(place, "alice", Wishes()).changed == ()
    rotate_certificate(place, "alice")
    assert issued_by(certificate(place), old), "before `issue` the old CA issues"
    # who orders the list otherwise changes nothing: a CA is found by its key
    document = yaml.safe_load(place.party_file("alice").read_text())
    document["ca_certificates"].reverse()
    place.party_file("alice").write_text(yaml.safe_dump(document))
    assert join(place, "alice", Wishes()).ca_fingerprint == trust.fingerprint(old)

    for ask in (behind, nobody):
        with pytest.raises(ConsortiumError, match="must wait") as caught:
            take(place, "alice", "issue", ask)
        assert "--force" in str(caught.value)
        assert issued_by(certificate(place), old)
    assert "bob was not seen with the new party file" in str(look(place, "alice", behind).waits_for)
    with pytest.raises(UsageError):
        take(place, "alice", "finish", ready)

    issued = take(place, "alice", "issue", ready)
    (new,) = (ca for ca in cas(place) if ca != old)
    assert issued.stage == "issued"
    assert issued_by(certificate(place), new)
    assert take(place, "alice", "issue", nobody).changed == ()
    rotate_certificate(place, "alice")
    assert issued_by(certificate(place), new), "after it the new one issues"
    assert lint(place.root) == []

    unlaid = all_ready(place, certificate=trust.fingerprint(first))
    with pytest.raises(ConsortiumError, match="must wait") as caught:
        take(place, "alice", "finish", unlaid)
    assert "does not show" in str(caught.value)
    assert len(cas(place)) == 2
    done = take(place, "alice", "finish", ready)
    assert (done.stage, done.next_ca, done.ca) == ("none", None, trust.fingerprint(new))
    assert cas(place) == (new,)
    assert "send parties/alice.yaml" in done.next
    config = StackFile(place.stack_file("alice")).config()
    assert "nextCaKey" not in config
    assert lint(place.root) == []
    shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
    assert trust.private_key_digest(shown["consortium:caKey"]["value"]) == trust.key_digest(new)
    assert take(place, "alice", "finish", nobody).changed == ()


@pytest.mark.pulumi
def test_a_step_that_was_cut_off_is_taken_again_and_a_stolen_key_does_not_wait(place: Workspace) -> None:
    take(place, "alice", "begin", nobody)
    both = place.party_file("alice").read_text()
    (old, new) = cas(place)
    # cut off between the key and the party file
    document = yaml.safe_load(both)
    document["ca_certificates"] = [old]
    place.party_file("alice").write_text(yaml.safe_dump(document))
    again = take(place, "alice", "begin", nobody)
    assert again.changed == ("party file",)
    assert trust.key_digest(cas(place)[1]) == trust.key_digest(new)

    forced = take(place, "alice", "issue", nobody, force=True)
    assert "cannot be asked" in forced.waits_for[0]
    # cut off between the party file and the keys
    document["ca_certificates"] = [cas(place)[1]]
    place.party_file("alice").write_text(yaml.safe_dump(document))
    assert look(place, "alice", nobody).stage == "issued"
    assert take(place, "alice", "finish", nobody, force=True).stage == "none"
    shown = json.loads(place.pulumi("config", "--show-secrets", "--json", party="alice"))
    assert trust.private_key_digest(shown["consortium:caKey"]["value"]) == trust.key_digest(cas(place)[0])
    assert lint(place.root) == []

    # a CA certificate whose key is nowhere
    document["ca_certificates"] = [cas(place)[0], trust.make_ca("alice", "demo").certificate]
    place.party_file("alice").write_text(yaml.safe_dump(document))
    with pytest.raises(ConsortiumError, match="whose key is not here"):
        look(place, "alice", nobody)


@pytest.mark.pulumi
def test_the_command_says_where_it_stands_what_waits_and_what_is_next(place: Workspace, command: Command) -> None:
    def rotate(*words: str) -> Said:
        return command("--workspace", place.root, "rotate", "ca", *words)

    assert "one CA, none is being replaced" in rotate().out
    said = rotate("begin")
    assert "changed: nextCaKey, party file" in said.out
    assert trust.fingerprint(cas(place)[1]) in said.out
    refused = rotate("issue")
    assert refused.code == EXIT_FAILED
    assert "issue must wait" in refused.err
    assert "broken:" in rotate("issue", "--force").out
    assert rotate("--json").json()["stage"] == "issued"
    assert rotate("begin", "--force").code == EXIT_USAGE
