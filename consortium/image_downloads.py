"""Where a bake gets packages from and whom it trusts for that. Nothing of it stays in the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uv
from docker.types import Mount

from consortium.base_image import SUITE
from consortium.errors import ConsortiumError
from consortium.folders import cache_folder

TOOLS = "/dev/consortium-bake"
"""Where the build container sees its mounts. /dev is in memory there, so not even an empty mount point stays."""


class BakeFailed(ConsortiumError):
    """The node image could not be made; nothing half-made is left."""


@dataclass(frozen=True)
class Downloads:
    """Where packages come from and whom to trust for it; none of it reaches the image."""

    ca_bundle: Path | None = None
    apt_mirror: str | None = None
    pip_index: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        ca_bundle: Path | None = None,
        apt: str | None = None,
        pip: str | None = None,
    ) -> Downloads:
        """Complete the settings by what the caller's environment says about certificates and proxies.

        Raises BakeFailed for a bundle that is not a file.
        """
        names = ("CONSORTIUM_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT")
        bundle = ca_bundle or next((Path(environ[name]) for name in names if environ.get(name)), None)
        if bundle is not None and not bundle.is_file():
            raise BakeFailed(
                "the CA bundle is not a file",
                where="settings.ca_bundle" if ca_bundle else f"one of {', '.join(names)}",
                value=str(bundle),
                fix="name a PEM file, or unset it to use the image's own certificates",
            )
        proxies = {k: v for k, v in environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
        return cls(bundle.resolve() if bundle else None, apt, pip, proxies)


def mounts(folder: Path, downloads: Downloads, preferences: str = "") -> list[Mount]:
    """What the build container sees below TOOLS; `folder` holds files that live as long as the bake.

    `preferences` tells apt which versions it may take (see debian.py).
    """
    cache = cache_folder() / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    conf = folder / "apt"
    conf.mkdir()
    lines = []
    if downloads.apt_mirror:
        lines = [f'Dir::Etc::sourcelist "{TOOLS}/apt/sources.list";', 'Dir::Etc::sourceparts "/dev/null";']
        (conf / "sources.list").write_text(f"deb {downloads.apt_mirror} {SUITE} main\n")
    lines += [f'Acquire::https::CAInfo "{TOOLS}/ca.pem";'] if downloads.ca_bundle else []
    if preferences:
        lines += [f'Dir::Etc::preferences "{TOOLS}/apt/preferences";']
        (conf / "preferences").write_text(preferences)
    (conf / "apt.conf").write_text("\n".join([*lines, ""]))
    found = [
        Mount(f"{TOOLS}/uv", uv.find_uv_bin(), type="bind", read_only=True),
        Mount(f"{TOOLS}/cache", str(cache), type="bind"),
        Mount(f"{TOOLS}/apt", str(conf), type="bind", read_only=True),
    ]
    if downloads.ca_bundle:
        found.append(Mount(f"{TOOLS}/ca.pem", str(downloads.ca_bundle), type="bind", read_only=True))
    return found


def environment(downloads: Downloads) -> dict[str, str]:
    """What the download tools are told during the bake, and only then."""
    found = {
        **downloads.proxies,
        "APT_CONFIG": f"{TOOLS}/apt/apt.conf",
        "DEBIAN_FRONTEND": "noninteractive",
        "UV_CACHE_DIR": f"{TOOLS}/cache",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
    }
    if downloads.ca_bundle:
        found["SSL_CERT_FILE"] = f"{TOOLS}/ca.pem"
    if downloads.pip_index:
        found["UV_DEFAULT_INDEX"] = downloads.pip_index
    return found
