"""The way to a KusciaAPI on a host's loopback: by `ssh -W`, with pinned keys."""

from __future__ import annotations

import httpx
import pytest

from consortium.errors import Unreachable
from consortium.kuscia.door import Way, door
from consortium.ssh import Target
from tests.hosts.machine import USER, Machine, SshKey

SERVER = "python3 -m http.server --bind 127.0.0.1 8082 --directory /usr/share/base-files > /dev/null 2>&1 &"


def way(machine: Machine, key: SshKey) -> Way:
    found = machine.settings()
    target = Target("alice-head", str(found["address"]), 22, USER, True, tuple(map(str, found["host_keys"])))  # type: ignore[call-overload]
    return Way(target=target.as_props(), ssh_key=key.private)


def test_loopback_of_the_host_is_reached_and_nothing_else_is_opened(one_machine: Machine, ssh_key: SshKey) -> None:
    one_machine.sh(SERVER + " sleep 1")
    with door(way(one_machine, ssh_key), "http://127.0.0.1:8082") as url:
        answer = httpx.get(f"{url}/motd", trust_env=False)
        assert answer.status_code == 200
        assert "Debian" in answer.text


def test_a_port_on_which_nobody_listens_is_told(one_machine: Machine, ssh_key: SshKey) -> None:
    with pytest.raises(Unreachable) as caught, door(way(one_machine, ssh_key), "http://127.0.0.1:9") as url:
        httpx.get(url, trust_env=False)
    assert "refused" in str(caught.value).lower()
