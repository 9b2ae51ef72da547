"""Keeps a worker of Ray that is drained until nothing of it is needed any more. Runs there, as a Ray job of its own.

A drained node of Ray 2.9 ends with its last task, also when the answer of that task is still only there: the raylet
does not count an object that has just been made. Whoever asks for it has to compute it again, or waits for ever if
the task belongs on that node. While this runs, Ray holds the node for busy; it ends once nothing else uses it.
Whether its drain came in time does not matter then: there is nobody to wait for this, so nobody has to be alive.
"""

from __future__ import annotations

import os
import sys
import time

LOOKS, EVERY_S = 4, 0.5
"""So many looks in a row must find nothing. The GCS hears of objects every 0.1 s."""
IDLE = ("ray::IDLE", "ray::IDLE_SpillWorker", "ray::IDLE_RestoreWorker")
"""Titles of Ray processes that wait for work (ray/_private/ray_constants.py)."""


def needed(available: dict[str, float], total: dict[str, float], programs: list[str]) -> list[str]:
    """What of a node is in use. `programs`: titles of its Ray processes, without this job's own.

    A resource named `node:` is a place, of which this job holds a bit itself; who else does has a process too.
    """
    held = [name for name in sorted(total) if not name.startswith("node:") and available.get(name, 0) < total[name]]
    return held + sorted(name for name in programs if name.startswith("ray::") and name not in IDLE)


def resources(gcs: object, node: str) -> tuple[dict[str, float], dict[str, float]]:
    """Available and total of a node, by its id (hex), as the GCS knows them."""
    from ray.core.generated import autoscaler_pb2

    reply = autoscaler_pb2.GetClusterStatusReply()
    reply.ParseFromString(gcs.get_cluster_status())  # type: ignore[attr-defined]
    for state in reply.cluster_resource_state.node_states:
        if state.node_id.hex() == node:
            return dict(state.available_resources), dict(state.total_resources)
    raise LookupError(f"the GCS does not know node {node}")


def programs() -> list[str]:
    """Titles of this node's Ray processes: those that the same raylet has started, but for this job's supervisor."""
    import psutil

    supervisor = psutil.Process(os.getppid())
    found = []
    for process in supervisor.parent().children():
        try:
            found += [] if process.pid == supervisor.pid else process.cmdline()[:1]
        except psutil.Error:  # ended meanwhile
            continue
    return found


def main() -> None:
    from ray._raylet import GcsClient

    gcs, nothing = GcsClient(address=os.environ["RAY_ADDRESS"], nums_reconnect_retry=0), 0
    while nothing < LOOKS:
        try:
            used = needed(*resources(gcs, sys.argv[1]), programs())
        except Exception as error:  # a GCS that is started anew; without one, nothing is known to be free
            used = [f"unknown: {error}"]
        nothing = 0 if used else nothing + 1
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
