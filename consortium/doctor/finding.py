"""What the doctor says about one thing it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CHECKS: dict[str, str] = {
    "document": "consortium.yaml, party files and stack settings are right and fit one another",
    "dns": "the host name of a gateway is known",
    "tcp": "something listens at a gateway's address",
    "tls": "what listens speaks TLS and knows this party",
    "identity": "the certificate shown is that party's: its CA, its name, its dates",
    "coordinator": "the own coordinator answers its operator",
    "kuscia": "the own Kuscia node takes the coordinator's certificate and token, and says that it works",
    "peer": "messages go to the peer and come back through both gateways, the clocks agree; of Kuscia: the route works",
    "slots": "the ports of every free slot are free",
    "folder": "the coordinator may write where jobs are laid",
    "ray": "the own Ray answers, in the agreed version",
    "dataset": "the file of a dataset is there and can be read; of Kuscia: the node knows the table",
    "secretflow": "the drivers' Python imports SecretFlow, in the agreed version",
}
"""Every check, in the order in which one rests on another."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `ok`: nothing is wrong; then `what` says what was seen. `fix`: what to do next."""

    check: str
    subject: str
    ok: bool
    what: str
    value: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def first_wrong(findings: list[Finding]) -> Finding | None:
    """What to mend first: later checks rest on earlier ones."""
    order = list(CHECKS)
    wrong = [one for one in findings if not one.ok]
    return min(wrong, key=lambda one: order.index(one.check), default=None)
