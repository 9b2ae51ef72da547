"""Speaks to hosts over SSH, by OpenSSH's own program.

The private key stands in clear in a private folder only (0700, the file 0600), and only while it is needed. A host
whose key is not among the pinned ones is not spoken to; nothing of the operator's own configuration or agent takes
part.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from consortium.errors import ConsortiumError, Problem, Unreachable

KEY, KNOWN_HOSTS = "key", "known_hosts"
CONNECT_S = 15
ANSWER_S = 60.0
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")


@dataclass(frozen=True)
class Target:
    """One host, as this machine reaches it. Holds no secret."""

    name: str
    address: str
    port: int
    user: str
    become: bool
    host_keys: tuple[str, ...]

    def as_props(self) -> dict[str, Any]:
        """As it stands in Pulumi's state."""
        return {**asdict(self), "host_keys": list(self.host_keys)}

    @classmethod
    def from_props(cls, props: Mapping[str, Any]) -> Target:
        """From Pulumi's state, which knows numbers and lists only."""
        return cls(
            str(props["name"]),
            str(props["address"]),
            int(props["port"]),
            str(props["user"]),
            bool(props["become"]),
            tuple(str(key) for key in props["host_keys"]),
        )


class HostRefused(ConsortiumError):
    """The host shows another key than the pinned ones, or does not let us in."""


def make_key(comment: str) -> tuple[str, str]:
    """A new ed25519 key: private as OpenSSH writes it, public as a line of authorized_keys."""
    key = ed25519.Ed25519PrivateKey.generate()
    return _private_text(key), f"{_public_text(key)} {comment}"


def public_key(private: str, comment: str) -> str:
    """The line of authorized_keys that goes with a private key. Raises Problem for what is no key, or a locked one."""
    try:
        key = serialization.load_ssh_private_key(normal(private).encode(), password=None)
    except (ValueError, TypeError) as error:
        raise Problem(
            "the SSH key cannot be used",
            where="consortium:sshKey",
            value="(not shown)",
            allowed="a private key in OpenSSH's format without a passphrase",
            fix="consortium hosts key makes one",
        ) from error
    return f"{_public_text(key)} {comment}"


def normal(private: str) -> str:
    """The text of a key as OpenSSH wants it: it reads none whose last line has no end."""
    return private.strip() + "\n"


def files(key: str, targets: Iterable[Target]) -> dict[str, str]:
    """What a private folder must hold: the key, and the pinned keys of the hosts by their names."""
    lines = [f"{target.name} {host_key}\n" for target in targets for host_key in target.host_keys]
    return {KEY: normal(key), KNOWN_HOSTS: "".join(lines)}


def options(folder: str, name: str) -> list[str]:
    """Arguments of ssh that make it use the files in `folder` and nothing else."""
    settings = {
        "UserKnownHostsFile": f"{folder}/{KNOWN_HOSTS}",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": name,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentityFile": f"{folder}/{KEY}",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_S),
    }
    return ["-F", "/dev/null", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]


@dataclass(frozen=True)
class Shown:
    """A key that a host presents to anyone who asks."""

    text: str
    """`type base64`, as in `host_keys`."""
    fingerprint: str
    """As `ssh-keygen -l` says it on the host."""


def scanned(address: str, port: int) -> list[Shown]:
    """The keys that whoever answers at an address presents; nobody vouches for them. Raises Unreachable."""
    command = ["ssh-keyscan", "-T", str(CONNECT_S), "-p", str(port), "-t", "ed25519,ecdsa,rsa", "--", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    lines = [line.split()[1:3] for line in done.stdout.splitlines() if line and not line.startswith("#")]
    if not lines:
        raise Unreachable("no SSH server answers", where=f"{address} port {port}", value=done.stderr.strip())
    return [Shown(f"{kind} {text}", _fingerprint(kind, text)) for kind, text in sorted(lines)]


def _fingerprint(kind: str, text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(text)).digest()).decode().rstrip("=")
    return f"SHA256:{digest} ({kind})"


@contextmanager
def access(key: str, targets: Iterable[Target]) -> Iterator[Path]:
    """A private folder with what `options` speaks of, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="consortium-ssh-") as name:
        folder = Path(name)
        for file, text in files(key, targets).items():
            with os.fdopen(os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
                handle.write(text)
        yield folder


def command(folder: Path, target: Target, *more: str) -> list[str]:
    """The call of ssh to a host; what is to be done there comes after it. Raises ConsortiumError without an ssh."""
    program = shutil.which("ssh")
    if not program:
        raise ConsortiumError("there is no ssh on this machine", fix="apt-get install openssh-client")
    where = ["-p", str(target.port), "-l", target.user, *more, "--", target.address]
    return [program, *options(str(folder), target.name), *ALIVE, *where]


def run(folder: Path, target: Target, script: str) -> str:
    """What a script of sh prints on a host. Raises Unreachable, HostRefused, ConsortiumError."""
    try:
        done = subprocess.run(
            [*command(folder, target), script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{target.name} did not answer in {ANSWER_S:.0f} s", where=place(target)) from error
    if done.returncode:
        raise explained(target, done.returncode, done.stderr)
    return done.stdout


def place(target: Target) -> str:
    """How a person would write where a host is."""
    return f"{target.name} ({target.user}@{target.address} port {target.port})"


def explained(target: Target, code: int, said: str) -> ConsortiumError:
    """The error for what ssh said when it ended with `code`; 255 is ssh's own."""
    said = "\n".join(line for line in said.strip().splitlines() if not line.startswith(("Warning: Permanently", "@")))
    if re.search(r"(?i)host key verification failed|no .*host key is known|identification has changed", said):
        return HostRefused(
            "the host shows another key than those that are pinned: it is not spoken to",
            where=place(target),
            fix="compare with its console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`); only if the host was "
            "installed anew: consortium hosts scan, then host_keys in the stack settings",
        )
    if "Permission denied" in said:
        return HostRefused(
            "the host does not let this key in",
            where=place(target),
            value=said,
            fix="put what `consortium hosts key` prints into ~/.ssh/authorized_keys of that user there",
        )
    if code == 255:
        return Unreachable(
            "the host does not answer", where=place(target), value=said, fix="is its sshd up and open to this machine?"
        )
    return ConsortiumError(f"a command on the host ended with exit code {code}", where=place(target), value=said)


def _private_text(key: ed25519.Ed25519PrivateKey) -> str:
    how = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    return key.private_bytes(*how).decode()


def _public_text(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text.decode()
