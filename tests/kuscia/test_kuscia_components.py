"""The example pipelines, computed: each task of the compiled KusciaJob by SecretFlow's own adapter for Kuscia.

Two parties' containers run the command of our AppImage on the input that our coordinator compiled and on tables as our
objects declare them. Of Kuscia there is a stand-in of its data mesh (data_mesh.py), and no gateway between the parties.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from consortium import example_data, image
from consortium.kuscia.objects import DATA_PATH, DATA_SOURCE, ENGINE_PORTS, TASK_CONFIG, dataset
from consortium.spec import Dataset
from consortium.tables import described
from coordinator.bundle import read_job_file
from coordinator.components import data_id
from coordinator.kuscia.compile import Agreed, compiled, outputs
from coordinator.kuscia.models import Task
from tests.coordinator.builders import proposal
from tests.coordinator.coordinator_rig import tar_of

pytestmark = [pytest.mark.docker, pytest.mark.long]

PARTIES = ("alice", "bob")
JOBS = Path(__file__).parents[2] / "jobs" / "pipelines"
PYTHON = "/opt/secretflow/bin/python"
RUN = f"""
cd /work && {PYTHON} data_mesh.py state.json & mesh=$!
cd /work && {PYTHON} -m secretflow.kuscia.entry ./kuscia/{TASK_CONFIG} --datamesh_addr 127.0.0.1:8071; ended=$?
kill $mesh; exit $ended
"""
"""What Kuscia makes of the AppImage's command, and the data mesh beside it."""
FIRST_PORT = 20000


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, Container]]:
    """A container of each party, on a network that leads nowhere."""
    client = docker.from_env()
    node_image = image.bake("unix:///var/run/docker.sock", on_progress=print)
    name = f"consortium-components-{uuid.uuid4().hex[:8]}"
    network = client.networks.create(name, internal=True)
    made: dict[str, Container] = {}
    try:
        for party in PARTIES:
            made[party] = client.containers.create(
                node_image, entrypoint=["sleep", "1800"], command=[], name=f"{name}-{party}", hostname=party, init=True
            )
            network.connect(made[party], aliases=[party])
            made[party].start()
            _run(made[party], f"mkdir -p /work/kuscia {DATA_PATH}")
            _put(made[party], "/work/data_mesh.py", Path(__file__).with_name("data_mesh.py").read_text())
        yield made
    finally:
        for container in made.values():
            container.remove(force=True)
        network.remove()
        client.close()


def test_the_common_rows_are_those_of_the_plain_intersection(nodes: Mapping[str, Container], tmp_path: Path) -> None:
    example_data.psi(tmp_path)
    ids = computed(nodes, "psi", tmp_path)
    plain = _ids((tmp_path / "alice/customers.csv").read_text()) & _ids((tmp_path / "bob/patients.csv").read_text())
    assert len(plain) > 10_000
    for party in PARTIES:
        table = f"from pyarrow import orc; print(*orc.read_table('{DATA_PATH}/{ids['intersect.output_ds']}')['id'])"
        assert set(_run(nodes[party], f'{PYTHON} -c "{table}"').split()) == plain


def test_a_model_is_trained_on_columns_of_both(nodes: Mapping[str, Container], tmp_path: Path) -> None:
    example_data.logistic_regression(tmp_path)
    ids = computed(nodes, "regression", tmp_path)
    for party in PARTIES:
        made = json.loads(_run(nodes[party], "cat /work/state.json"))["data"]
        model = json.loads(made[ids["train.output_model"]]["attributes"]["dist_data"])
        assert model["type"] == "sf.model.ss_sgd"
        (share,) = {ref["uri"].split("/")[0] for ref in model["dataRefs"] if ref["party"] == party}
        assert _run(nodes[party], f"find {DATA_PATH}/{share} -type f -size +0").strip()


def computed(nodes: Mapping[str, Container], name: str, tables: Path) -> dict[str, str]:
    """Run a pipeline's tasks in their order at both parties. Returns `task.output` → file of what was made."""
    text = (JOBS / name / "job.yaml").read_text()
    job = read_job_file({"job.yaml": text.encode()})
    about = proposal(datasets=job.datasets, parties=job.parties, parameters={"spu_link": {"recv_timeout_ms": 60_000}})
    data: dict[str, Any] = {}
    for party, names in job.datasets.items():
        for table in names:
            path = tables / party / f"{table}.csv"
            data[data_id(table)] = _domain_data(party, table, path)
            _put(nodes[party], f"{DATA_PATH}/{table}.csv", path.read_text())
    for party, node in nodes.items():
        source = {"datasourceId": DATA_SOURCE, "type": "localfs", "accessDirectly": True}
        source["info"] = {"localfs": {"path": DATA_PATH}}
        _put(node, "/work/state.json", json.dumps({"party": party, "source": source, "data": data}))
    kuscia_job = compiled(Agreed(about, text, job), 1)
    for task in kuscia_job.tasks:
        for party, node in nodes.items():
            _put(node, f"/work/kuscia/{TASK_CONFIG}", json.dumps(_task_config(task, party)))
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: _run(node, RUN), nodes.values()))
    return outputs(job, kuscia_job.job_id)


def _domain_data(party: str, table: str, path: Path) -> dict[str, Any]:
    """As Kuscia tells it of the object that we declare."""
    spec = dataset(party, table, Dataset.model_validate(described(path)))["spec"]
    return {
        "domaindataId": data_id(table),
        "relativeUri": spec["relativeURI"],
        "datasourceId": spec["dataSource"],
        **{key: spec[key] for key in ("name", "type", "attributes", "columns", "vendor", "author")},
    }


def _task_config(task: Task, party: str) -> dict[str, str]:
    """The placeholders of the AppImage filled in, as Kuscia's agent does."""
    ports = {name: FIRST_PORT + number for number, (name, _, _) in enumerate(ENGINE_PORTS)}
    cluster = {
        "parties": [
            {
                "name": name,
                "role": "",
                "services": [{"portName": port, "endpoints": [f"{name}:{number}"]} for port, number in ports.items()],
            }
            for name in PARTIES
        ],
        "selfPartyIdx": PARTIES.index(party),
        "selfEndpointIdx": 0,
    }
    allocated = [{"name": n, "port": ports[n], "scope": scope, "protocol": p} for n, p, scope in ENGINE_PORTS]
    return {
        "task_id": task.task_id,
        "task_input_config": task.task_input_config,
        "task_cluster_def": json.dumps(cluster),
        "allocated_ports": json.dumps({"ports": allocated}),
    }


def _ids(table: str) -> set[str]:
    return {row["id"] for row in csv.DictReader(io.StringIO(table))}


def _run(node: Container, command: str) -> str:
    status, output = node.exec_run(["sh", "-c", command])
    text: str = output.decode(errors="replace")
    assert status == 0, text[-6000:]
    return text


def _put(node: Container, path: str, text: str) -> None:
    where = Path(path)
    assert node.put_archive(str(where.parent), tar_of({where.name: text}))
