"""A job's pipeline as the KusciaJob of one attempt: pure. Each party compiles for itself and compares.

What the initiator signed travels inside the first task's input, under a key of its own that SecretFlow's adapter does
not read: Kuscia carries a job between institutions, and nothing else of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from coordinator.bundle import JOB_FILE, JobFile
from coordinator.components import COMPONENTS, PipelineTask, data_id
from coordinator.kuscia.models import KusciaJob, Task, TaskParty
from coordinator.statements import ProposalBody, Statement, canonical, job_name

APP_IMAGE = "secretflow-image"
DATA_SOURCE = "default-data-source"
ENVELOPE = "consortium"
"""The key in a task's input."""
SPU_LINK = "spu_link"
"""The proposal's one parameter: SPU's `link_desc` from the initiator's timeouts. From its own, a party would compile
another job while the documents of two parties differ."""
_RUNTIME = {"protocol": "SEMI2K", "field": "FM128"}
# Kuscia's gateway carries HTTP: the raw protocol of brpc would not pass it.
_LINK = {"brpc_channel_protocol": "http", "brpc_channel_connection_type": "pooled"}
_HEU = {"mode": "PHEU", "schema": "paillier", "key_size": 2048}


@dataclass(frozen=True)
class Agreed:
    """What a KusciaJob is made from: the signed proposal, and its job.yaml as text and read."""

    proposal: Statement
    text: str
    job: JobFile

    @property
    def body(self) -> ProposalBody:
        """What was proposed."""
        assert isinstance(self.proposal.body, ProposalBody)
        return self.proposal.body


def compiled(agreed: Agreed, attempt: int) -> KusciaJob:
    """The one KusciaJob of an attempt. ValueError if the job is no pipeline."""
    body, job_id = agreed.body, agreed.proposal.job_id
    if agreed.job.pipeline is None:
        raise ValueError(f"job {job_id} has no pipeline")
    name = job_name(job_id, attempt)
    parties = tuple(TaskParty(domain_id=party) for party in body.parties)
    tables: dict[str, str] = {}
    tasks = []
    for number, (alias, task) in enumerate(agreed.job.pipeline.items()):
        made = _outputs(name, number, alias, task)
        content = _input(agreed, task, [tables.get(s) or _dataset(s) for s in task.inputs], list(made.values()))
        if number == 0:
            content[ENVELOPE] = {"proposal": agreed.proposal.model_dump(mode="json"), JOB_FILE: agreed.text}
        tasks.append(
            Task(
                alias=alias,
                task_id=f"{name}-{number}",
                app_image=APP_IMAGE,
                parties=parties,
                dependencies=tuple(sorted({s.split(".")[0] for s in task.inputs if s in tables})),
                task_input_config=canonical(content).decode(),
            )
        )
        tables |= made
    return KusciaJob(job_id=name, initiator=agreed.proposal.party, tasks=tuple(tasks), max_parallelism=1)


def outputs(job: JobFile, name: str) -> dict[str, str]:
    """`task.output` → id and file name of what the attempt called `name` makes, in the data of each party's node."""
    made: dict[str, str] = {}
    for number, (alias, task) in enumerate((job.pipeline or {}).items()):
        made |= _outputs(name, number, alias, task)
    return made


def task_ids(agreed: JobFile, name: str) -> dict[str, str]:
    """Task → its id in Kuscia, of the attempt called `name`."""
    return {alias: f"{name}-{number}" for number, alias in enumerate(agreed.pipeline or {})}


def _outputs(name: str, number: int, alias: str, task: PipelineTask) -> dict[str, str]:
    """`task.output` → id of what the attempt makes: two attempts never make the same."""
    outputs = COMPONENTS[task.component].outputs
    return {f"{alias}.{output}": f"{name}-{number}-{i}" for i, output in enumerate(outputs)}


def _dataset(source: str) -> str:
    return data_id(source.split("/")[1])


def _input(agreed: Agreed, task: PipelineTask, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    """What SecretFlow's adapter reads (secretflow/kuscia/task_config.py)."""
    parties = list(agreed.body.parties)
    link = agreed.body.parameters.get(SPU_LINK)
    spu = {"runtime_config": _RUNTIME, "link_desc": {**_LINK, **(link if isinstance(link, dict) else {})}}
    devices = [
        {"name": name, "type": name, "parties": parties, "config": json.dumps(config, sort_keys=True)}
        for name, config in (("spu", spu), ("heu", _HEU))
    ]
    domain, component = task.component.split("/")
    return {
        "sf_datasource_config": {party: {"id": DATA_SOURCE} for party in parties},
        "sf_cluster_desc": {
            "parties": parties,
            "devices": devices,
            "ray_fed_config": {"cross_silo_comm_backend": "brpc_link"},
        },
        "sf_node_eval_param": {
            "domain": domain,
            "name": component,
            "version": COMPONENTS[task.component].version,
            "attr_paths": list(task.attrs),
            "attrs": [{"is_na": False, _field(task, path): value} for path, value in task.attrs.items()],
        },
        "sf_input_ids": inputs,
        "sf_output_ids": outputs,
        "sf_output_uris": outputs,
    }


def _field(task: PipelineTask, path: str) -> str:
    return COMPONENTS[task.component].params[path].type
