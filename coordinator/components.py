"""Pipelines of SecretFlow's components: what a job.yaml may say, checked against SecretFlow's own specification.

The components are those for two parties that SecretFlow 1.11 ships (`secretflow component inspect`). Inputs, outputs
and attributes bear the names of that specification, so that its documentation counts here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from coordinator.config import Model

TaskName = Annotated[str, Field(pattern=r"^[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?$")]
Source = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*(?:/[a-z0-9][a-z0-9_.-]*|\.[a-z_]+)$", max_length=130)
]
MAX_TASKS = 20
ParamType = Literal["s", "b", "i64", "f", "ss"]
_SHOWN = {"s": "a text", "b": "true or false", "i64": "a whole number", "f": "a number", "ss": "a list of texts"}


@dataclass(frozen=True)
class Param:
    """One attribute of a component. `type`: the field of SecretFlow's message Attribute that carries it."""

    type: ParamType
    allowed: tuple[str, ...] = ()
    least: float | None = None
    positive: bool = False
    needed: bool = False
    parties: bool = False
    """Its texts are parties of the job."""

    def problem(self, value: Any, parties: tuple[str, ...]) -> str:
        """What is wrong with a value, as the end of a sentence; empty if nothing is."""
        if not self._fits(value):
            return f"must be {_SHOWN[self.type]}"
        texts = value if self.type == "ss" else (value,)
        if self.type == "ss" and (not value or len(set(value)) != len(value)):
            return "must name at least one, and each once"
        if self.allowed and (strange := [v for v in texts if v not in self.allowed]):
            return f"has {strange}: allowed are {list(self.allowed)}"
        if self.parties and (strange := [v for v in texts if v not in parties]):
            return f"has {strange}: the job's parties are {list(parties)}"
        if self.least is not None and value < self.least:
            return f"must be at least {self.least:g}"
        return "must be more than 0" if self.positive and value <= 0 else ""

    def _fits(self, value: Any) -> bool:
        match self.type:
            case "b":
                return isinstance(value, bool)
            case "i64":
                return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
            case "f":
                return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
            case "s":
                return isinstance(value, str) and 0 < len(value) <= 200
            case "ss":
                return isinstance(value, list) and all(isinstance(v, str) and 0 < len(v) <= 200 for v in value)


@dataclass(frozen=True)
class Component:
    """A component of SecretFlow. `tables`: its inputs are datasets, of one party each."""

    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, Param] = field(hash=False)
    tables: bool = False


_COLUMNS = Param("ss", needed=True)
_NOT_NEGATIVE = Param("f", least=0)
COMPONENTS: Mapping[str, Component] = MappingProxyType(
    {
        "data_prep/psi": Component(
            "1.0.0",
            ("input_ds1", "input_ds2"),
            ("output_ds", "report"),
            {
                "input/input_ds1/keys": _COLUMNS,
                "input/input_ds2/keys": _COLUMNS,
                "protocol": Param("s", ("PROTOCOL_RR22", "PROTOCOL_KKRT", "PROTOCOL_ECDH")),
                "sort_result": Param("b"),
                "receiver_parties": Param("ss", parties=True),
                "allow_empty_result": Param("b"),
                "join_type": Param("s", ("inner_join", "full_join", "difference")),
                "input_ds1_keys_duplicated": Param("b"),
                "input_ds2_keys_duplicated": Param("b"),
            },
            tables=True,
        ),
        "ml.train/ss_sgd_train": Component(
            "1.0.0",
            ("input_ds",),
            ("output_model", "report"),
            {
                "input/input_ds/feature_selects": _COLUMNS,
                "input/input_ds/label": _COLUMNS,
                "epochs": Param("i64", least=1),
                "learning_rate": Param("f", positive=True),
                "batch_size": Param("i64", least=1),
                "sig_type": Param("s", ("real", "t1", "t3", "t5", "df", "sr", "mix")),
                "reg_type": Param("s", ("linear", "logistic")),
                "penalty": Param("s", ("None", "l2")),
                "l2_norm": _NOT_NEGATIVE,
                "eps": _NOT_NEGATIVE,
                "report_weights": Param("b"),
            },
        ),
    }
)


