"""The connection to a docker daemon, made when the first resource needs it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

REQUEST_SECONDS = 120


class Daemon:
    """One daemon; a client for each thread, as requests' sessions are not for sharing."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self._config = config or {}
        self._local = threading.local()
        self._opening = threading.Lock()
        self._forwarded = ""
        self.cancelled = threading.Event()

    @property
    def host(self) -> str:
        """The address, chosen as the official provider does."""
        default = "unix:///var/run/docker.sock"
        return self._config.get("host") or os.environ.get("DOCKER_HOST") or default

    @property
    def client(self) -> Any:
        """This thread's docker.APIClient, imported here: docker-py takes 0.3 s, and an `up` that
        changes nothing asks the daemon nothing."""
        if not hasattr(self._local, "client"):
            import docker

            cert = self._config.get("certPath") or os.environ.get("DOCKER_CERT_PATH")
            tls: Any = False
            if cert and not self.host.startswith("unix://"):
                folder = Path(cert)
                tls = docker.tls.TLSConfig(
                    ca_cert=str(folder / "ca.pem"),
                    client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
                    verify=True,
                )
            self._local.client = docker.APIClient(
                base_url=self._address(), version="auto", timeout=REQUEST_SECONDS, tls=tls
            )
        return self._local.client

    def _address(self) -> str:
        """The host, or the socket that leads to it over SSH; one for all threads, which ends with this process."""
        if not self.host.startswith("ssh://"):
            return self.host
        from consortium.engine_socket import EngineSocket

        with self._opening:
            if not self._forwarded:
                self._socket = EngineSocket(self.host)
                self._forwarded = self._socket.open()
        return self._forwarded

    def post(self, path: str, body: dict[str, Any]) -> None:
        """A request that docker-py has no function for, with docker-py's errors."""
        from docker.errors import create_api_error_from_http_exception
        from requests.exceptions import HTTPError

        client = self.client
        said = client.post(f"{client.base_url}/v{client.api_version}{path}", json=body)
        try:
            said.raise_for_status()
        except HTTPError as error:
            raise create_api_error_from_http_exception(error) from error
