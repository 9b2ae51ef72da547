"""Logistic regression on secret-shared columns; the AUC is measured where the label is."""

import hashlib

import numpy as np
import secretflow as sf
from secretflow.data.ndarray import FedNdarray, PartitionWay
from secretflow.ml.linear.ss_sgd import SSRegression

from coordinator.session import session


def ids_digest(path: str) -> str:
    """SHA-256 of the ids in file order; runs at the owner of the file."""
    import pandas as pd

    return hashlib.sha256("\n".join(pd.read_csv(path, usecols=["id"], dtype=str)["id"]).encode()).hexdigest()


def features(path: str, label: str, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Train and test columns of one party, scaled by the training rows; runs at the owner."""
    import pandas as pd

    table = pd.read_csv(path).drop(columns=["id", label], errors="ignore").to_numpy(float)
    scaled = (table - table[:split].mean(0)) / table[:split].std(0)
    return scaled[:split], scaled[split:]


def labels(path: str, label: str, split: int) -> tuple[np.ndarray, np.ndarray]:
    """Train and test labels as columns; runs at the label's owner."""
    import pandas as pd

    column = pd.read_csv(path, usecols=[label]).to_numpy(float)
    return column[:split], column[split:]


def evaluate(truth: np.ndarray, score: np.ndarray, path: str) -> float:
    """Area under the ROC curve; keeps the probabilities in a file of the label's owner."""
    from sklearn.metrics import roc_auc_score

    np.savetxt(path, score, header="probability", comments="")
    return float(roc_auc_score(truth.ravel(), score.ravel()))


with session() as s:
    owner, other = s.parties
    paths = {owner: s.dataset(owner, "tumours_shape"), other: s.dataset(other, "tumours_texture")}
    digests = sf.reveal([s.pyu(party)(ids_digest)(paths[party]) for party in s.parties])
    if len(set(digests)) != 1:
        raise RuntimeError("the parties' rows are not aligned by id; run the psi job on them first")

    label, split = s.parameters["label"], s.parameters["test_from"]
    parts = {party: s.pyu(party)(features, num_returns=2)(paths[party], label, split) for party in s.parties}
    train_y, test_y = s.pyu(owner)(labels, num_returns=2)(paths[owner], label, split)
    train_x, test_x = (FedNdarray({s.pyu(p): parts[p][i] for p in s.parties}, PartitionWay.VERTICAL) for i in (0, 1))
    model = SSRegression(s.spu())
    model.fit(
        train_x,
        FedNdarray({s.pyu(owner): train_y}, PartitionWay.VERTICAL),
        epochs=s.parameters["epochs"],
        learning_rate=s.parameters["learning_rate"],
        batch_size=s.parameters["batch_size"],
        sig_type="t1",
        reg_type="logistic",
        penalty="l2",
        l2_norm=s.parameters["l2_norm"],
        eps=0,
    )
    scores = model.predict(test_x, to_pyu=s.pyu(owner)).partitions[s.pyu(owner)]
    auc = sf.reveal(s.pyu(owner)(evaluate)(test_y, scores, s.output(owner, "predictions.csv")))
    s.result({"auc": auc, "train_rows": split})
