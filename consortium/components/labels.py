"""The labels by which an engine's objects are known to be ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from consortium.spec import Model

Label = TypeVar("Label")


def labels(make: Callable[..., Label], model: Model, **more: str) -> list[Label]:
    """`make` is the label class of the docker resource at hand: each resource has its own, all alike."""
    values = {"consortium.name": model.consortium.name, "consortium.party": model.party}
    values |= {f"consortium.{key}": value for key, value in more.items()}
    return [make(label=key, value=value) for key, value in sorted(values.items())]
