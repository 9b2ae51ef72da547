"""Edits the plain part of stacks/Pulumi.<party>.yaml. Secrets in it are written by Pulumi alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from consortium import files
from consortium.documents import NAMESPACE
from consortium.errors import DocumentErrors, Problem
from consortium.yamlfile import read_yaml


class StackFile:
    """One stack file. Comments are lost in a file that is changed here; an unchanged one is not touched."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def config(self) -> dict[str, Any]:
        """The `consortium:` entries without their prefix. Raises DocumentErrors if the file is damaged."""
        prefix = f"{NAMESPACE}:"
        config = self._read().get("config", {})
        return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}

    def has_secret(self, key: str) -> bool:
        """Whether an encrypted value stands there."""
        value = self.config().get(key)
        return isinstance(value, dict) and "secure" in value

    def update(self, **values: Any) -> bool:
        """Set plain entries, or remove those that are None. Returns whether the file changed."""
        document = self._read()
        before = yaml.safe_dump(document, sort_keys=False)
        config = document.setdefault("config", {})
        for key, value in values.items():
            if value is None:
                config.pop(f"{NAMESPACE}:{key}", None)
            else:
                config[f"{NAMESPACE}:{key}"] = value
        after = dump(document)
        return before != yaml.safe_dump(document, sort_keys=False) and files.write(self._path, after)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        file = read_yaml(self._path, f"stacks/{self._path.name}")
        if not file.problems and not isinstance(file.data, dict | None):
            file.problems.append(Problem("must be a map of fields", where=file.name))
        if not file.problems and file.data and not isinstance(file.data.get("config", {}), dict):
            file.problems.append(Problem("`config` must be a map", where=file.where(("config",))))
        if file.problems:
            raise DocumentErrors(file.problems)
        return file.data or {}


class _Dumper(yaml.SafeDumper):
    """Writes PEM texts as blocks, the way a person would."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(document: Any) -> str:
    """YAML in the order given, without aliases, long texts as blocks."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
