"""job.yaml with a pipeline: what is refused and how, and the KusciaJob that it becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from consortium.folders import INSTALLATION
from consortium.kuscia.objects import APP_IMAGE as PROVISIONED_IMAGE
from consortium.kuscia.objects import DATA_SOURCE as PROVISIONED_SOURCE
from coordinator.bundle import BundleError, read_job_file
from coordinator.components import COMPONENTS, Param
from coordinator.kuscia.compile import APP_IMAGE, DATA_SOURCE, compiled, task_ids
from coordinator.statements import Statement
from tests.coordinator.kuscia_jobs import PSI, TRAIN, agreed, document, job_file, text


def with_attrs(task: dict[str, Any], **attrs: Any) -> dict[str, Any]:
    return {**task, "attrs": {**task["attrs"], **{k.replace("__", "/"): v for k, v in attrs.items()}}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"parties": ["alice", "bob", "carol"]}, "the components of a pipeline are for two parties"),
    ({"program": "main.py"}, "program: a pipeline has none"),
    ({"parameters": {"k": 1}}, "parameters: a pipeline has none"),
    ({"datasets": {"alice": ["customers", "more"], "bob": ["patients"]}}, "['alice/more'] are in no task's inputs"),
    ({"pipeline": {}}, "at least 1 item"),
    ({"pipeline": {"A b": PSI}}, "should match pattern"),
    ({"pipeline": {"x": {**PSI, "component": "data_prep/union"}}}, "allowed are ['data_prep/psi', 'ml.train/"),
    ({"pipeline": {"x": {**PSI, "inputs": ["alice/customers"]}}}, "takes ['input_ds1', 'input_ds2']"),
    ({"pipeline": {"x": {**PSI, "inputs": ["alice/customers", "alice/customers"]}}}, "each must be of another party"),
    ({"pipeline": {"x": {**PSI, "inputs": ["alice/customers", "bob/gone"]}}}, "'bob/gone' is not among datasets"),
    ({"pipeline": {"x": {**PSI, "inputs": ["alice/customers", "x.output_ds"]}}}, "takes party/dataset"),
    ({"pipeline": {"x": {**PSI, "outputs": 1}}}, "Extra inputs are not permitted"),
    ({"pipeline": {"train": TRAIN, "intersect": PSI}}, "the tables of the tasks above are []"),
    ({"pipeline": {"intersect": PSI, "t": {**TRAIN, "inputs": ["intersect.report"]}}}, "['intersect.output_ds']"),
    ({"pipeline": {"intersect": PSI, "t": {**TRAIN, "inputs": ["alice/customers"]}}}, "takes task.output"),
    ({"pipeline": {"x": {**PSI, "attrs": {}}}}, "input/input_ds1/keys: is missing; it must be a list of texts"),
    ({"pipeline": {"x": with_attrs(PSI, protocl="P")}}, "'protocl': allowed are ["),
    ({"pipeline": {"x": with_attrs(PSI, protocol="P")}}, "has ['P']: allowed are ['PROTOCOL_RR22',"),
    ({"pipeline": {"x": with_attrs(PSI, sort_result="yes")}}, "sort_result: yes: must be true or false"),
    ({"pipeline": {"x": with_attrs(PSI, receiver_parties=["carol"])}}, "the job's parties are ['alice', 'bob']"),
    (
        {"pipeline": {"x": with_attrs(PSI, input__input_ds1__keys=["id", "id"])}},
        "must name at least one, and each once",
    ),
    (
        {"pipeline": {"intersect": with_attrs(PSI, receiver_parties=["bob"]), "train": TRAIN}},
        "the tables of the tasks above are []",
    ),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, epochs=True)}}, "epochs: True: must be a whole number"),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, epochs=0)}}, "epochs: 0: must be at least 1"),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, learning_rate=0)}}, "must be more than 0"),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, eps=float("nan"))}}, "eps: nan: must be a number"),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, input__input_ds__label=["a"])}}, "among the features too"),
    ({"pipeline": {"intersect": PSI, "t": with_attrs(TRAIN, input__input_ds__label=["y", "z"])}}, "must be one column"),
    (
        {
            "datasets": {"alice": ["people_1"], "bob": ["people-1"]},
            "pipeline": {"x": {**PSI, "inputs": ["alice/people_1", "bob/people-1"]}},
        },
        "these would be one table",
    ),
]


@pytest.mark.parametrize(("fields", "why"), WRONG, ids=[why[:40] for _, why in WRONG])
def test_what_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(BundleError) as refused:
        job_file(**fields)
    assert why in str(refused.value)


def test_only_job_yaml_is_in_the_folder() -> None:
    with pytest.raises(BundleError, match=r"only job.yaml reaches the other parties; take away \['main.py'\]"):
        read_job_file({"job.yaml": text().encode(), "main.py": b""})


def test_the_examples_are_right() -> None:
    for path in (INSTALLATION / "jobs" / "pipelines").glob("*/job.yaml"):
        job = read_job_file({"job.yaml": path.read_bytes()})
        assert job.pipeline
        assert job.program == "job.yaml"


def test_the_engine_and_the_data_are_those_that_are_provisioned() -> None:
    assert (APP_IMAGE, DATA_SOURCE) == (PROVISIONED_IMAGE, PROVISIONED_SOURCE)


def inputs_of(task: Any) -> dict[str, Any]:
    found = json.loads(task.task_input_config)
    assert isinstance(found, dict)
    return found


def test_what_is_compiled() -> None:
    job = compiled(agreed(link={"recv_timeout_ms": 7}), 2)
    psi, train = job.tasks
    assert (job.job_id, job.initiator, job.parties) == ("20261124-probe-abcdef-2", "alice", ("alice", "bob"))
    assert (psi.alias, psi.task_id, psi.dependencies) == ("intersect", f"{job.job_id}-0", ())
    assert (train.alias, train.task_id, train.dependencies) == ("train", f"{job.job_id}-1", ("intersect",))
    assert task_ids(job_file(), job.job_id) == {"intersect": psi.task_id, "train": train.task_id}
    first, second = inputs_of(psi), inputs_of(train)
    assert first["sf_input_ids"] == ["customers", "patients"]
    assert second["sf_input_ids"] == first["sf_output_ids"][:1] == [f"{job.job_id}-0-0"]
    assert first["sf_datasource_config"] == {
        "alice": {"id": "default-data-source"},
        "bob": {"id": "default-data-source"},
    }
    assert first["sf_node_eval_param"] == {
        "domain": "data_prep",
        "name": "psi",
        "version": "1.0.0",
        "attr_paths": ["input/input_ds1/keys", "input/input_ds2/keys"],
        "attrs": [{"is_na": False, "ss": ["id"]}, {"is_na": False, "ss": ["id"]}],
    }
    assert {"is_na": False, "i64": 3} in second["sf_node_eval_param"]["attrs"]
    spu = json.loads(first["sf_cluster_desc"]["devices"][0]["config"])
    assert spu["runtime_config"] == {"protocol": "SEMI2K", "field": "FM128"}
    assert spu["link_desc"]["recv_timeout_ms"] == 7
    assert spu["link_desc"]["brpc_channel_protocol"] == "http"
    assert "consortium" not in second


def test_the_signed_proposal_travels_with_the_first_task() -> None:
    about = agreed()
    envelope = inputs_of(compiled(about, 1).tasks[0])["consortium"]
    assert Statement.model_validate(envelope["proposal"]) == about.proposal
    assert yaml.safe_load(envelope["job.yaml"]) == document()


def values(param: Param) -> st.SearchStrategy[Any]:
    words = st.text(min_size=1, max_size=20)
    match param.type:
        case "b":
            return st.booleans()
        case "i64":
            return st.integers(1, 2**62)
        case "f":
            return st.floats(0.001, 1e6)
        case "s":
            return st.sampled_from(param.allowed)
        case "ss":
            return (
                st.lists(words, min_size=1, max_size=4, unique=True) if not param.parties else st.just(["alice", "bob"])
            )


def attrs_of(component: str) -> st.SearchStrategy[dict[str, Any]]:
    params = COMPONENTS[component].params
    needed = {path: values(param) for path, param in params.items() if param.needed}
    return st.fixed_dictionaries(needed, optional={k: values(p) for k, p in params.items() if k not in needed})


@given(psi=attrs_of("data_prep/psi"), train=attrs_of("ml.train/ss_sgd_train"), attempt=st.integers(1, 20))
def test_every_value_arrives_whole(psi: dict[str, Any], train: dict[str, Any], attempt: int) -> None:
    """Whatever texts, lists and numbers it holds, the job says the same in SecretFlow's words, at each party."""
    features, label = train["input/input_ds/feature_selects"], train["input/input_ds/label"]
    train = train | {"input/input_ds/label": [label[0]], "input/input_ds/feature_selects": [f"{f}." for f in features]}
    if label[0] in train["input/input_ds/feature_selects"]:
        return
    pipeline = {"intersect": {**PSI, "attrs": psi}, "train": {**TRAIN, "attrs": train}}
    about = agreed(pipeline=pipeline)
    job = compiled(about, attempt)
    for task, attrs in zip(job.tasks, (psi, train), strict=True):
        param = inputs_of(task)["sf_node_eval_param"]
        fields = [{k: v for k, v in attr.items() if k != "is_na"} for attr in param["attrs"]]
        assert dict(zip(param["attr_paths"], (next(iter(f.values())) for f in fields), strict=True)) == attrs
        types = COMPONENTS[f"{param['domain']}/{param['name']}"].params
        assert [list(f) for f in fields] == [[types[path].type] for path in param["attr_paths"]]
    assert compiled(agreed(pipeline=pipeline), attempt) == job
    outputs = [
        o for n in (attempt, attempt + 1) for t in compiled(about, n).tasks for o in inputs_of(t)["sf_output_ids"]
    ]
    assert len(set(outputs)) == len(outputs)
    assert all(len(o) <= 63 for o in [*outputs, job.job_id, *(t.task_id for t in job.tasks)])
