"""One attacked institution for all tests here: whatever they do to it, it must still serve the next one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.spec import Model
from tests import builders
from tests.gateway.conftest import Gateway, addresses, run
from tests.gateway.loopback_gateways import wait_for
from tests.outside.rig import MEMBERS, Attacked, run_coordinator

__all__ = ["addresses"]
sys.path.insert(0, str(Path(__file__).parents[1] / "coordinator"))  # its tables of attacks are used here too


def hurry(gateway: Gateway, model: Model) -> None:
    """Two minutes for one request are too long for a test; the shorter bound comes as every new file does."""
    listeners = (gateway.folder / "lds.yaml").read_text()
    bound = f"request_timeout: {model.timeouts.gateway_request_s}s"
    assert listeners.count(bound) == len(model.peers)
    gateway.lay("lds.yaml", listeners.replace(bound, "request_timeout: 6s"))
    wait_for(lambda: "lds.update_success: 2" in gateway.admin("/stats?filter=lds.update_success"))


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> Iterator[Attacked]:
    """bob, with a real gateway and a real coordinator."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "gateway").mkdir()
    model = builders.model(*MEMBERS, own="bob")
    gateway = run("bob", model, folder / "gateway", addresses, stand_in=())
    hurry(gateway, model)
    try:
        process = run_coordinator(gateway, folder / "head", addresses["bob-head"])
        try:
            yield Attacked(gateway, folder / "head", addresses["bob-head"], process)
        finally:
            process.kill()
            process.wait()
    finally:
        gateway.stop()


@pytest.fixture
def bob(attacked: Attacked) -> Iterator[Attacked]:
    """The same, checked after every test: others are served, and nothing inside broke off with an error of its own."""
    before = len(attacked.log)
    yield attacked
    assert attacked.alive()
    assert "Traceback" not in attacked.log[before:], attacked.log[before:][-3000:]
