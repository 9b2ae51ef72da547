"""Documents come from several institutions and by mail: every mistake must be named in one report, none may do harm."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consortium import trust
from consortium.documents import lint, load_consortium, load_model, load_party
from consortium.errors import DocumentErrors
from consortium.yamlfile import YamlFile, parse_yaml
from tests.builders import machine, on_hosts
from tests.consortium import builders


def report(workspace: Path) -> str:
    """Everything `lint` says, and what a program would be refused with."""
    with pytest.raises(DocumentErrors) as caught:
        load_model(workspace, "alice")
    if workspace.joinpath("stacks/Pulumi.alice.yaml").exists():
        assert [str(p) for p in lint(workspace)] == [str(p) for p in caught.value.problems]
    return str(caught.value)


def test_whole_documents_have_no_problem(tmp_path: Path) -> None:
    builders.write(tmp_path)
    assert lint(tmp_path) == []
    model = load_model(tmp_path, "alice")
    assert (model.own.party, list(model.peers)) == ("alice", ["bob"])
    assert model.timeouts.heartbeat_s == 1
    assert model.dataset_paths() == {}


def test_settings_may_come_from_pulumi_in_place_of_the_file(tmp_path: Path) -> None:
    builders.write(tmp_path, stack=None, alice=builders.party("alice", datasets={"a": {}}))
    given_settings = builders.settings(datasets={"a": {"path": "data/a.csv"}})
    model = load_model(tmp_path, "alice", given_settings)
    assert model.dataset_paths() == {"a": tmp_path.resolve() / "data/a.csv"}
    with pytest.raises(DocumentErrors, match="did you mean workers"):
        load_model(tmp_path, "alice", {**given_settings, "worker": 1})


C, P, S = builders.consortium, builders.party, builders.stack


def three(**overrides: Any) -> dict[str, Any]:
    return C(members=["alice", "bob", "carol"], **overrides)


HIDDEN = builders.authority("mallory").certificate.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
"""Envoy reads it; the fingerprint that two people compare does not cover it."""
DENY = {"name": "r", "verdict": "deny"}


def with_policy(**rule: Any) -> dict[str, Any]:
    return with_settings(policy={"rules": [{"name": "r", **rule}]})


HOSTS = on_hosts()


def with_settings(**overrides: Any) -> dict[str, Any]:
    return S(settings=builders.settings(**overrides))


# ruff: noqa: E501 a table is read by columns
WRONG = {
    "type of no column": ({"alice": P("alice", datasets={"a": {"columns": ["id", "age"], "types": {"aged": "int"}}})}, ["alice.yaml:", "a type of a column that the dataset has not", "aged", "id, age", "did you mean age?"]),
    "misspelt field": ({"consortium": {**C(), "slot": 2}}, ["consortium.yaml:", "unknown field slot", "did you mean slots?"]),
    "missing field": ({"consortium": {"name": "demo"}}, ["members is missing", "versions is missing"]),
    "range as version": ({"consortium": C(versions={**builders.VERSIONS, "ray": ">=2.9"})}, ["versions.ray", ">=2.9"]),
    "latest": ({"consortium": C(versions={**builders.VERSIONS, "spu": "latest"})}, ["versions.spu", "no `latest`"]),
    "unquoted version": ({"consortium": C(versions={**builders.VERSIONS, "python": 3.11})}, ["versions.python", '"3.11"']),
    "name no DNS label": ({"consortium": C(name="Demo_1")}, ["name", "Demo_1", "lower-case letters"]),
    "unknown mode": ({"consortium": C(mode="rai")}, ["'ray' or 'kuscia'", "did you mean ray?"]),
    "member twice": ({"consortium": C(members=["alice", "bob", "alice"])}, ["members[2]", "stands twice"]),
    "one member": ({"consortium": C(members=["alice"])}, ["members", "at least 2 entries"]),
    "too many slots": ({"consortium": C(slots=21)}, ["slots", "≤ 20"]),
    "yes is no number": ({"consortium": "slots: yes\n" + yaml.safe_dump(C())}, ["slots", "True"]),
    "timeouts that cannot work": ({"consortium": C(timeouts={"heartbeat_s": 9})}, ["timeouts", "3 × heartbeat_s"]),
    "no number": ({"consortium": C(timeouts={"job_s": float("inf")})}, ["timeouts.job_s", "finite"]),
    "party file missing": ({"bob": None}, ["parties/bob.yaml is missing", "consortium join bob"]),
    "party of nobody": ({"carol": P("carol")}, ["parties/carol.yaml", "no member"]),
    "no member leaves": ({"consortium": C(left=["bbo"])}, ["left[0]", "must be a member", "did you mean bob?"]),
    "a leaver struck off": ({"consortium": C(left=["carol"])}, ["put carol back into members"]),
    "leaves twice": ({"consortium": three(left=["carol", "carol"]), "carol": P("carol")}, ["left[1]", "leaves twice"]),
    "one remains": ({"consortium": C(left=["bob"])}, ["left", "fewer than two members"]),
    "a leaver's file is gone": ({"consortium": three(left=["carol"])}, ["parties/carol.yaml is missing"]),
    "other name in file": ({"bob": P("alice")}, ["parties/bob.yaml", "differ"]),
    "same endpoint": ({"bob": P("bob", gateway=P("alice")["gateway"])}, ["same gateway endpoint", "parties/alice.yaml"]),
    "same CA key": ({"bob": P("bob", ca_certificates=P("alice")["ca_certificates"])}, ["same CA key", "may not vouch for bob"]),
    "same signing key": ({"bob": P("bob", signing_key=P("alice")["signing_key"])}, ["same signing key"]),
    "signing key too short": ({"bob": P("bob", signing_key="AAAA")}, ["signing_key", "32 bytes"]),
    "signing key no base64": ({"bob": P("bob", signing_key="?" * 44)}, ["signing_key", "base64"]),
    "loopback endpoint": ({"bob": P("bob", gateway={"host": "127.0.0.1", "port": 1})}, ["gateway.host", "127.0.0.1"]),
    "no host": ({"bob": P("bob", gateway={"host": "a b", "port": 1})}, ["gateway.host", "host name"]),
    "zone of an address": ({"bob": P("bob", gateway={"host": 'fe80::1%"; x\n', "port": 1})}, ["gateway.host", "peers reach"]),
    "CA under another label": ({"bob": P("bob", ca_certificates=[builders.authority("bob").certificate + HIDDEN])}, ["holds more than one certificate"]),
    "text beside a CA": ({"bob": P("bob", ca_certificates=["x %REQ(:path)%\n" + builders.authority("bob").certificate])}, ["holds more than one certificate"]),
    "port 0": ({"bob": P("bob", gateway={"host": "1.2.3.4", "port": 0})}, ["gateway.port", "≥ 1"]),
    "three CAs": ({"bob": P("bob", ca_certificates=["a", "b", "c"])}, ["ca_certificates", "at most 2"]),
    "no certificate": ({"bob": P("bob", ca_certificates=["nonsense"])}, ["ca_certificates[0]", "not a certificate"]),
    "dataset name": ({"bob": P("bob", datasets={"../x": {}})}, ["this name is not allowed", "../x"]),
    "dataset without path": ({"alice": P("alice", datasets={"a": {}})}, ["has no path", "--dataset a=PATH"]),
    "dataset not published": ({"stack": with_settings(datasets={"a": {"path": "x"}})}, ["not in parties/alice.yaml", "a"]),
    "nested misspelt": ({"stack": with_settings(resources={"head": {"memory": 1}})}, ["settings.resources.head", "did you mean memory_mb?"]),
    "misspelt in a map": ({"stack": with_settings(datasets={"a": {"pth": "x"}})}, ["settings.datasets.a", "did you mean path?"]),
    "misspelt in null or": ({"stack": with_settings(package_mirror={"pipp": None})}, ["settings.package_mirror", "did you mean pip?"]),
    "settings no map in a map": ({"stack": with_settings(gateway=7)}, ["settings.gateway", "7"]),
    "merge as value": ({"bob": "a: <<\n"}, ["not plain YAML"]),
    "ssh without hosts": ({"stack": with_settings(placement="ssh")}, ["settings", "needs the hosts under `ssh`"]),
    "hosts of another placement": ({"stack": with_settings(**{**HOSTS, "placement": "docker"})}, ["hosts under `ssh` are for placement: ssh"]),
    "no SSH key": ({"stack": with_settings(**HOSTS)}, ["consortium:sshKey is missing", "consortium hosts key --party alice"]),
    "SSH key in clear": ({"stack": S(settings=builders.settings(**HOSTS), sshKey="-----BEGIN")}, ["sshKey stands in clear text", "(not shown)"]),
    "fewer hosts than workers": ({"stack": with_settings(**{**HOSTS, "workers": 2})}, ["workers is 2", "names 0 hosts"]),
    "two nodes on a host": ({"stack": with_settings(**on_hosts(ssh={"head": machine("10.0.0.4")}))}, ["same inside address 10.0.0.4", "carries one node"]),
    "no host for the gateway": ({"stack": with_settings(placement="ssh", workers=0, ssh={"head": machine("10.0.0.5")})}, ["ssh.gateway is missing"]),
    "host key cut": ({"stack": with_settings(**on_hosts(ssh={"head": machine("10.0.0.5", host_keys=["ssh-ed25519 AAAA"])}))}, ["ssh.head.host_keys[0]", "ssh-ed25519 AAAA", "cut or changed"]),
    "no host key": ({"stack": with_settings(**on_hosts(ssh={"head": machine("10.0.0.5", host_keys=[])}))}, ["ssh.head.host_keys", "at least 1"]),
    "host name alone": ({"stack": with_settings(**on_hosts(ssh={"head": machine("head.example")}))}, ["ssh.head", "`inside` is needed", "IPv4"]),
    "host that is an option": ({"stack": with_settings(**on_hosts(ssh={"head": machine("-oProxyCommand=x", inside="10.0.0.5")}))}, ["ssh.head.address", "host name"]),
    "data at home": ({"alice": P("alice", datasets={"a": {}}), "stack": with_settings(**HOSTS, datasets={"a": {"path": "/home/x/a.csv"}})}, ["datasets.a.path", "/srv/consortium/a.csv"]),
    "data beside the workspace": ({"alice": P("alice", datasets={"a": {}}), "stack": with_settings(**HOSTS, datasets={"a": {"path": "data/a.csv"}})}, ["datasets.a.path", "an absolute path"]),
    "GPUs of a container": ({"stack": with_settings(resources={"worker": {"memory_mb": 64, "cpus": 1, "gpus": 1}})}, ["gpus", "placement: ssh"]),
    "one port for two": ({"stack": with_settings(operator={"bind": "172.17.0.1", "port": 18443})}, ["172.17.0.1:18443"]),
    "revokes a stranger": ({"stack": with_settings(revoked=["bbo"])}, ["settings.revoked[0]", "only a peer", "did you mean bob?"]),
    "revokes itself": ({"stack": with_settings(revoked=["alice"])}, ["settings.revoked[0]", "only a peer", "other members"]),
    "revokes twice": ({"stack": with_settings(revoked=["bob", "bob"])}, ["settings.revoked[1]", "revoked twice"]),
    "bind no address": ({"stack": with_settings(operator={"bind": "eth0", "port": 1})}, ["operator.bind", "eth0"]),
    "yes to unnamed data": ({"stack": with_policy(verdict="approve")}, ["policy.rules[0]", "must say which datasets"]),
    "no to no data": ({"stack": with_policy(verdict="deny", datasets=[])}, ["fits no job"]),
    "rule on unknown data": ({"stack": with_policy(verdict="deny", datasets=["a"])}, ["rule 'r' names", "a"]),
    "rule on a stranger": ({"stack": with_policy(verdict="deny", initiators=["bbo"])}, ["did you mean bob?"]),
    "rules of one name": ({"stack": with_settings(policy={"rules": [DENY, DENY]})}, ["rules with one name: r"]),
    "clock that is a number": ({"stack": with_policy(**DENY, window={"from": 1080})}, ["policy.rules[0].window.from", "1080"]),
    "window of no time": ({"stack": with_policy(**DENY, window={"from": "24:00"})}, ["is no time"]),
    "unknown zone": ({"stack": with_policy(**DENY, window={"timezone": "Mars"})}, ["must be a time zone", "Mars"]),
    "misspelt in a window": ({"stack": with_policy(**DENY, window={"form": "08:00"})}, ["did you mean from?"]),
    "the former policy": ({"stack": with_settings(policy={"approve": "all"})}, ["settings.policy", "default, rules"]),
    "stack of another": ({"stack": S(party="bob")}, ["another party", "bob"]),
    "secret in clear": ({"stack": S(gatewayKey="hunter2")}, ["consortium:gatewayKey", "clear text"]),
    "unknown stack key": ({"stack": S(setings={})}, ["consortium:setings", "did you mean consortium:settings?"]),
    "stack key missing": ({"stack": S(caKey=None)}, ["consortium:caKey is missing", "consortium join alice"]),
    "stack without config": ({"stack": {"encryptionsalt": "x"}}, ["`config` is missing"]),
    "settings no map": ({"stack": S(settings=[1])}, ["must be a map", "placement"]),
    "empty file": ({"consortium": ""}, ["consortium.yaml", "empty"]),
    "no YAML": ({"bob": "a: [1"}, ["parties/bob.yaml:", "not valid YAML"]),
    "control character": ({"bob": b"a: \x00"}, ["parties/bob.yaml", "not valid YAML"]),
    "not UTF-8": ({"bob": b"\xff\xfe\xfa"}, ["parties/bob.yaml", "not UTF-8"]),
    "duplicate key": ({"bob": "party: bob\nparty: bob\n"}, ["parties/bob.yaml:2", "party stands twice"]),
    "two documents": ({"bob": "a: 1\n---\nb: 2\n"}, ["more than one YAML document"]),
    "python tag": ({"bob": "a: !!python/object/apply:os.system ['true']\n"}, ["a tag is not allowed"]),
    "binary tag": ({"bob": "a: !!binary aGk=\n"}, ["a tag is not allowed"]),
    "alias": ({"bob": "a: &x [1]\nb: *x\n"}, ["an anchor is not allowed", "an alias is not allowed"]),
    "merge key": ({"bob": "<<: {a: 1}\n"}, ["a key must be plain text"]),
    "key a list": ({"bob": "? [a]\n: 1\n"}, ["a key must be plain text"]),
    "jinja in text": ({"bob": P("bob", datasets={"a": {"description": "{{ 7 * 7 }}"}})}, ["template markers", "{{ 7 * 7 }}"]),
    "jinja in key": ({"bob": P("bob", datasets={"{% x %}": {}})}, ["template markers"]),
    "deep": ({"bob": "[" * 500 + "]" * 500}, ["nested more than 20"]),
    "control in description": ({"bob": P("bob", datasets={"a": {"description": "a\x1b[31mb"}})}, ["description"]),
}  # fmt: skip


def test_of_a_party_that_left_only_the_signing_key_counts(tmp_path: Path) -> None:
    """Its endpoint may be another's now and its CA may have run out; its rules in a policy still fit jobs of old."""
    gone = P("carol", gateway=P("bob")["gateway"], ca_certificates=["run out long ago"])
    stack = with_settings(policy={"rules": [{**DENY, "initiators": ["carol"]}]})
    builders.write(tmp_path, consortium=three(left=["carol"]), carol=gone, stack=stack)
    assert lint(tmp_path) == []
    model = load_model(tmp_path, "alice")
    assert list(model.peers) == ["bob"]
    assert model.parties["carol"].signing_key == P("carol")["signing_key"]
    builders.write(tmp_path, consortium=three(), carol=P("carol"))
    assert load_model(tmp_path, "alice").digest() != model.digest()


