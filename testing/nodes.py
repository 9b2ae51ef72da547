"""The nodes of a party: containers that can be looked into and acted upon."""

from __future__ import annotations

from dataclasses import dataclass

import docker
import docker.errors
from docker.models.containers import Container

LOG_LINES = 200
_TAIL = f'for f in $(find /var/log/consortium -type f -name current -o -name access.log); do echo "== $f"; tail -n {LOG_LINES} "$f"; done'  # fmt: skip # noqa: E501


class NodeCommandFailed(AssertionError):
    """A command on a node ended with an exit code other than 0."""


@dataclass(frozen=True)
class Node:
    """One node of one party."""

    engine: docker.DockerClient
    consortium: str
    name: str
    """Host name, such as `alice-head`."""
    party: str
    role: str
    """head, worker or gateway."""

    @property
    def container(self) -> Container:
        """As the engine knows it now. Raises docker.errors.NotFound."""
        return self.engine.containers.get(f"{self.consortium}-{self.name}")

    def run(self, *command: str, user: str = "root") -> tuple[int, str]:
        """Exit code and output of a command on the node."""
        code, output = self.container.exec_run(list(command), user=user)
        assert code is not None
        assert isinstance(output, bytes)
        return code, output.decode(errors="replace")

    def check(self, *command: str, user: str = "root") -> str:
        """Output of a command on the node. Raises NodeCommandFailed with it if the exit code is not 0."""
        code, output = self.run(*command, user=user)
        if code:
            raise NodeCommandFailed(f"{self.name}: {' '.join(command)}: exit code {code}\n{output}")
        return output

    def read(self, path: str) -> str:
        """A text file of the node."""
        return self.check("cat", path)

    @property
    def address(self) -> str:
        """Its IP address on the party's inside network."""
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        return str(next(n["IPAddress"] for name, n in networks.items() if name.endswith("-inside")))

    def logs(self) -> str:
        """The end of each service's log; of a node that does not run, what it printed last."""
        try:
            container = self.container
            if container.status == "running":
                return self.run("sh", "-c", _TAIL)[1]
            return f"({container.status})\n" + container.logs(tail=LOG_LINES).decode(errors="replace")
        except docker.errors.NotFound:
            return "(no such container)"
