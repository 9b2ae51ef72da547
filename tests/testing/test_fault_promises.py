"""What every fault promises, without a container: it says what it did, and undoes it once, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium.errors import TimedOut
from testing import faults
from testing.faults.fault import FAULTS, fault, until

done: list[str] = []


@pytest.fixture(autouse=True)
def _not_listed() -> Iterator[None]:
    """The faults of these tests are not among those that users find."""
    before = dict(FAULTS)
    done.clear()
    yield
    FAULTS.clear()
    FAULTS.update(before)


def broken(fails: bool = False, twice: bool = False) -> faults.Fault:
    @fault("tests")
    def lamp(room: str) -> Iterator[str]:
        """A lamp is out.

        More about it.
        """
        done.append("struck")
        try:
            if fails:
                raise RuntimeError("no such lamp")
            yield f"the lamp of {room} is out"
            if twice:
                yield "again"
        finally:
            done.append("undone")

    return lamp("the hall")


def test_it_says_what_it_did_and_undoes_it() -> None:
    with broken() as lamp:
        assert lamp.says == "the lamp of the hall is out"
        assert done == ["struck"]
    assert done == ["struck", "undone"]


def test_it_is_undone_when_the_body_raises() -> None:
    with pytest.raises(KeyError), broken():
        raise KeyError
    assert done == ["struck", "undone"]


def test_undoing_twice_is_undoing_once() -> None:
    with broken() as lamp:
        lamp.undo()
    assert done == ["struck", "undone"]


def test_a_strike_that_fails_half_way_is_undone() -> None:
    with pytest.raises(RuntimeError, match="no such lamp"), broken(fails=True):
        pass
    assert done == ["struck", "undone"]


def test_a_fault_that_strikes_twice_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="more than once"), broken(twice=True):
        pass


def test_it_is_listed_with_its_first_line_and_parameters() -> None:
    broken()
    listed = FAULTS["lamp"]
    assert (listed.family, listed.text, listed.parameters) == ("tests", "A lamp is out.", ("room",))


def test_every_fault_can_be_imported_from_the_package_and_says_what_it_does() -> None:
    for name, kind in FAULTS.items():
        assert name in faults.__all__
        assert kind.text.endswith((".", ";")), kind
        assert (Path(faults.__file__).parent / f"{getattr(faults, name).__module__.rpartition('.')[2]}.py").exists()


def test_until_names_what_did_not_happen() -> None:
    with pytest.raises(TimedOut, match="the spring did not happen"):
        until(lambda: False, "the spring", 0.1, 0.02)
