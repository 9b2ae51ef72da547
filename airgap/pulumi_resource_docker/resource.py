"""What every resource of the provider has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airgap.pulumi_resource_docker.daemon import Daemon
from airgap.pulumi_resource_docker.table import Failure, Table, check
from airgap.pulumi_resource_docker.wire import UNKNOWN, Props

URN_LABEL = "pulumi.urn"
# The id of the provider resource: the engine makes it once for a state and keeps it there, so a
# stack of the same name in another backend has another one.
PROVIDER_LABEL = "pulumi.provider"
OWN_LABELS = (URN_LABEL, PROVIDER_LABEL)


class ProviderError(Exception):
    """A failure whose message is for the user."""


class InitFailed(ProviderError):
    """The resource exists but is not what was asked for; the engine keeps track of it."""

    def __init__(self, resource_id: str, reason: str) -> None:
        super().__init__(reason)
        self.id = resource_id


@dataclass(frozen=True)
class Call:
    """One request of the engine."""

    daemon: Daemon
    urn: str
    provider_id: str = ""
    timeout: float = 0  # the resource's customTimeouts; 0 when none is set
    log: Callable[..., None] = lambda *args, **kwargs: None

    def labels(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """A resource's labels with the two that say whose it is."""
        return {**(given or {}), URN_LABEL: self.urn, PROVIDER_LABEL: self.provider_id}

    def owns(self, labels: Mapping[str, str] | None) -> bool:
        """Whether labels say that this very resource of this very state made it."""
        found = labels or {}
        return bool(self.provider_id) and (
            found.get(URN_LABEL) == self.urn and found.get(PROVIDER_LABEL) == self.provider_id
        )


@dataclass(frozen=True)
class Seen:
    """What docker shows of a resource."""

    id: str
    outputs: Props = field(default_factory=dict)  # what is computed, not given
    drifted: Props = field(default_factory=dict)  # inputs that are no longer as they were given
    inputs: Props = field(default_factory=dict)  # all inputs that can be told, for an import


class Kind:
    """A kind of resource. Instances hold nothing: the call brings everything."""

    name: ClassVar[str]
    table: ClassVar[Table]
    computed: ClassVar[tuple[str, ...]] = ()
    autonamed: ClassVar[bool] = True

    def check(self, inputs: Props) -> list[Failure]:
        """What is wrong with the inputs."""
        return check(self.table, inputs, f"docker.{self.name}")

    def prepare(self, inputs: Props) -> Props:
        """Inputs that the provider adds to those of the program."""
        return inputs

    def exclusive(self, old: Props, new: Props) -> bool:
        """Whether old and new cannot exist at the same time, so that the old one has to go first."""
        generated = "name" in new.get("__defaults", ())
        return self.autonamed and not generated and old.get("name") == new.get("name")

    def preview(self, inputs: Props) -> Props:
        """What a create will lead to, as far as it is known before."""
        return {**dict.fromkeys(self.computed, UNKNOWN), **inputs}

    def create(self, call: Call, inputs: Props) -> str:
        """Makes it and returns its id."""
        raise NotImplementedError

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """Looks at it; raises docker's NotFound when it is gone."""
        raise NotImplementedError

    def update(self, call: Call, resource_id: str, old: Props, new: Props) -> None:
        """Changes it in place."""

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Removes it."""
        raise NotImplementedError


def foreign_labels(labels: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Labels as inputs, without the provider's own."""
    items = sorted((labels or {}).items())
    return [{"label": k, "value": v} for k, v in items if k not in OWN_LABELS]