def test_who_has_left_brings_nothing_up(tmp_path: Path) -> None:
    builders.write(tmp_path, consortium=three(left=["carol"]), carol=P("carol"))
    with pytest.raises(DocumentErrors, match="this institution has left the consortium") as caught:
        load_model(tmp_path, "carol", builders.settings())
    assert "consortium down" in str(caught.value)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_document_is_named_with_field_value_and_fix(case: str, tmp_path: Path) -> None:
    documents, said = WRONG[case]
    text = report(builders.write(tmp_path, **documents))
    for words in said:
        assert words in text


def test_all_problems_of_all_documents_come_in_one_report(tmp_path: Path) -> None:
    builders.write(
        tmp_path, consortium=C(slots=0), alice=P("alice", extra=1), bob="a: [", stack=with_settings(workers=-1)
    )
    text = report(tmp_path)
    for words in ("slots", "unknown field extra", "parties/bob.yaml", "settings.workers"):
        assert words in text
    assert text.startswith("4 errors")


def test_the_line_of_a_field_is_named(tmp_path: Path) -> None:
    builders.write(tmp_path, consortium="# one\n" + yaml.safe_dump(C(slots=99), sort_keys=False))
    line = (tmp_path / "consortium.yaml").read_text().splitlines().index("slots: 99") + 1
    assert f"consortium.yaml:{line}: slots" in report(tmp_path)


