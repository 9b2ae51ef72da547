"""A gateway that lets peers in and then says no."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from testing.consortium import Consortium
from testing.faults import envoy
from testing.faults.fault import fault
from testing.faults.links import RELAY_PORT, relay


@fault("gateway")
def gateway_answers(consortium: Consortium, party: str, status: Literal[401, 404] = 401) -> Iterator[str]:
    """A gateway answers 401 or 404 to every request of a peer, on the ways of the coordinator and of the data.

    The way to the operator's API is left alone.
    """
    institution = consortium.party(party)

    def chosen(cluster: str) -> bool:
        return cluster.startswith(("in-coordinator", "in-fed-", "in-spu-"))

    with (
        relay(consortium, f"{party}-answers", institution, "127.0.0.1:1") as made,
        made.set(mode="answer", status=status),
        envoy.leading(institution.gateway, chosen, (made.address, RELAY_PORT)),
    ):
        yield f"{party}'s gateway answers {status} to its peers"
