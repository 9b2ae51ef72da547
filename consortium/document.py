"""A document that was read: its file, with whatever is wrong in it, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from consortium.settings import StackSettings
from consortium.spec import Party
from consortium.yamlfile import Loc, YamlFile

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[D]):
    """A file and its model; the model is None when the file has problems."""

    file: YamlFile
    model: D | None


@dataclass(frozen=True)
class Stack:
    """A stack file: the settings in it, and its public certificate (empty if not known here).

    `absent`: secrets that not every stack has, and this one has not. Empty where only Pulumi can tell.
    """

    file: YamlFile
    settings: StackSettings | None
    certificate: str
    settings_loc: Loc = ()
    absent: frozenset[str] = frozenset()


Parties = Mapping[str, Document[Party]]