def test_secrets_never_stand_in_a_message(tmp_path: Path) -> None:
    key = trust.make_signing_key().private
    builders.write(
        tmp_path,
        stack=S(caKey="hunter2", settings=builders.settings(engine=f"{key}", operatorToken="hunter2")),
        bob=P("bob", ca_certificates=[key]),
    )
    text = report(tmp_path)
    assert "hunter2" not in text
    assert "MC4C" not in text  # how every ed25519 key in PKCS8 begins
    assert "holds a private key" in text


def test_a_party_that_is_no_member_gets_a_suggestion(tmp_path: Path) -> None:
    builders.write(tmp_path)
    with pytest.raises(DocumentErrors, match="did you mean alice"):
        load_model(tmp_path, "alise", builders.settings())


def test_ca_expired_or_not_yet_valid(tmp_path: Path) -> None:
    old = trust.make_ca("bob", "demo", now=datetime.now(UTC) - timedelta(days=4000))
    new = trust.make_ca("bob", "demo", now=datetime.now(UTC) + timedelta(days=9))
    text = report(builders.write(tmp_path, bob=P("bob", ca_certificates=[old.certificate, new.certificate])))
    assert "expired on" in text
    assert "not valid before" in text


def test_two_cas_of_one_party_may_have_one_key_during_an_overlap(tmp_path: Path) -> None:
    ca = builders.authority("bob")
    again = trust.make_ca("bob", "demo", key=ca.key)
    builders.write(tmp_path, bob=P("bob", ca_certificates=[ca.certificate, again.certificate]))
    assert lint(tmp_path) == []


