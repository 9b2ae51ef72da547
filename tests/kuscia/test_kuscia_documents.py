"""`mode: kuscia` in a workspace's documents: what it asks for, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consortium.documents import lint, load_consortium, load_model
from consortium.errors import DocumentErrors
from tests.builders import machine, on_hosts
from tests.consortium import builders
from tests.kuscia.kuscia_builders import DIGEST, ENGINE, domain

NODE = {"image": f"registry.example/kuscia@{DIGEST}", "engine": ENGINE}
DATABASE = {"host": "db.example", "database": "kuscia", "user": "node"}
REGISTRY = {"endpoint": "registry.example", "username": "node"}


def party(name: str, **overrides: Any) -> dict[str, Any]:
    return builders.party(name, **{"kuscia": {"certificate": domain(name).certificate}, **overrides})


def stack(*, without: str = "", **settings: Any) -> dict[str, Any]:
    secrets = {key: builders.SECRET for key in ("kusciaKey", "kusciaClientKey") if key != without}
    return builders.stack(settings=builders.settings(**{"kuscia": NODE, **settings}), **secrets)


def write(folder: Path, **documents: Any) -> Path:
    whole = {
        "consortium": builders.consortium(mode="kuscia"),
        "alice": party("alice"),
        "bob": party("bob"),
        "stack": stack(),
    }
    return builders.write(folder, **{**whole, **documents})


def test_whole_documents_have_no_problem(tmp_path: Path) -> None:
    write(tmp_path)
    assert lint(tmp_path) == []
    model = load_model(tmp_path, "alice")
    assert model.settings.kuscia is not None
    assert model.settings.kuscia.image == NODE["image"]
    assert model.parties["bob"].kuscia is not None


WITH_KEY = domain("bob").certificate + "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"
ONE_HOST = {"placement": "ssh", "ssh": {"head": machine("10.0.0.5")}}
RAY = {"address": "ray.example:6379", "jobs_url": "http://ray.example:8265", "network": "ray"}
# ruff: noqa: E501 a table is read by columns
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Kuscia's own name": ({"consortium": builders.consortium(mode="kuscia", members=["alice", "bob", "master"])}, ["members[2]", "keeps this name", "master"]),
    "no certificate": ({"bob": builders.party("bob")}, ["parties/bob.yaml", "certificate of the Kuscia node is missing", "consortium join bob"]),
    "not a certificate": ({"bob": party("bob", kuscia={"certificate": "x"})}, ["kuscia.certificate", "is not a certificate in PEM"]),
    "a key of another kind": ({"bob": party("bob", kuscia={"certificate": builders.authority("bob").certificate})}, ["has no RSA key"]),
    "two certificates": ({"bob": party("bob", kuscia={"certificate": domain("bob").certificate * 2})}, ["holds 2 certificates"]),
    "a private key": ({"bob": party("bob", kuscia={"certificate": WITH_KEY})}, ["holds a private key", "(not shown)"]),
    "another's key": ({"bob": party("bob", kuscia={"certificate": domain("alice").certificate})}, ["same key of a Kuscia node", "parties/alice.yaml"]),
    "IPv6": ({"bob": party("bob", gateway={"host": "2001:db8::1", "port": 8443})}, ["gateway.host", "a name or an IPv4 address"]),
    "one dataset for two": ({"bob": party("bob", datasets={"a_b": {}, "a-b": {}})}, ["datasets.a-b", "two datasets would be one", "a_b, a-b"]),
    "no settings": ({"stack": stack(kuscia=None)}, ["settings of the Kuscia node are missing", "docs/kuscia.md"]),
    "image by tag": ({"stack": stack(kuscia={**NODE, "image": "kuscia:latest"})}, ["settings.kuscia.image", "kuscia:latest", "sha256"]),
    "misspelt setting": ({"stack": stack(kuscia={**NODE, "runtim": "runp"})}, ["unknown field runtim", "did you mean runtime?"]),
    "Ray's cluster": ({"stack": stack(ray=RAY, workers=0)}, ["settings.ray", "take `ray` out"]),
    "no key": ({"stack": stack(without="kusciaKey")}, ["consortium:kusciaKey is missing", "consortium join alice"]),
    "no client key": ({"stack": stack(without="kusciaClientKey")}, ["consortium:kusciaClientKey is missing"]),
    "no database password": ({"stack": stack(kuscia={**NODE, "database": DATABASE})}, ["consortium:kusciaDatabasePassword is missing", "consortium kuscia password database --party alice"]),
    "no registry password": ({"stack": stack(kuscia={**NODE, "registry": REGISTRY})}, ["consortium:kusciaRegistryPassword is missing", "consortium kuscia password registry"]),
    "no password of the database that is made": ({"stack": stack(kuscia={**NODE, "mariadb": {"image": NODE["image"]}})}, ["consortium:kusciaDatabasePassword is missing", "consortium join alice"]),
    "a database on hosts": ({"stack": stack(kuscia={**NODE, "mariadb": {"image": NODE["image"]}}, **ONE_HOST)}, ["settings.kuscia.mariadb", "in a container only"]),
    "a gateway's host": ({"stack": stack(**on_hosts())}, ["with `kuscia` there is one host", "take ssh.gateway"]),
    "archive without id": ({"stack": stack(kuscia={**NODE, "archive": "x.tar"})}, ["settings.kuscia", "`archive` needs `image_id`"]),
    "password in clear": ({"stack": builders.stack(kusciaRegistryPassword="hunter2")}, ["kusciaRegistryPassword stands in clear text"]),
    "settings of another mode": ({"consortium": builders.consortium()}, ["settings.kuscia", "which this consortium has not", "mode: ray"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_document_is_named_with_place_and_fix(case: str, tmp_path: Path) -> None:
    documents, said = WRONG[case]
    write(tmp_path, **documents)
    text = "\n".join(str(problem) for problem in lint(tmp_path))
    for words in said:
        assert words in text
    assert "hunter2" not in text
    with pytest.raises(DocumentErrors):
        load_model(tmp_path, "alice")


def test_ray_mode_asks_for_none_of_it_and_minds_no_certificate(tmp_path: Path) -> None:
    """A consortium changes its mode in one step: what only one mode needs may stand there before."""
    write(tmp_path, consortium=builders.consortium(), stack=builders.stack(kusciaKey=builders.SECRET))
    assert lint(tmp_path) == []


def test_of_a_party_that_left_nothing_is_asked(tmp_path: Path) -> None:
    members = builders.consortium(mode="kuscia", members=["alice", "bob", "carol"], left=["carol"])
    write(tmp_path, consortium=members, carol=builders.party("carol"))
    assert lint(tmp_path) == []


def test_a_reserved_name_is_refused_before_any_party_is_there(tmp_path: Path) -> None:
    write(tmp_path, consortium=builders.consortium(mode="kuscia", members=["alice", "master"]))
    with pytest.raises(DocumentErrors, match="Kuscia keeps this name"):
        load_consortium(tmp_path)


def test_a_certificate_counts_in_the_digest_and_its_absence_does_not(tmp_path: Path) -> None:
    """Members with an older version of this program hold the same digest of the same files."""
    without = load_model(builders.write(tmp_path / "a"), "alice")
    assert "kuscia" not in without.parties["bob"].model_dump(mode="json", exclude_none=True)
    with_one = load_model(builders.write(tmp_path / "b", bob=party("bob")), "alice")
    assert with_one.digest() != without.digest()
