"""Which image a bake begins with."""

from __future__ import annotations

from typing import Any

import pytest

from consortium import base_image
from consortium.base_image import DEBOOTSTRAP, DEFAULT_BASE, ON_ENGINE, NoBaseImage, ensure_base, own_name, source_of
from tests.consortium.lock_builders import FakeEngine, silent

AT_REGISTRY = f"debian@sha256:{'a' * 64}"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What debootstrap was asked to make; nothing is."""
    found: list[str] = []
    monkeypatch.setattr(base_image, "_debootstrap", lambda _client, name, mirror, _progress: found.append(name))
    return found


def ensure(engine: FakeEngine, base: str = DEFAULT_BASE, **options: Any) -> str:
    return ensure_base(engine, base, None, silent, **options)  # type: ignore[arg-type]


def test_what_is_there_is_taken(made: list[str]) -> None:
    assert ensure(FakeEngine(DEFAULT_BASE, own_name())) == DEFAULT_BASE
    assert ensure(FakeEngine(own_name())) == own_name()
    assert ensure(FakeEngine("x:1"), "x:1") == "x:1"
    assert made == []


def test_else_it_is_pulled_and_the_default_also_made(made: list[str]) -> None:
    assert ensure(FakeEngine(registry=(DEFAULT_BASE,))) == DEFAULT_BASE
    assert made == []
    assert ensure(FakeEngine()) == own_name()
    assert made == [own_name()]


def test_another_base_is_never_replaced(made: list[str]) -> None:
    with pytest.raises(NoBaseImage, match="cannot be pulled"):
        ensure(FakeEngine(own_name()), "x:1")
    assert made == []


def test_a_locked_source_is_the_only_one(made: list[str]) -> None:
    assert ensure(FakeEngine(DEFAULT_BASE, registry=(DEFAULT_BASE,)), source=DEBOOTSTRAP) == own_name()
    assert made == [own_name()]
    engine = FakeEngine(DEFAULT_BASE, own_name(), registry=(AT_REGISTRY,))
    assert ensure(engine, source=AT_REGISTRY) == AT_REGISTRY
    assert engine.pulled == [AT_REGISTRY]
    with pytest.raises(NoBaseImage):
        ensure(FakeEngine(DEFAULT_BASE, own_name()), source=AT_REGISTRY)
    with pytest.raises(NoBaseImage):
        ensure(FakeEngine(own_name()), source=ON_ENGINE)
    assert made == [own_name()]


def test_renewing_makes_it_again(made: list[str]) -> None:
    assert ensure(FakeEngine(own_name()), source=DEBOOTSTRAP, renew=True) == own_name()
    assert made == [own_name()]


def test_the_source_of_an_image_is_how_others_come_to_it() -> None:
    assert source_of(FakeEngine(), own_name()) == DEBOOTSTRAP  # type: ignore[arg-type]
    assert source_of(FakeEngine("x:1"), "x:1") == ON_ENGINE  # type: ignore[arg-type]
    assert source_of(FakeEngine("x:1", digests=(AT_REGISTRY,)), "x:1") == AT_REGISTRY  # type: ignore[arg-type]


def test_the_recipe_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_name()
    monkeypatch.setattr(base_image, "INCLUDE", ("ca-certificates",))
    assert own_name() != before
