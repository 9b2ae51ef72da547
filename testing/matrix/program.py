"""The job of the matrix: a real program, as light as one that is connected to its peers can be."""

from __future__ import annotations

import json

from testing.matrix.cases import Case, Phase, Role

LOAD_S, RUN_S, LINGER_S = 4.0, 10.0, 12.0

PROGRAM = """
import json
import time

import secretflow

from coordinator.session import session

parameters = json.loads('''PARAMETERS''')


def last_to_leave(leave=secretflow.shutdown):
    leave()
    time.sleep(parameters["linger_s"])


time.sleep(parameters["load_s"])
with session() as s:
    time.sleep(parameters["run_s"])
    s.result({"done": True})
    if s.settings.party == parameters["lingers"]:
        # sf.shutdown ends with a barrier: only behind it can one party's driver outlive the other's
        secretflow.shutdown = last_to_leave
"""
JOB = """
name: matrix
description: Is connected for a while.
program: main.py
parties: [alice, bob]
max_attempts: 1
"""


def job(case: Case | None) -> dict[str, str]:
    """The job folder for a case; without one, the shortest."""

    phase = case.phase if case else None
    parameters = {
        "load_s": LOAD_S if phase is Phase.STARTING else 0,
        "run_s": RUN_S if phase is Phase.RUNNING else 0,
        "lingers": ("bob" if case and case.role is Role.INITIATOR else "alice") if phase is Phase.ENDING else "",
        "linger_s": LINGER_S,
    }
    return {"job.yaml": JOB, "main.py": PROGRAM.replace("PARAMETERS", json.dumps(parameters))}
