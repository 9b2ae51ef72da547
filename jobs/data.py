"""The demo's datasets, the same on every machine: `python -m jobs.data FOLDER` writes FOLDER/<party>/<dataset>.csv."""

import csv
import hashlib
import random
import sys
from pathlib import Path

ROWS = 100_000
COMMON = 50_000


def national_id(number: int) -> str:
    """A made-up id that says nothing about its number."""
    return hashlib.sha256(f"person {number}".encode()).hexdigest()[:16]


def psi(folder: Path, rows: int = ROWS, common: int = COMMON) -> None:
    """Two tables of `rows` people, `common` of them in both, each in an order of its own."""
    tables = {
        "alice/customers.csv": (range(rows), ("age", "balance")),
        "bob/patients.csv": (range(rows - common, 2 * rows - common), ("height_cm", "visits")),
    }
    for name, (people, columns) in tables.items():
        chance = random.Random(name)
        order = list(people)
        chance.shuffle(order)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("id", *columns))
            table.writerows((national_id(p), chance.randint(18, 99), chance.randint(0, 9999)) for p in order)


def logistic_regression(folder: Path) -> None:
    """scikit-learn's breast-cancer table, rows shuffled: the mean columns and the label at alice, the others at bob."""
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in source.feature_names]
    order = list(range(len(source.target)))
    random.Random("tumours").shuffle(order)
    tables = {
        "alice/tumours_shape.csv": (range(10), True),
        "bob/tumours_texture.csv": (range(10, 30), False),
    }
    for name, (columns, with_label) in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", *(names[c] for c in columns), *(["malignant"] if with_label else [])])
            for row in order:
                values = [float(source.data[row][c]) for c in columns]
                table.writerow([national_id(row), *values, *([1 - int(source.target[row])] if with_label else [])])


if __name__ == "__main__":
    psi(Path(sys.argv[1]))
    logistic_regression(Path(sys.argv[1]))
