"""Debian packages with exact versions: what apt is told so that it takes no other, and what it says back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

DPKG_STATUS = "var/lib/dpkg/status"
"""Where dpkg keeps what is installed, from the root of the system."""

_PLANNED = re.compile(r"^Inst (\S+)(?: \[\S+\])? \((\S+) ", re.MULTILINE)
_NOTHING_ELSE = "Package: *\nPin: release *\nPin-Priority: -1\n"


def preferences(packages: Mapping[str, str], *, nothing_else: bool) -> str:
    """Apt's preferences: of each package its version and no other. `nothing_else` shuts out every other package."""
    pins = [f"Package: {n}\nPin: version {v}\nPin-Priority: 1001\n" for n, v in sorted(packages.items())]
    return "\n".join([*([_NOTHING_ELSE] if nothing_else else []), *pins])


def installed(status: str) -> dict[str, str]:
    """Package → version of everything that dpkg's status file calls installed."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def planned(simulation: str) -> dict[str, str]:
    """Package → version of everything that `apt-get --simulate install` would install."""
    return {name.partition(":")[0]: version for name, version in _PLANNED.findall(simulation)}


def offered(madison: str) -> dict[str, list[str]]:
    """Package → versions that `apt-cache madison` found on the mirror, newest first."""
    found: dict[str, list[str]] = {}
    for line in madison.splitlines():
        name, _, rest = line.partition("|")
        versions = found.setdefault(name.strip(), [])
        if (version := rest.partition("|")[0].strip()) and version not in versions:
            versions.append(version)
    return found


def not_offered(wanted: Mapping[str, str], offer: Mapping[str, Iterable[str]]) -> list[str]:
    """One line for each package whose version the mirror has not, with those it has."""
    return [
        f"{name}: locked {version}, the mirror has {', '.join(offer.get(name, ())) or 'none'}"
        for name, version in sorted(wanted.items())
        if version not in offer.get(name, ())
    ]


def differing(locked: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """One line for each package that is not as locked."""
    return [
        f"{name}: locked {locked.get(name, 'not at all')}, found {found.get(name, 'none')}"
        for name in sorted({*locked, *found})
        if locked.get(name) != found.get(name)
    ]
