"""argument_specs.yml only documents a default; the value is in defaults/main.yml. Both must say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
NAMES = sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) or {}


def entries(role: str) -> dict[str, Any]:
    return dict(load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"])


def options(role: str) -> dict[str, Any]:
    return {name: option for entry in entries(role).values() for name, option in (entry.get("options") or {}).items()}


def test_there_is_a_role_for_each_part_of_a_node() -> None:
    assert NAMES == ["base", "coordinator", "gateway", "host", "kuscia", "ray", "secretflow"]


def registered(role: str) -> set[str]:
    """What a role's own tasks register or set."""
    texts = [path.read_text() for path in (ROLES / role / "tasks").glob("*.yml")]
    return {name for text in texts for name in re.findall(rf"(?:register: |^    )({role}_\w+)", text, re.M)}


@pytest.mark.parametrize("role", NAMES)
def test_defaults_agree_with_the_specs(role: str) -> None:
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert load(ROLES / role / "defaults" / "main.yml") == documented


@pytest.mark.parametrize("role", NAMES)
def test_every_option_is_described_and_carries_the_roles_name(role: str) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role}_"), name
        assert option["description"].strip(), name
        assert option.get("required") or "default" in option, f"{name}: neither required nor with a default"


@pytest.mark.parametrize("role", NAMES)
def test_every_entry_is_a_task_file(role: str) -> None:
    for entry in entries(role):
        assert (ROLES / role / "tasks" / f"{entry}.yml").is_file()


@pytest.mark.parametrize("role", NAMES)
def test_every_variable_a_role_uses_is_known(role: str) -> None:
    """A misspelt variable would otherwise show only on a node."""
    known = set(options(role)) | {"base_laid", "base_service_definitions", "base_venv_laid", "base_venv_there"}
    if role == "base":
        # of `service`, which has no entry; see the head of the specs
        known |= {"base_service_name", "base_service_reload", "base_reloaded"}
    if role == "kuscia":
        known |= registered(role)
    if role == "host":
        # registered or set by its own tasks, or given by consortium/reach.py to every host
        known |= registered(role) | {"host_uv", "host_ca_bundle", "host_architecture"}
    for path in (ROLES / role / "tasks").glob("*.yml"):
        for expression in re.findall(r"\{\{(.*?)\}\}", path.read_text(), re.S):
            used = set(re.findall(rf"\b{role}_\w+", expression))
            assert used <= known, f"{path.name}: {sorted(used - known)}"


def test_the_readme_names_every_variable_of_an_up() -> None:
    text = (ROLES / "README.md").read_text()
    for name in ("base_files", "base_service_manager", "bake_environment", "bake_strip", "coordinator_archive"):
        assert f"`{name}`" in text
    for option in entries("base")["configure"]["options"]["base_files"]["options"]:
        assert option in text
