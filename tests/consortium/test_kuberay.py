"""The Kubernetes objects of an institution, against KubeRay's own schema and what they must keep apart."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from consortium.errors import UsageError
from consortium.kuberay import objects, secret_objects
from tests import builders

SCHEMA = Path(__file__).parent / "kuberay" / "raycluster-v1.json.gz"
IMAGE = "registry.example/consortium-node@sha256:" + "a" * 64


def closed(schema: Any) -> Any:
    """Kubernetes drops unknown fields silently; here they are errors. An int-or-string is either."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found = closed(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    found["properties"]["metadata"] = {"type": "object"}
    return dict(found)


@pytest.fixture(scope="module", params=[0, 3])
def made(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return objects(builders.model(slots=2, settings={"workers": request.param}), builders.secrets(), IMAGE)


def of(made: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    return next(o for o in made if o["kind"] == kind and o["metadata"]["name"].endswith(name))


def templates(made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Role → pod template."""
    cluster = of(made, "RayCluster")["spec"]
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    pods = [group["template"] for group in groups] + [of(made, "Deployment")["spec"]["template"]]
    return {pod["metadata"]["labels"]["consortium.role"]: pod for pod in pods}


def test_kuberay_accepts_the_cluster(made: list[dict[str, Any]], schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(of(made, "RayCluster"))


def test_the_schema_finds_a_misspelt_field(made: list[dict[str, Any]], schema: dict[str, Any]) -> None:
    wrong = json.loads(json.dumps(of(made, "RayCluster")))
    wrong["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(jsonschema.ValidationError, match="volumeMount"):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_every_pod_of_the_deployment_is_a_pod_to_kuberay_too(
    made: list[dict[str, Any]], schema: dict[str, Any]
) -> None:
    pod = schema["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]
    jsonschema.Draft202012Validator(pod).validate(of(made, "Deployment")["spec"]["template"])


def test_replicas_are_the_workers(made: list[dict[str, Any]]) -> None:
    groups = of(made, "RayCluster")["spec"].get("workerGroupSpecs", [])
    assert [group["replicas"] for group in groups] in ([], [3])


def test_nothing_secret_stands_in_the_objects(made: list[dict[str, Any]]) -> None:
    text, secrets = json.dumps(made), builders.secrets()
    assert not any(o["kind"] == "Secret" for o in made)
    for value in (secrets.operator_token, secrets.gateway_token, "PRIVATE KEY"):
        assert value not in text


def test_a_program_does_not_see_the_coordinators_secrets(made: list[dict[str, Any]]) -> None:
    for role, pod in templates(made).items():
        for container in pod["spec"]["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert ("secrets" in mounted) == (container["name"] in ("coordinator", "gateway")), (
                role,
                container["name"],
            )
            assert container["image"] == IMAGE
            assert container["securityContext"]["runAsNonRoot"] is True
            assert container["livenessProbe"]["tcpSocket"]["port"]


def test_every_mounted_file_and_volume_is_there(made: list[dict[str, Any]]) -> None:
    secrets = secret_objects(builders.model(slots=2), builders.secrets())
    there = {
        (o["kind"], o["metadata"]["name"]): {**o.get("data", {}), **o.get("stringData", {})} for o in [*made, *secrets]
    }
    for pod in templates(made).values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            config = volumes["secrets" if container["name"] != "ray" else "config"]["projected"]["sources"]
            paths = {item["path"] for source in config for part in source.values() for item in part["items"]}
            assert container["command"][0].removeprefix("/etc/consortium/") in paths
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
                # The data is the institution's own: it is not made here.
                assert claim == "alice-data" or ("PersistentVolumeClaim", claim) in there
            for source in volume.get("projected", {}).get("sources", []):
                for kind, part in source.items():
                    keys = there[{"configMap": "ConfigMap", "secret": "Secret"}[kind], part["name"]]
                    assert {item["key"] for item in part["items"]} == set(keys)


def test_only_the_gateway_reaches_the_outside(made: list[dict[str, Any]]) -> None:
    policies = {o["metadata"]["name"]: o["spec"] for o in made if o["kind"] == "NetworkPolicy"}
    assert set(policies) == {"alice-inside", "alice-gateway"}
    assert {} in policies["alice-gateway"]["egress"]
    assert policies["alice-gateway"]["podSelector"]["matchLabels"]["consortium.role"] == "gateway"
    own = policies["alice-inside"]["podSelector"]["matchLabels"]
    assert policies["alice-inside"]["egress"][0] == {"to": [{"podSelector": {"matchLabels": own}}]}
    assert [set(rule) for rule in policies["alice-inside"]["egress"][1:]] == [{"ports"}]


def test_names_are_those_that_the_files_use(made: list[dict[str, Any]]) -> None:
    config = json.loads(of(made, "ConfigMap", "-head")["data"]["coordinator.json"])
    names = {o["metadata"]["name"] for o in made if o["kind"] == "Service"}
    assert {config["ray"]["address"].split(":")[0], config["own"] and "alice-gateway"} <= names


def test_a_changed_file_makes_the_pod_anew() -> None:
    first, second = (
        templates(objects(builders.model(settings={"limits": {"open_jobs": n}}), builders.secrets(), IMAGE))
        for n in (1, 2)
    )
    digests = [pods["head"]["metadata"]["annotations"]["consortium.files"] for pods in (first, second)]
    assert digests[0] != digests[1]


def test_objects_survive_yaml(made: list[dict[str, Any]]) -> None:
    assert list(yaml.safe_load_all(yaml.safe_dump_all(made))) == made


@pytest.mark.parametrize("image", ["consortium-node:1", "registry.example/node@sha256:abc"])
def test_a_tag_is_refused(image: str) -> None:
    from consortium.cli.kuberay import kuberay

    with pytest.raises(UsageError, match="by its digest"):
        kuberay(image=image)


def test_launchers_start_as_a_pods_user(made: list[dict[str, Any]], tmp_path: Path) -> None:
    for name in ("head", "gateway"):
        for key, text in of(made, "ConfigMap", f"-{name}")["data"].items():
            if key.startswith("services."):
                script = tmp_path / key
                script.write_text(text)
                assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
                assert "id -u" in text
