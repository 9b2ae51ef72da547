"""What apt is told, and how its answers are read. The texts are those of apt 2.6."""

from __future__ import annotations

from consortium import debian

STATUS = """Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u14
Description: GNU C Library
 Version: not this line
 of the description.

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: procps
Status: install ok installed
Version: 2:4.0.2-3
"""

SIMULATION = """Reading package lists...
Inst libproc2-0 (2:4.0.2-3 Debian:12.15/oldstable [amd64])
Inst libc6 [2.36-8] (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []
Inst gcc-12-base:amd64 (12.2.0-14 Debian:12.15/oldstable [amd64])
Conf libproc2-0 (2:4.0.2-3 Debian:12.15/oldstable [amd64])
"""

MADISON = """   libc6 | 2.36-9+deb12u14 | http://mirror.example/debian bookworm/main amd64 Packages
   libc6 | 2.36-9+deb12u14 | http://mirror.example/debian bookworm/main Sources
   libc6 | 2.36-8 | http://mirror.example/debian bookworm/main amd64 Packages
"""


def test_only_what_is_installed_counts() -> None:
    assert debian.installed(STATUS) == {"libc6": "2.36-9+deb12u14", "procps": "2:4.0.2-3"}


def test_a_plan_has_new_and_renewed_packages() -> None:
    assert debian.planned(SIMULATION) == {
        "libproc2-0": "2:4.0.2-3",
        "libc6": "2.36-9+deb12u14",
        "gcc-12-base": "12.2.0-14",
    }


def test_a_version_that_the_mirror_has_not_is_named_with_those_it_has() -> None:
    offer = debian.offered(MADISON)
    assert offer == {"libc6": ["2.36-9+deb12u14", "2.36-8"]}
    assert debian.not_offered({"libc6": "2.36-8"}, offer) == []
    assert debian.not_offered({"libc6": "2.36-7", "runit": "2.1"}, offer) == [
        "libc6: locked 2.36-7, the mirror has 2.36-9+deb12u14, 2.36-8",
        "runit: locked 2.1, the mirror has none",
    ]


def test_packages_that_differ_are_named() -> None:
    assert debian.differing({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == [
        "b: locked 1, found 2",
        "c: locked 1, found none",
        "d: locked not at all, found 1",
    ]


def test_apt_may_take_a_locked_version_and_shuts_out_the_rest_on_demand() -> None:
    pins = debian.preferences({"b": "2", "a": "1:1"}, nothing_else=False)
    assert (
        pins == "Package: a\nPin: version 1:1\nPin-Priority: 1001\n\nPackage: b\nPin: version 2\nPin-Priority: 1001\n"
    )
    assert debian.preferences({"a": "1"}, nothing_else=True).startswith(
        "Package: *\nPin: release *\nPin-Priority: -1\n\n"
    )
