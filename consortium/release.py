"""What this installation puts on nodes, and what an agreement with a maintenance window means for it."""

from __future__ import annotations

from consortium.folders import COORDINATOR
from consortium.spec import Consortium
from coordinator.release import source_digest

PACKAGES = {"python": "3.11", "secretflow": "1.11.0b1", "ray": "2.9.3", "rayfed": "0.2.1a2", "spu": "0.9.3b0"}
"""What the node image is locked to."""


def brings() -> dict[str, str]:
    """Versions that run on nodes after an `up` of this release, by their names in consortium.yaml."""
    return {**PACKAGES, "coordinator": source_digest(COORDINATOR)}


def in_force(agreement: Consortium) -> Consortium:
    """The agreement as it is for this release.

    For the release that all go over to it is as if its versions had always stood in `versions` and there were no
    window: so its digest is that of the file in which that is written afterwards, and differs from that of a party
    which has not gone over yet. Between those two no job starts.
    """
    window = agreement.maintenance
    if window is None or not window.brought_by(brings()):
        return agreement
    versions = agreement.versions.model_copy(update=window.versions.agreed())
    return agreement.model_copy(update={"versions": versions, "maintenance": None})
