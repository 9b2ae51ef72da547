"""Jobs of Kuscia mode for tests: a document that is right, of which each test changes one thing."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from coordinator.bundle import JobFile, read_job_file
from coordinator.kuscia.compile import Agreed
from tests.coordinator.builders import proposal
from tests.coordinator.coordinator_rig import tar_of

PSI = {
    "component": "data_prep/psi",
    "inputs": ["alice/customers", "bob/patients"],
    "attrs": {"input/input_ds1/keys": ["id"], "input/input_ds2/keys": ["id"]},
}
TRAIN = {
    "component": "ml.train/ss_sgd_train",
    "inputs": ["intersect.output_ds"],
    "attrs": {"input/input_ds/label": ["y"], "input/input_ds/feature_selects": ["a", "b"], "epochs": 3},
}
DATASETS = {"alice": ["customers"], "bob": ["patients"]}


def document(**fields: Any) -> dict[str, Any]:
    """PSI, then regression, of alice and bob."""
    usual = {"name": "probe", "parties": ["alice", "bob"], "datasets": DATASETS}
    return copy.deepcopy({**usual, "pipeline": {"intersect": PSI, "train": TRAIN}, **fields})


def text(**fields: Any) -> str:
    """The same as job.yaml."""
    return yaml.safe_dump(document(**fields), sort_keys=False)


def job_file(**fields: Any) -> JobFile:
    """The same, read."""
    return read_job_file({"job.yaml": text(**fields).encode()})


def folder(**fields: Any) -> bytes:
    """The same as a job folder's tar."""
    return tar_of({"job.yaml": text(**fields)})


def agreed(link: dict[str, Any] | None = None, **fields: Any) -> Agreed:
    """What alice's coordinator compiles."""
    job = job_file(**fields)
    about = proposal(datasets=job.datasets, parties=job.parties, parameters={"spu_link": link or {}})
    return Agreed(about, text(**fields), job)
