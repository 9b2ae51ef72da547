"""The example jobs: their description fits their program, and their data is the same on every machine."""

import ast
import csv
import hashlib
from pathlib import Path

import pytest
import yaml

from consortium import example_data as data
from consortium.folders import INSTALLATION

FOLDERS = sorted(path.parent for path in (INSTALLATION / "jobs").glob("*/job.yaml"))
FIELDS = {"name", "description", "program", "parties", "datasets", "parameters", "results", "max_attempts"}


def test_there_are_two() -> None:
    assert [folder.name for folder in FOLDERS] == ["logistic_regression", "psi"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_description_is_complete_and_used(folder: Path) -> None:
    job = yaml.safe_load((folder / "job.yaml").read_text())
    assert set(job) == FIELDS
    assert job["name"] == folder.name.replace("_", "-")
    assert set(job["datasets"]) == set(job["results"]) == set(job["parties"])
    assert 1 <= job["max_attempts"] <= 5
    program = (folder / job["program"]).read_text()
    ast.parse(program)
    for name in [*job["parameters"], *(name for names in job["datasets"].values() for name in names)]:
        assert f'"{name}"' in program, f"{folder.name}: {name} is described and not used"


def ids(path: Path) -> list[str]:
    with path.open() as file:
        return [row["id"] for row in csv.DictReader(file)]


def test_the_tables_of_psi_share_exactly_the_common_people(tmp_path: Path) -> None:
    data.psi(tmp_path, rows=1000, common=400)
    left, right = ids(tmp_path / "alice/customers.csv"), ids(tmp_path / "bob/patients.csv")
    assert len(set(left)) == len(left) == len(set(right)) == len(right) == 1000
    assert len(set(left) & set(right)) == 400
    assert left != sorted(left)


def test_data_is_the_same_every_time(tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        data.psi(folder, rows=100, common=50)
        whole = b"".join(path.read_bytes() for path in sorted(folder.rglob("*.csv")))
        return hashlib.sha256(whole).hexdigest()

    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_columns_are_split_and_the_rows_aligned(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    data.logistic_regression(tmp_path)
    shape, texture = tmp_path / "alice/tumours_shape.csv", tmp_path / "bob/tumours_texture.csv"
    assert ids(shape) == ids(texture)
    assert len(ids(shape)) == 569
    assert "malignant" in shape.read_text().splitlines()[0]
    assert "malignant" not in texture.read_text()


def test_logistic_regression_starts_from_a_good_pooled_model(tmp_path: Path) -> None:
    """The same split, pooled: what the job's AUC is compared with."""
    pytest.importorskip("sklearn")
    assert data.pooled_auc(tmp_path, test_from=400) > 0.98