class PipelineTask(Model):
    """One component of a pipeline."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    component: str
    """`data_prep/psi` or `ml.train/ss_sgd_train`."""
    inputs: tuple[Source, ...] = Field(min_length=1, max_length=10)
    """Each `party/dataset`, or `task.output` of a task above."""
    attrs: dict[str, JsonValue] = Field({})
    """As SecretFlow's specification of the component names them; what is left out has its default there."""


Pipeline = Annotated[dict[TaskName, PipelineTask], Field(min_length=1, max_length=MAX_TASKS)]


def problems(
    pipeline: Mapping[str, PipelineTask], parties: tuple[str, ...], datasets: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    """Everything that is wrong with a pipeline, each with its place, the value and what is allowed."""
    if len(parties) != 2:
        yield f"parties: {list(parties)}: the components of a pipeline are for two parties"
    made: dict[str, PipelineTask] = {}
    for name, task in pipeline.items():
        where = f"pipeline.{name}"
        component = COMPONENTS.get(task.component)
        if component is None:
            yield f"{where}.component: {task.component[:100]!r}: allowed are {sorted(COMPONENTS)}"
            continue
        yield from _of_inputs(where, task, component, made, datasets)
        yield from _of_attrs(where, task, component, parties)
        made[name] = task
    used = {s for task in pipeline.values() for s in task.inputs if "/" in s}
    if idle := sorted({f"{p}/{d}" for p, names in datasets.items() for d in names} - used):
        yield f"datasets: {idle} are in no task's inputs: every party would be asked for data that nothing reads"


def _of_inputs(
    where: str,
    task: PipelineTask,
    component: Component,
    made: Mapping[str, PipelineTask],
    datasets: Mapping[str, tuple[str, ...]],
) -> Iterator[str]:
    if len(task.inputs) != len(component.inputs):
        yield f"{where}.inputs: {list(task.inputs)}: {task.component} takes {list(component.inputs)}"
    for source in task.inputs:
        party, is_table, dataset = source.partition("/")
        if is_table and dataset not in datasets.get(party, ()):
            yield f"{where}.inputs: {source!r} is not among datasets: {dict(datasets)}"
        if bool(is_table) is not component.tables:
            wanted = "party/dataset" if component.tables else "task.output"
            yield f"{where}.inputs: {source!r}: {task.component} takes {wanted}"
        elif not is_table and source not in (known := sorted(_outputs(made))):
            yield f"{where}.inputs: {source!r}: the tables of the tasks above are {known}"
    if component.tables and len({source.split("/")[0] for source in task.inputs}) != len(task.inputs):
        yield f"{where}.inputs: {list(task.inputs)}: each must be of another party"
    elif component.tables and len({data_id(source.split("/")[-1]) for source in task.inputs}) != len(task.inputs):
        yield f"{where}.inputs: {list(task.inputs)}: to Kuscia, where an id counts for all, these would be one table"


def _outputs(made: Mapping[str, PipelineTask]) -> Iterator[str]:
    """`task.output` of every vertical table: nothing else is an input of these components."""
    for name, task in made.items():
        receivers = task.attrs.get("receiver_parties")
        if "output_ds" in COMPONENTS[task.component].outputs and not (
            isinstance(receivers, list) and len(receivers) == 1
        ):
            yield f"{name}.output_ds"


def _of_attrs(where: str, task: PipelineTask, component: Component, parties: tuple[str, ...]) -> Iterator[str]:
    for path, value in task.attrs.items():
        param = component.params.get(path)
        if param is None:
            yield f"{where}.attrs: {path[:100]!r}: allowed are {sorted(component.params)}"
        elif why := param.problem(value, parties):
            yield f"{where}.attrs.{path}: {str(value)[:100]}: {why}"
    for path, param in component.params.items():
        if param.needed and path not in task.attrs:
            yield f"{where}.attrs.{path}: is missing; it must be {_SHOWN[param.type]}"
    label, features = task.attrs.get("input/input_ds/label"), task.attrs.get("input/input_ds/feature_selects")
    if isinstance(label, list) and isinstance(features, list):
        if len(label) > 1:
            yield f"{where}.attrs.input/input_ds/label: {label}: must be one column"
        if both := [column for column in label if column in features]:
            yield f"{where}.attrs.input/input_ds/label: {both} are among the features too"


def data_id(name: str) -> str:
    """A dataset's name as Kuscia has it: a name of Kubernetes, which knows no underscore."""
    return name.replace("_", "-").strip("-")
