"""Two institutions run real jobs through their gateways, and the results are what plain computation gives."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from consortium.demo import Demo
from testing import Party


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def psi(institutions: Demo, alice: Party, bob: Party) -> dict[str, Any]:
    """The job's outcome, and what passed the two gateways while it ran."""
    before = {nodes.name: access_log(nodes) for nodes in (alice, bob)}
    outcome = institutions.run_job("psi")
    time.sleep(2)  # Envoy writes its access log once a second
    passed = {nodes.name: access_log(nodes)[len(before[nodes.name]) :] for nodes in (alice, bob)}
    return {**outcome, "passed": passed}


def access_log(nodes: Party) -> list[dict[str, Any]]:
    text = nodes.node("gateway").read("/var/log/consortium/access/access.log")
    return [json.loads(line) for line in text.splitlines()]


def test_psi_equals_the_plain_intersection(psi: dict[str, Any], institutions: Demo) -> None:
    customers = column(institutions.workspace("alice") / "data" / "customers.csv", "id")
    patients = column(institutions.workspace("bob") / "data" / "patients.csv", "id")
    assert len(customers) >= 100_000
    assert len(patients) >= 100_000
    common = sorted(set(customers) & set(patients))
    digest = hashlib.sha256("".join(f"{value}\n" for value in common).encode()).hexdigest()
    for party in ("alice", "bob"):
        result = psi["results"][party]["result"]
        assert result["intersection"] == len(common)
        assert result["sha256_of_sorted_ids"] == digest


def test_both_sides_hold_the_same_outcome_signed_by_both(psi: dict[str, Any], institutions: Demo) -> None:
    seen = {party: institutions.json(party, "job", "status", psi["job_id"]) for party in ("alice", "bob")}
    assert {view["phase"] for view in seen.values()} == {"succeeded"}
    signed = [
        {s["party"]: s["signature"] for s in view["statements"] if s["kind"] == "outcome"} for view in seen.values()
    ]
    assert set(signed[0]) == {"alice", "bob"}
    assert signed[0] == signed[1]


def test_the_gateways_account_for_the_jobs_bytes(psi: dict[str, Any]) -> None:
    """100,000 ids cannot be compared in less than some megabytes; all of them passed the two gateways."""
    for party, peer in (("alice", "bob"), ("bob", "alice")):
        job = [e for e in psi["passed"][party] if re.match(r"(fed|spu)-\d+$", str(e["service"]))]
        assert {e["peer"] for e in job} == {peer}
        assert {e["direction"] for e in job} == {"in", "out"}
        assert sum(e["bytes_sent"] + e["bytes_received"] for e in job) > 1_000_000
    # What alice's gateway sent out is what bob's took in, whichever side counts. Only a connection that was tried
    # before the other side listened counts at one side alone.
    for sender, receiver in (("alice", "bob"), ("bob", "alice")):
        out = [e for e in psi["passed"][sender] if e["direction"] == "out" and str(e["service"]).startswith("spu")]
        taken = [e for e in psi["passed"][receiver] if e["direction"] == "in" and str(e["service"]).startswith("spu")]
        for way in ("bytes_received", "bytes_sent"):
            assert sum(e[way] for e in out) == pytest.approx(sum(e[way] for e in taken), rel=0.001)


def test_logistic_regression_is_as_good_as_on_pooled_data(institutions: Demo) -> None:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    outcome = institutions.run_job("logistic_regression")
    tables = []
    for party, name in (("alice", "tumours_shape"), ("bob", "tumours_texture")):
        with (institutions.workspace(party) / "data" / f"{name}.csv").open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    label = np.array([float(row["malignant"]) for row in tables[0]])
    pooled = np.array(
        [
            [float(v) for row in rows for k, v in row.items() if k not in ("id", "malignant")]
            for rows in zip(*tables, strict=True)
        ]
    )
    split = outcome["results"]["alice"]["result"]["train_rows"]
    scaled = (pooled - pooled[:split].mean(0)) / pooled[:split].std(0)
    model = LogisticRegression(max_iter=1000).fit(scaled[:split], label[:split])
    plain = roc_auc_score(label[split:], model.predict_proba(scaled[split:])[:, 1])
    assert outcome["results"]["alice"]["result"]["auc"] == pytest.approx(plain, abs=0.02)


def test_logs_of_an_attempt_can_be_read(psi: dict[str, Any], institutions: Demo) -> None:
    text = institutions.consortium("bob", "job", "logs", psi["job_id"], capture=True)
    assert text.strip()


def test_the_two_drivers_entered_sf_init_together(psi: dict[str, Any], institutions: Demo) -> None:
    status = institutions.json("alice", "job", "status", psi["job_id"])
    assert status["skew_ms"] is not None
    assert status["skew_ms"] < 5000  # whether it is small is the benchmark's business; here: that it is measured