def test_a_gateway_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    other = trust.issue_gateway(trust.make_ca("alice", "demo"), "alice", "demo").certificate
    text = report(builders.write(tmp_path, stack=S(gatewayCertificate=other)))
    assert "not issued by a CA of the party file" in text
    assert "consortium rotate certificate" in text


def test_huge_files_links_and_devices_are_not_read(tmp_path: Path) -> None:
    builders.write(tmp_path, bob="a: " + "x" * 1_000_001)
    assert "too large" in report(tmp_path)
    bob = tmp_path / "parties/bob.yaml"
    bob.unlink()
    secret = tmp_path / "secret"
    secret.write_text("party: hunter2")
    bob.symlink_to(secret)
    text = report(tmp_path)
    assert "cannot be read" in text
    assert "hunter2" not in text
    bob.unlink()
    os.mkfifo(bob)
    assert "not a regular file" in report(tmp_path)


def test_a_party_file_with_the_wrong_ending_is_not_overlooked(tmp_path: Path) -> None:
    builders.write(tmp_path, bob=None)
    (tmp_path / "parties/bob.yml").write_text(yaml.safe_dump(P("bob")))
    assert "rename it to bob.yaml" in report(tmp_path)


def test_a_clone_without_a_stack_is_fine_to_lint_but_not_to_run(tmp_path: Path) -> None:
    builders.write(tmp_path, stack=None)
    assert lint(tmp_path) == []
    assert "the stack file is missing" in report(tmp_path)


