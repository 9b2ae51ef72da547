"""What the plugin and the classes refuse, and how a run without a consortium looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consortium.errors import ConsortiumError, UsageError
from testing import Consortium
from testing.party import _folder, _merged

pytest_plugins = ["pytester"]


def test_an_unknown_scope_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nconsortium_scope = function\n")
    pytester.makepyfile("def test_it(consortium): pass")
    done = pytester.runpytest_subprocess()
    assert done.ret != 0
    assert "consortium_scope = function: must be one of session, module" in done.stdout.str() + done.stderr.str()


def test_options_reach_the_consortium(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def consortium_options():
            return {"parties": 1}
        def test_it(consortium): pass
        """
    )
    done = pytester.runpytest_subprocess()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*not a number of parties*", "*found: 1", "*allowed: 2 to 10, or their names"])


def test_a_test_that_needs_no_consortium_makes_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): assert 1 + 1 == 2")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": {"mallory": 1}}, "workers: not a party\n  found: mallory\n  allowed: alice, bob"),
        ({"settings": {"mallory": {}}}, "settings: not a party"),
        ({"datasets": {"mallory": {}}}, "datasets: not a party"),
        ({"parties": 11}, "found: 11"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Consortium(**options)


def test_a_consortium_that_is_not_up_says_so() -> None:
    made = Consortium(["bank", "hospital"])
    with pytest.raises(UsageError, match="not up"):
        _ = made.name
    with pytest.raises(UsageError, match="found: alice\n  allowed: bank, hospital"):
        made.party("alice")


def test_a_job_is_a_folder_or_an_example(tmp_path: Path) -> None:
    assert _folder("jobs/psi").name == "psi"
    with pytest.raises(ConsortiumError, match=r"no job\.yaml(.|\n)*jobs/psi"):
        _folder(tmp_path)


def test_settings_are_merged_map_by_map() -> None:
    old = {"policy": {"default": "person", "rules": [1]}, "workers": 1}
    assert _merged(old, {"policy": {"default": "approve"}}) == {
        "policy": {"default": "approve", "rules": [1]},
        "workers": 1,
    }
