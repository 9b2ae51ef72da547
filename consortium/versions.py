"""What runs at every party, and the window in which all go over to something else. Parts of consortium.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

_PIN = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?")
LONGEST = timedelta(days=7)


def _pin(value: str) -> str:
    if not _PIN.fullmatch(value):
        raise ValueError("must be one exact version such as 1.11.0b1: no range, no `latest`")
    return value


def _utc(value: datetime) -> datetime:
    if value.utcoffset():
        raise ValueError("must be in UTC, for example 2026-12-01T22:00:00Z: all parties read the same clock")
    return value.astimezone(UTC)


Pin = Annotated[str, StringConstraints(max_length=40), AfterValidator(_pin)]
Release = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Utc = Annotated[AwareDatetime, AfterValidator(_utc)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Versions(_Part):
    """What runs at every party; each an exact version, since SecretFlow's parts speak only to their
    equals.
    """

    python: Pin
    """Of the environment in which SecretFlow and Ray run."""
    secretflow: Pin
    """As on PyPI."""
    ray: Pin
    """As on PyPI; the one SecretFlow was built against."""
    rayfed: Pin
    """As on PyPI (`secretflow-rayfed`)."""
    spu: Pin
    """As on PyPI."""
    coordinator: Release | None = None
    """Digest of the coordinator's own source: `consortium upgrade propose`. null = each takes the release it likes."""

    def packages(self) -> dict[str, str]:
        """Without the coordinator: what a job runs on, and is approved for."""
        return {name: version for name, version in self.agreed().items() if name != "coordinator"}

    def agreed(self) -> dict[str, str]:
        """Everything that was agreed on."""
        return {name: str(version) for name, version in self if version is not None}


class ComingVersions(_Part):
    """Of `versions`, those that change."""

    python: Pin | None = None
    """As in `versions`; so are the others."""
    secretflow: Pin | None = None
    """null = stays."""
    ray: Pin | None = None
    """null = stays."""
    rayfed: Pin | None = None
    """null = stays."""
    spu: Pin | None = None
    """null = stays."""
    coordinator: Release | None = None
    """null = stays."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.agreed():
            raise ValueError("names nothing that changes: `consortium upgrade propose` prints what this release brings")
        return self

    def agreed(self) -> dict[str, str]:
        """Those that change, with their new values."""
        return {name: str(version) for name, version in self if version is not None}


class Maintenance(_Part):
    """When all parties go over to other versions, each by `consortium upgrade run`. Nobody may before or after."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: Utc = Field(alias="from")
    """In UTC: 2026-12-01T22:00:00Z."""
    to: Utc
    """The end; at most a week after `from`."""
    versions: ComingVersions
    """What will run then."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if not timedelta(0) < self.to - self.from_ <= LONGEST:
            raise ValueError(f"`to` must be after `from`, by at most {LONGEST.days} days")
        return self

    def brought_by(self, brings: Mapping[str, str]) -> bool:
        """Whether a release is the one that all go over to."""
        return all(brings.get(name) == version for name, version in self.versions.agreed().items())
