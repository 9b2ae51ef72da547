"""Every property of the SDK is served or refused, and the document says the same as the code."""

from __future__ import annotations

import typing
from typing import Any

import pulumi._types as sdk_types
import pulumi_docker as docker
import pytest

from airgap.pulumi_resource_docker.container import Container
from airgap.pulumi_resource_docker.network import Network
from airgap.pulumi_resource_docker.provider import check_config
from airgap.pulumi_resource_docker.table import On, Prop, Shape, Table
from airgap.pulumi_resource_docker.tables import DOCUMENT, TABLES, document
from airgap.pulumi_resource_docker.wire import UNKNOWN


def nested(hint: Any) -> type | None:
    """The SDK's input class inside a type, if there is one."""
    if isinstance(hint, type) and sdk_types.is_input_type(hint):
        return hint
    return next(filter(None, map(nested, typing.get_args(hint))), None)


def shape(hint: Any) -> set[Shape]:
    """What the SDK's type allows."""
    plain = {str: Shape.TEXT, bool: Shape.FLAG, int: Shape.WHOLE}
    if hint in plain:
        return {plain[hint]}
    text = str(hint)
    if "Mapping" in text:
        return {Shape.MAP}
    if "Sequence" in text:
        return {Shape.OBJECTS if nested(hint) else Shape.TEXTS}
    return {Shape.OBJECT, Shape.TEXT}  # a nested class, or an enum of strings


def compare(args: type, table: Table, where: str) -> list[str]:
    """What the table lacks, has too much, or has with another shape."""
    theirs = sdk_types.input_type_types(args)
    problems = [f"{where}: {name} is missing" for name in theirs.keys() - table.keys()]
    problems += [f"{where}: {name} is not in the SDK" for name in table.keys() - theirs.keys()]
    for name in theirs.keys() & table.keys():
        prop, hint = table[name], theirs[name]
        if prop.shape not in shape(hint):
            problems.append(f"{where}.{name}: {prop.shape} for {hint}")
        inner = nested(hint)
        if inner and prop.on is not On.REFUSE:
            problems += compare(inner, prop.fields, f"{where}.{name}")
    return problems


@pytest.mark.parametrize("name", TABLES)
def test_the_table_has_every_property_of_the_sdk(name: str) -> None:
    """Nested classes included; a property that is not in a table is refused, not ignored."""
    assert compare(getattr(docker, f"{name}Args"), TABLES[name], name) == []


def everything() -> list[Any]:
    """All properties of all tables."""
    found: list[Any] = []

    def add(table: Table, where: str) -> None:
        for key, prop in table.items():
            found.append(pytest.param(prop, id=f"{where}.{key}"))
            add(prop.fields, f"{where}.{key}")

    for name, table in TABLES.items():
        add(table, name)
    return found


@pytest.mark.parametrize("prop", everything())
def test_a_property_goes_somewhere(prop: Prop) -> None:
    """A top-level one is put into a request or says what becomes of it; a refused one, what to do."""
    if prop.on is On.REFUSE:
        assert prop.note and not prop.puts


def test_top_level_properties_say_what_becomes_of_them() -> None:
    """Otherwise one could be declared and then forgotten."""
    silent = [
        f"{name}.{key}"
        for name, table in TABLES.items()
        for key, prop in table.items()
        if not prop.puts and not prop.note
    ]
    assert silent == []


def test_the_document_is_up_to_date() -> None:
    """Run ``python -m airgap.pulumi_resource_docker.tables`` when it is not."""
    text = DOCUMENT.read_text()
    assert text == document(text)


def reasons(inputs: dict[str, Any]) -> dict[str, str]:
    """Failures of a container's check."""
    return dict(Container().check({"image": "i", "name": "n", **inputs}))


def test_checks_name_the_nested_property() -> None:
    """Paths are as in a program, and everything is told at once."""
    found = reasons(
        {
            "ports": [{"internal": "80"}, {"external": 1}],
            "healthcheck": {"interval": "1 minute"},
            "networksAdvanced": [{"name": "n", "macAddress": "m"}],
            "colour": "red",
            "cpus": "1",
            "cpuQuota": 1,
        }
    )
    assert found["ports[0].internal"] == "= '80' must be a whole number"
    assert found["ports[1].internal"] == "is required"
    assert found["healthcheck.tests"] == "is required"
    assert "duration" in found["healthcheck.interval"]
    assert "leave it out" in found["networksAdvanced[0].macAddress"]
    assert "not a property" in found["colour"]
    assert "two ways" in found["cpus"]


def test_checks_do_not_show_what_may_be_secret() -> None:
    """Messages reach logs."""
    assert "hunter2" not in str(reasons({"envs": ["hunter2"]}))
    assert "hunter2" not in str(reasons({"envs": "hunter2"}))
    assert "hunter2" not in str(reasons({"uploads": [{"file": "f", "content": ["hunter2"]}]}))
    assert "hunter2" not in str(check_config({"keyMaterial": "hunter2"}))
    assert "hunter2" not in str(check_config({"registryAuth": '[{"password": "hunter2"}]'}))


def test_unknown_values_pass() -> None:
    """In a preview nobody can know yet."""
    assert reasons({"memory": UNKNOWN, "ports": UNKNOWN, "envs": [UNKNOWN], "volumes": [UNKNOWN]}) == {}
    assert Network().check({"name": UNKNOWN, "labels": [UNKNOWN]}) == []


def test_provider_configuration() -> None:
    """What is not a string comes as JSON; values that ask for nothing are no failure."""
    assert check_config({"host": "tcp://h:2376", "certPath": "/c", "version": "5.2.0"}) == []
    assert check_config({"disableDockerDaemonCheck": "true", "registryAuth": "[]"}) == []
    assert check_config({"host": "ssh://h"}) == []
    assert "unix://" in str(check_config({"host": "npipe://h"}))
    assert "host" in str(check_config({"context": "remote"}))
