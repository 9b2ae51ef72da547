"""Settings, keys and models of Kuscia for tests, each test changing the one thing it is about."""

from __future__ import annotations

import functools
from typing import Any

from consortium.kuscia import keys
from consortium.kuscia.manifests import manifests, secret_object
from consortium.kuscia.node_config import NodeSecrets, kuscia_yaml
from consortium.kuscia.objects import objects
from consortium.kuscia.settings import KusciaSettings
from consortium.spec import Model
from tests import builders

Object = dict[str, Any]

DIGEST = "sha256:" + "a" * 64
ENGINE = {"name": "registry.example/secretflow-lite", "tag": "1.11.0b1", "id": DIGEST}


@functools.cache
def domain(party: str) -> keys.Domain:
    """One key per party and run: making it is slow."""
    return keys.make_domain(party)


def settings(**overrides: Any) -> KusciaSettings:
    return KusciaSettings.model_validate(
        {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE, "cluster_dns": "10.96.0.10", **overrides}
    )


def runk(**overrides: Any) -> KusciaSettings:
    """Tasks as pods."""
    tasks = {"namespace": "alice-tasks", "dns_servers": ["10.96.0.20"]}
    return settings(runtime="runk", runk=tasks, capacity={"cpu": "4", "memory": "8Gi"}, **overrides)


def secrets(party: str = "alice", **overrides: str) -> NodeSecrets:
    return NodeSecrets(domain(party), **overrides)


def model(*names: str) -> Model:
    """Alice, with a dataset, and her peers."""
    columns = {"customers": {"description": "customers", "columns": ["id", "age"]}}
    members = names or ("alice", "bob")
    return builders.model(
        *members,
        parties={members[0]: {"datasets": columns}},
        settings={"datasets": {"customers": {"path": "customers.csv"}}},
    )


def certificates(model: Model) -> dict[str, str]:
    return {name: domain(name).certificate for name in model.peers}


def own(*names: str) -> list[Object]:
    """Kuscia's objects of an institution."""
    found = model(*names)
    return objects(found, settings(), certificates(found))


def node(given: KusciaSettings) -> list[Object]:
    """A node as Kubernetes objects, its secret first."""
    config = kuscia_yaml(given, secrets())
    return [secret_object(model(), config), *manifests(model(), given, config)]


def of(found: list[Object], kind: str, name: str) -> Object:
    return next(o for o in found if (o["kind"], o["metadata"]["name"]) == (kind, name))
