"""A Kuscia node on a host of `placement: ssh`: what its launcher is told, and its role. Pure."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from consortium.kuscia.image import NODE, wanted_images
from consortium.kuscia.names import node_name
from consortium.kuscia.node_config import API_PORT, KEPT, PATH, PUBLIC_PORT
from consortium.kuscia.objects import DATA_PATH
from consortium.node_paths import KUSCIA_CONFIG, KUSCIA_FOLDER
from consortium.spec import Model

STOP_S = 30


def launcher_view(model: Model) -> dict[str, list[str]]:
    """The variable `kuscia` of the launcher: options and command, ready for a shell.

    KusciaAPI is published on loopback, where the coordinator beside it asks it. ValueError in Ray mode.
    """
    settings = model.kuscia
    if settings is None:
        raise ValueError("only `mode: kuscia` has such a node")
    limits, gateway = model.limits_of("kuscia"), model.settings.gateway
    address = f"[{gateway.bind}]" if ":" in gateway.bind else gateway.bind
    options = [
        f"--hostname={node_name(model.party)}",
        f"--memory={limits.memory_mb}m",
        f"--memory-swap={limits.memory_mb}m",
        f"--cpus={limits.cpus:g}",
        f"--shm-size={limits.shm_mb}m",
        f"--stop-timeout={STOP_S}",
        # The journal has what it says.
        "--log-driver=none",
        *(["--privileged"] if settings.runtime == "runc" else []),
        *(["--cap-add=SYS_PTRACE"] if settings.runtime == "runp" else []),
        f"--publish={address}:{gateway.port}:{PUBLIC_PORT}",
        f"--publish=127.0.0.1:{API_PORT}:{API_PORT}",
        _mount(KUSCIA_CONFIG, PATH, read_only=True),
        *(_mount(KUSCIA_FOLDER / what, path) for what, path in KEPT.items()),
        *(
            _mount(PurePosixPath(dataset.path), f"{DATA_PATH}/{name}.csv", read_only=True)
            for name, dataset in model.settings.datasets.items()
        ),
    ]
    command = [settings.reference, "bin/kuscia", "start", "-c", PATH]
    return {"options": [shlex.quote(option) for option in options], "command": [shlex.quote(word) for word in command]}


def _mount(source: PurePosixPath, target: str, *, read_only: bool = False) -> str:
    """A comma would end a field of the option."""
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    return "--mount=" + ",".join(f'"{field}"' if "," in field else field for field in fields)


def role_variables(model: Model) -> dict[str, str]:
    """What role kuscia is told of the image; nothing in Ray mode."""
    if model.kuscia is None:
        return {}
    wanted = wanted_images(model)[NODE]
    known = wanted.registry
    return {
        "kuscia_image": wanted.reference,
        "kuscia_name": wanted.name,
        "kuscia_archive": str(wanted.archive or ""),
        "kuscia_registry": known.endpoint.partition("/")[0] if known else "",
        "kuscia_registry_user": (known.username or "") if known else "",
    }
