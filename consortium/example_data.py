"""The demo's datasets, the same on every machine.

`python -m consortium.example_data FOLDER` writes FOLDER/<party>/<dataset>.csv.
"""

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
        chance = random.Random(name)  # noqa: S311 the same tables everywhere is what is wanted
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
    random.Random("tumours").shuffle(order)  # noqa: S311
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


def pooled_auc(folder: Path, test_from: int) -> float:
    """AUC of scikit-learn on the pooled columns, same split: what the job is compared with."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    logistic_regression(folder)
    shape = np.loadtxt(folder / "alice/tumours_shape.csv", delimiter=",", skiprows=1, usecols=range(1, 12))
    texture = np.loadtxt(folder / "bob/tumours_texture.csv", delimiter=",", skiprows=1, usecols=range(1, 21))
    table, label = np.hstack([shape[:, :-1], texture]), shape[:, -1]
    table = (table - table[:test_from].mean(0)) / table[:test_from].std(0)
    model = LogisticRegression(max_iter=1000).fit(table[:test_from], label[:test_from])
    return float(roc_auc_score(label[test_from:], model.predict_proba(table[test_from:])[:, 1]))


def intersection_digest(folder: Path) -> tuple[int, str]:
    """Plain intersection of the two tables of `psi`: its size and the SHA-256 of its sorted ids, one a line."""
    columns = []
    for name in ("alice/customers.csv", "bob/patients.csv"):
        with (folder / name).open() as file:
            columns.append({row["id"] for row in csv.DictReader(file)})
    common = sorted(columns[0] & columns[1])
    return len(common), hashlib.sha256("".join(f"{value}\n" for value in common).encode()).hexdigest()


if __name__ == "__main__":
    psi(Path(sys.argv[1]))
    logistic_regression(Path(sys.argv[1]))
