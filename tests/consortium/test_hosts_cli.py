"""`consortium hosts`, as far as it needs no host."""

from __future__ import annotations

from pathlib import Path

import pytest

from consortium import ssh
from consortium.cli.hosts import _address
from consortium.errors import UsageError
from tests.builders import on_hosts
from tests.consortium import builders
from tests.consortium.conftest import Command


def test_containers_have_no_hosts(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path)
    said = command("hosts", "check", "--workspace", str(tmp_path))
    assert said.code == 2
    assert "its nodes are containers" in said.err


@pytest.mark.parametrize(
    ("text", "address"),
    [("head.example", ("head.example", 22)), ("10.0.0.5:2222", ("10.0.0.5", 2222)), ("fd00::5", ("fd00::5", 22))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert _address(text) == address


def test_a_port_is_a_number() -> None:
    with pytest.raises(UsageError, match="not an address"):
        _address("head.example:ssh")


def test_a_key_that_is_no_key_is_not_taken(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path)
    wrong = tmp_path / "key"
    wrong.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nno\n")
    said = command("hosts", "key", "--take", str(wrong), "--workspace", str(tmp_path))
    assert said.code == 3
    assert "cannot be used" in said.err
    missing = command("hosts", "key", "--take", str(tmp_path / "none"), "--workspace", str(tmp_path))
    assert "cannot be read" in missing.err


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Host key verification failed.", "another key"),
        ("No ED25519 host key is known for alice-head and you have requested strict checking.", "another key"),
        ("keeper@10.0.0.5: Permission denied (publickey).", "does not let this key in"),
        ("ssh: connect to host 10.0.0.5 port 22: Connection refused", "does not answer"),
    ],
)
def test_what_ssh_says_is_explained(said: str, kind: str) -> None:
    target = ssh.Target("alice-head", "10.0.0.5", 22, "keeper", True, ())
    assert kind in str(ssh.explained(target, 255, said))


def test_the_data_of_hosts_is_not_removed_from_afar(command: Command, tmp_path: Path) -> None:
    builders.write(tmp_path, stack=builders.stack(settings=builders.settings(**on_hosts()), sshKey=builders.SECRET))
    said = command("down", "--remove-data", "--yes", "--workspace", str(tmp_path))
    assert said.code == 2
    assert "by hand" in said.err