def test_documents_alone(tmp_path: Path) -> None:
    builders.write(tmp_path, bob="x: 1")
    assert load_consortium(tmp_path).name == "demo"
    assert load_party(tmp_path, "alice").party == "alice"
    with pytest.raises(DocumentErrors, match="unknown field x"):
        load_party(tmp_path, "bob")
    (tmp_path / "consortium.yaml").unlink()
    with pytest.raises(DocumentErrors, match="missing"):
        load_consortium(tmp_path)


def test_digest_is_the_same_for_all_members_and_changes_with_any_public_value(tmp_path: Path) -> None:
    whole = load_model(builders.write(tmp_path / "a"), "alice").digest()
    other_order = dict(reversed(C(slots=2, mode="ray").items()))
    same = builders.write(tmp_path / "b", consortium="# comment\n" + yaml.safe_dump(other_order, sort_keys=False))
    assert load_model(same, "alice").digest() == whole
    assert load_model(same, "bob", builders.settings()).digest() == whole
    changed = builders.write(tmp_path / "c", bob=P("bob", datasets={"a": {}}))
    assert load_model(changed, "alice").digest() != whole


TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(st.binary(max_size=2000) | TEXT.map(str.encode))
def test_no_bytes_crash_the_parser(content: bytes) -> None:
    parse_yaml(content, YamlFile("parties/bob.yaml"))


@given(
    st.sampled_from(
        ["'\\ud800'", '"\\ud800"', "9" * 5000, "1e9999", ".nan", "0x" + "f" * 5000, "2024-13-77", "0b2", "=", "~"]
    )
)
@anywhere
def test_odd_scalars_are_at_most_a_problem(tmp_path: Path, scalar: str) -> None:
    builders.write(tmp_path, consortium=f"name: {scalar}\nslots: {scalar}\n")
    report(tmp_path)


@given(document=VALUES, field=st.sampled_from(["", *builders.party("bob")]))
@anywhere
def test_any_party_file_is_a_model_or_a_report(tmp_path: Path, document: Any, field: str) -> None:
    whole = {**P("bob"), field: document} if field else document
    builders.write(tmp_path, bob=yaml.safe_dump(whole, allow_unicode=True))
    try:
        load_model(tmp_path, "alice")
    except DocumentErrors as errors:
        assert errors.problems
        assert str(errors).isprintable() or "\n" in str(errors)
