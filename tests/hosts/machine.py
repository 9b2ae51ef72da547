"""Containers that stand for machines: systemd as process 1, sshd, nftables, chrony. Nothing of them is privileged, but
systemd needs the right to mount, and the firewall the right to filter.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import docker
import docker.errors
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from docker.models.containers import Container

from consortium.engine import engine_address
from consortium.nodefiles import NodeFile

LABEL = "consortium.test-machine"
USER = "keeper"
"""May become root by sudo, as an administrator of a real machine may."""
BOOT_S = 60.0
PACKAGES = "systemd systemd-sysv dbus openssh-server nftables chrony sudo procps iproute2 python3"
RECIPE = f"""\
FROM {{base}}
USER root
RUN apt-get update -q && apt-get install -yq --no-install-recommends {PACKAGES} && rm -rf /var/lib/apt/lists/*
RUN rm -f /etc/ssh/ssh_host_* /etc/machine-id && useradd --create-home --shell /bin/bash {USER} \\
 && echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}
# A clock of its own, which it does not set: there is no source of time in a test.
RUN echo 'DAEMON_OPTS="-F 1 -x"' > /etc/default/chrony && echo 'local stratum 10' > /etc/chrony/chrony.conf \\
 && mkdir -p /etc/systemd/system/chrony.service.d \\
 && printf '[Unit]\\nConditionCapability=\\n' > /etc/systemd/system/chrony.service.d/test.conf \\
 && mkdir -p /etc/systemd/system/ssh.service.d \\
 && printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\n' \\
      > /etc/systemd/system/ssh.service.d/test.conf \\
 && systemctl mask ssh.socket chrony-wait && systemctl enable ssh chrony
STOPSIGNAL SIGRTMIN+3
HEALTHCHECK NONE
ENTRYPOINT ["/sbin/init"]
CMD []
"""


@dataclass(frozen=True)
class SshKey:
    """A key pair for sshd: `private` as OpenSSH writes it, `public` as one line of authorized_keys."""

    private: str
    public: str


def make_ssh_key() -> SshKey:
    key = Ed25519PrivateKey.generate()
    formats = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, *formats).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return SshKey(private, public)


def machine_image(engine: docker.DockerClient, base: str) -> str:
    """The image of a machine on `base`, built once for each recipe and base."""
    recipe = RECIPE.format(base=base)
    name = f"consortium-test-machine:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    try:
        engine.images.get(name)
    except docker.errors.ImageNotFound:
        engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=name, rm=True, labels={LABEL: "image"})
    return name


class Machine:
    """One machine, running from here on."""

    def __init__(
        self,
        engine: docker.DockerClient,
        image: str,
        authorized: str,
        *,
        published: Mapping[int, int] | None = None,
        volumes: Mapping[str, str] | None = None,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        capabilities: Sequence[str] = (),
    ) -> None:
        v2 = str(engine.info().get("CgroupVersion", "1")) == "2"
        more = {"cgroupns": "host"} if v2 else {}
        mounts = {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw" if v2 else "ro"}}
        mounts |= {name: {"bind": place, "mode": "rw"} for name, place in (volumes or {}).items()}
        self.container: Container = engine.containers.create(
            image,
            name=f"machine-{name or 'one'}-{secrets.token_hex(4)}",
            labels={LABEL: "machine", **(labels or {})},
            tmpfs={"/run": "exec", "/run/lock": ""},
            volumes=mounts,
            cap_add=["SYS_ADMIN", "NET_ADMIN", *capabilities],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            ports={f"{inner}/tcp": (engine_address(), outer) for inner, outer in (published or {}).items()},
            shm_size="512m",
            **more,
        )
        try:
            self.container.start()
            self.container.reload()
            self._wait()
            for home, owner in (("/root", "root"), (f"/home/{USER}", USER)):
                self.sh(f"mkdir -p {home}/.ssh && echo '{authorized}' >> {home}/.ssh/authorized_keys")
                self.sh(f"chown -R {owner} {home}/.ssh && chmod -R go= {home}/.ssh")
        except BaseException:
            self.remove()
            raise

    @property
    def address(self) -> str:
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    @property
    def host_key(self) -> str:
        """Its sshd's key, read at its console."""
        return " ".join(self.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    def run(self, *command: str, user: str = "root") -> tuple[int, str]:
        """Exit code and output, by way of a file: an exec's own stream can lose its beginning."""
        said = f"/var/tmp/said-{user}"
        script = f'"$@" > {said} 2>&1'
        code, _ = self.container.exec_run(["sh", "-c", script, "sh", *command], user=user)
        assert code is not None
        pieces, _ = self.container.get_archive(said)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            assert file
            return code, file.read().decode(errors="replace")

    def sh(self, script: str, user: str = "root") -> str:
        """Output of a script; AssertionError with it when it fails."""
        code, output = self.run("sh", "-c", script, user=user)
        assert code == 0, f"{script}: exit code {code}\n{output}"
        return output

    def lay(self, files: Iterable[NodeFile]) -> None:
        """Put files of a node there, with their modes, owned by root."""
        for file in files:
            self.write(file.path, file.content, int(file.mode, 8))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put one file there."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(text.encode()), mode
            tar.addfile(member, io.BytesIO(text.encode()))
        assert self.container.put_archive("/", buffer.getvalue())

    def settings(self, **more: object) -> dict[str, object]:
        """The entry of this machine below `ssh` in the stack settings."""
        return {"address": self.address, "host_keys": [self.host_key], **more}

    def remove(self) -> None:
        self.container.remove(force=True, v=True)

    def _wait(self) -> None:
        end = time.monotonic() + BOOT_S
        while "running" not in (said := self.run("systemctl", "is-system-running")[1]) and "degraded" not in said:
            assert time.monotonic() < end, f"the machine did not boot: {said}\n{self.container.logs().decode()}"
            time.sleep(0.3)
