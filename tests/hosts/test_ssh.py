"""The way to a host: a pinned key or none, nothing of the operator's own, and no key left behind."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium import ssh
from consortium.errors import Problem, Unreachable
from consortium.machines import look
from consortium.ssh import HostRefused, Target
from tests import builders
from tests.hosts.machine import USER, Machine, SshKey, make_ssh_key


def target(machine: Machine, **overrides: object) -> Target:
    props = {
        "name": "alice-head",
        "address": machine.address,
        "port": 22,
        "user": USER,
        "become": True,
        "host_keys": [machine.host_key],
    }
    return Target.from_props({**props, **overrides})


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may leave a private folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("consortium-*")) == []


def test_a_machine_says_what_it_is(one_machine: Machine, ssh_key: SshKey) -> None:
    facts = look(ssh_key.private, target(one_machine))
    assert facts["machine_id"] == one_machine.sh("cat /etc/machine-id").strip()
    assert facts["system"].startswith("Debian GNU/Linux 12")
    assert int(facts["memory_mb"]) > 100


def test_a_host_with_another_key_is_not_spoken_to(one_machine: Machine, ssh_key: SshKey) -> None:
    other = make_ssh_key().public
    with pytest.raises(HostRefused, match="another key than those that are pinned") as caught:
        look(ssh_key.private, target(one_machine, host_keys=[other]))
    assert "ssh-keygen -lf" in caught.value.fix


def test_a_key_that_the_host_does_not_know_is_named_with_its_fix(one_machine: Machine) -> None:
    with pytest.raises(HostRefused, match="does not let this key in") as caught:
        look(make_ssh_key().private, target(one_machine))
    assert "consortium hosts key" in caught.value.fix


def test_nobody_there(one_machine: Machine, ssh_key: SshKey) -> None:
    with pytest.raises(Unreachable, match=r"alice-head .* port 9"):
        look(ssh_key.private, target(one_machine, port=9))


def test_the_key_is_readable_for_its_owner_only_and_only_for_a_while(one_machine: Machine, ssh_key: SshKey) -> None:
    with ssh.access(ssh_key.private, [target(one_machine)]) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert "PRIVATE KEY" not in " ".join(ssh.command(folder, target(one_machine)))
        assert ssh.run(folder, target(one_machine), "id -un").strip() == USER
    assert not folder.exists()


def test_an_address_is_never_taken_for_an_option(one_machine: Machine, ssh_key: SshKey, tmp_path: Path) -> None:
    """The settings refuse such an address; should one come by another way, it is still only an address."""
    evil = target(one_machine, address=f"-oProxyCommand=touch {tmp_path}/hit")
    with pytest.raises(Unreachable):
        look(ssh_key.private, evil)
    assert not (tmp_path / "hit").exists()


def test_a_scan_shows_what_the_console_says(one_machine: Machine) -> None:
    shown = {key.text: key.fingerprint for key in ssh.scanned(one_machine.address, 22)}
    console = one_machine.sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert shown[one_machine.host_key].startswith(f"{console} ")
    with pytest.raises(Unreachable, match="no SSH server answers"):
        ssh.scanned(one_machine.address, 9)


@pytest.mark.parametrize("text", ["", "no key", builders.HOST_KEY])
def test_what_is_no_private_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Problem, match="cannot be used") as caught:
        ssh.public_key(text, "alice")
    assert not text or text not in str(caught.value)


def test_a_new_key_is_one_that_openssh_reads() -> None:
    private, public = ssh.make_key("alice")
    assert ssh.public_key(private.strip(), "alice") == public
    assert public.startswith("ssh-ed25519 ")
