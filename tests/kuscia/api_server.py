"""A real Kubernetes API server on loopback: kube-apiserver and etcd, without nodes and controllers.

It is there to judge objects: every create is strict; a field that the schema does not know is an error, not dropped.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.coordinator.coordinator_rig import free_ports

ROOT = Path(__file__).resolve().parents[2]
START_S = 60
Object = dict[str, Any]


class Rejected(AssertionError):
    """The server does not take an object; its own words."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.code, self.reason = int(answer["code"]), str(answer.get("reason", ""))
        super().__init__(f"{self.code} {self.reason}: {answer.get('message')}")


@dataclass(frozen=True)
class ApiServer:
    """What speaks to the server as an administrator."""

    client: httpx.Client
    paths: dict[tuple[str, str], tuple[str, bool]]
    """(apiVersion, kind) → (path of the resource, namespaced); filled as kinds are met."""

    def call(self, method: str, path: str, body: object = None, **parameters: str) -> Object:
        """The answer's JSON. Raises Rejected."""
        answer = self.client.request(method, path, json=body, params=parameters)
        found = answer.json()
        if answer.is_error:
            raise Rejected(found)
        return dict(found)

    def create(self, body: Object, namespace: str = "default") -> Object:
        """The object as it is stored. Raises Rejected, for an unknown or a doubled field too."""
        namespace = body["metadata"].get("namespace", namespace)
        return self.call("POST", self.path(body, namespace), body, fieldValidation="Strict")

    def read(self, body: Object, namespace: str = "default") -> Object:
        """What is stored under the object's kind and name. Raises Rejected with code 404."""
        namespace = body["metadata"].get("namespace", namespace)
        return self.call("GET", f"{self.path(body, namespace)}/{body['metadata']['name']}")

    def namespace(self) -> str:
        """A new namespace."""
        name = f"test-{secrets.token_hex(4)}"
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def path(self, body: Mapping[str, Any], namespace: str) -> str:
        """Where objects of this kind are."""
        version, kind = str(body["apiVersion"]), str(body["kind"])
        if (version, kind) not in self.paths:
            base = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for resource in self.call("GET", base)["resources"]:
                if "/" not in resource["name"]:
                    self.paths[version, resource["kind"]] = (f"{base}/%s{resource['name']}", resource["namespaced"])
        path, namespaced = self.paths[version, kind]
        return path % (f"namespaces/{namespace}/" if namespaced else "")

    def define(self, definition: Object, deadline_s: float = 30) -> None:
        """Create a CustomResourceDefinition and wait until its kind is served."""
        self.create(definition)
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            conditions = self.read(definition).get("status", {}).get("conditions") or []  # null at first
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                return
            time.sleep(0.05)
        raise AssertionError(f"{definition['metadata']['name']} is not established after {deadline_s} s: {conditions}")


def programs() -> Path:
    """The folder of kube-apiserver and etcd; made on the first run of a machine only."""
    command = [sys.executable, str(ROOT / "tools" / "kubernetes" / "install.py")]
    return Path(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """The server, its files in `folder`; it ends with the context."""
    binaries = programs()
    etcd, peer, port = free_ports(3)
    token = secrets.token_hex(16)
    key = folder / "service-accounts.pem"
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    store = [
        str(binaries / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{etcd}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        # Without it a watch of a kind of which nothing is written ends after 3 s: "Too large resource version".
        "--experimental-watch-progress-notify-interval=500ms",
    ]
    server = [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.254.0.0/24",
    ]
    with _process(store, folder / "etcd.log"), _process(server, folder / "kube-apiserver.log") as process:
        url = f"https://127.0.0.1:{port}"
        _wait(process, url, folder)
        verify = ssl.create_default_context(cafile=str(folder / "certificates" / "apiserver.crt"))
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, verify=verify, headers=headers, timeout=30) as client:
            yield ApiServer(client, {})


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    """Until the server says that it is ready; the end of its log if it does not."""
    end = time.monotonic() + START_S
    last = ""
    while time.monotonic() < end and process.poll() is None:
        # Its certificate comes into being while it starts; nothing is said here that needs trust.
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}/readyz", verify=False, timeout=5)
            if answer.status_code == 200:
                return
            last = answer.text
        time.sleep(0.2)
    tail = "\n".join((folder / "kube-apiserver.log").read_text().splitlines()[-20:])
    how = f"is not ready after {START_S} s: {last}" if process.poll() is None else f"ended with {process.poll()}"
    raise AssertionError(f"kube-apiserver {how}\n{tail}")


def lost(wanted: object, found: object, where: str = "") -> list[str]:
    """Where `found` has not what stands in `wanted`; the server may add what it defaults."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return [
            text
            for key, value in wanted.items()
            for text in (lost(value, found[key], f"{where}.{key}") if key in found else [f"{where}.{key} is not there"])
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [text for index, (one, other) in pairs for text in lost(one, other, f"{where}[{index}]")]
    amounts = where.endswith((".limits.memory", ".limits.cpu", ".requests.memory", ".requests.cpu"))
    same = json.dumps(wanted) == json.dumps(found) or (amounts and _amount(str(wanted)) == _amount(str(found)))
    return [] if same else [f"{where}: {wanted!r} became {found!r}"]


def _amount(text: str) -> Fraction:
    """A quantity of Kubernetes, which stores 4096Mi as 4Gi."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    units = {"": 1, "m": Fraction(1, 1000)} | {f"{k}": 1000**n for n, k in enumerate("kMGT", 1)}
    units |= {f"{k}i": 1024**n for n, k in enumerate("KMGT", 1)}
    return Fraction(number) * units[unit]
