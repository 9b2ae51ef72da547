"""A container engine behind SSH, as a socket of this machine.

docker-py and Ansible's connection speak SSH only through paramiko, which knows neither the operator's configuration nor
his agent. OpenSSH's own program knows both; it refuses a host whose key is not known to it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from consortium.errors import Unreachable

SOCKET = "/var/run/docker.sock"
CONNECT_S = 15
_READY = b"ready\n"


class EngineSocket:
    """A socket that leads to the engine at `ssh://[USER@]HOST[:PORT][/SOCKET]`, from `open` to `close`.

    It also ends with this process, however that ends: the other side waits for the end of a pipe.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = tempfile.TemporaryDirectory(prefix="consortium-engine-")
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> str:
        """Connect, and return the address `unix://…`. Raises Unreachable with what ssh said."""
        socket = Path(self._folder.name) / "docker.sock"
        parts = urlsplit(self.url)
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ExitOnForwardFailure": "yes",
            "StreamLocalBindMask": "0177",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": "15",
            "ControlPath": "none",
        }
        arguments = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        arguments += ["-p", str(parts.port)] if parts.port else []
        arguments += ["-l", parts.username] if parts.username else []
        remote = parts.path if parts.path.strip("/") else SOCKET
        self._process = subprocess.Popen(
            ["ssh", *arguments, "-L", f"{socket}:{remote}", "--", parts.hostname or "", "echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != _READY:
            said = self._process.communicate()[1].decode(errors="replace")
            self.close()
            raise Unreachable(
                "the container engine's machine does not answer over SSH",
                where=self.url,
                value=said.strip()[-1000:],
                fix="`ssh` to that machine must work without a question: its key in known_hosts, yours in its "
                "authorized_keys or an agent; the user must be in group docker there",
            )
        return f"unix://{socket}"

    def close(self) -> None:
        """End the connection; harmless when there is none."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream:
                    stream.close()
        self._process = None
        self._folder.cleanup()


@contextmanager
def local(engine: str) -> Iterator[str]:
    """The address at which this machine reaches an engine: `engine` itself, or a socket that lasts as long as this."""
    if not engine.startswith("ssh://"):
        yield engine
        return
    socket = EngineSocket(engine)
    try:
        yield socket.open()
    finally:
        socket.close()
