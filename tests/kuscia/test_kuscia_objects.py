"""What the objects of an institution and of its node say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from consortium.errors import UsageError
from consortium.kuscia.objects import ENGINE_PORTS, dataset, objects
from consortium.kuscia.settings import KusciaSettings
from consortium.spec import Dataset
from tests.kuscia.kuscia_builders import model, node, of, own, runk, settings


def test_a_route_leads_to_the_peers_door_with_tls_and_the_way_in_is_left_to_kuscia() -> None:
    found = own()
    there = of(found, "ClusterDomainRoute", "alice-bob")
    assert [o["metadata"]["name"] for o in found if o["kind"] == "ClusterDomainRoute"] == ["alice-bob"]
    assert there["spec"]["endpoint"] == {
        "host": "gateway.bob.example",
        "ports": [{"name": "http", "protocol": "HTTP", "isTLS": True, "port": 8443}],
    }
    assert there["spec"]["tokenConfig"]["tokenGenMethod"] == "RSA-GEN"
    # What Kuscia makes it of.
    assert of(found, "Domain", "bob")["spec"]["authCenter"] == {
        "authenticationType": "Token",
        "tokenGenMethod": "RSA-GEN",
    }


def test_a_peer_whose_certificate_is_missing_is_not_made_up() -> None:
    with pytest.raises(KeyError):
        objects(model(), settings(), {})


def test_the_engine_is_named_by_its_id_and_has_the_ports_of_its_adapter() -> None:
    spec = of(own(), "AppImage", "secretflow-image")["spec"]
    assert spec["image"]["id"] == settings().engine.id
    (container,) = spec["deployTemplates"][0]["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == [name for name, _, _ in ENGINE_PORTS]
    assert json.loads(spec["configTemplates"]["task-config.conf"])["allocated_ports"] == "{{.ALLOCATED_PORTS}}"


def test_data_are_granted_to_every_peer_and_to_nobody_else() -> None:
    grants = [o["spec"] for o in own("alice", "bob", "carol") if o["kind"] == "DomainDataGrant"]
    assert [(g["domainDataID"], g["grantDomain"]) for g in grants] == [("customers", "bob"), ("customers", "carol")]


def test_a_column_without_a_type_is_text() -> None:
    public = Dataset(columns=("id", "age", "risk"), types={"age": "int", "risk": "float"})
    columns = dataset("alice", "customers", public)["spec"]["columns"]
    assert {c["name"]: c["type"] for c in columns} == {"id": "str", "age": "int", "risk": "float"}


def test_the_key_stands_in_the_secret_alone() -> None:
    secret, *others = node(settings())
    key = yaml.safe_load(secret["stringData"]["kuscia.yaml"])["domainKeyData"]
    assert key not in json.dumps(others)


def test_only_the_peers_port_is_open_to_all() -> None:
    found = node(settings())
    open_to_all = [
        rule["ports"] for rule in of(found, "NetworkPolicy", "alice-kuscia")["spec"]["ingress"] if "from" not in rule
    ]
    assert open_to_all == [[{"protocol": "TCP", "port": 1080}]]
    outside = [o["spec"]["ports"] for o in found if o["kind"] == "Service" and o["spec"]["type"] == "LoadBalancer"]
    assert [[port["targetPort"] for port in ports] for ports in outside] == [[1080]]


def test_a_pod_has_no_rights_but_for_tasks_that_are_pods() -> None:
    plain, tasks = (
        of(node(given), "Deployment", "alice-kuscia")["spec"]["template"]["spec"] for given in (settings(), runk())
    )
    assert plain["automountServiceAccountToken"] is False
    assert tasks["serviceAccountName"] == "alice-kuscia"
    assert not [o for o in node(settings()) if o["kind"].startswith("Role")]


def test_every_volume_that_is_mounted_is_there() -> None:
    pod = of(node(settings()), "Deployment", "alice-kuscia")["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes


def test_a_changed_file_makes_the_pod_anew() -> None:
    def digest(given: KusciaSettings) -> str:
        template = of(node(given), "Deployment", "alice-kuscia")["spec"]["template"]
        return str(template["metadata"]["annotations"]["consortium.files"])

    assert digest(settings()) == digest(settings()) != digest(settings(log_level="WARN"))


@pytest.mark.parametrize(("given", "says"), [({"runtime": "runc"}, "privileged"), ({"cluster_dns": None}, "names")])
def test_what_no_pod_can_be_made_of_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        node(settings(**given))
