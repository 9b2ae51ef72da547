#!/usr/bin/python
"""Ansible module: keep one runit service of a node up, and restart it when told.

A service is baked into the image with a file `down` beside it, so that a fresh node starts nothing before its files
are laid. runit knows it already then, which spares the up to 5 s until runsvdir looks for new services.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_service
short_description: Starts a runit service, restarts it when told, and waits until it has stayed up
options:
  name: {description: The service's folder below /etc/service., type: str, required: true}
  restarted: {description: Whether to restart it even if it is up., type: bool, default: false}
  settle_s: {description: Seconds a started service must have stayed up., type: float, default: 1.0}
  timeout_s: {description: Seconds until a service that does not come up is an error., type: float, default: 10.0}
"""

FOLDER = Path("/etc/service")


def status(name: str) -> str:
    """What `sv status` says: `run: …`, `down: …`, or why it could not be asked."""
    return _sv("status", name)[1]


def is_up(text: str) -> bool:
    return text.startswith("run:")


def bring_up(name: str, *, restart: bool, settle_s: float, timeout_s: float) -> str:
    """Start or restart the service; return its last status, which starts with `run:` when it stayed up."""
    if restart:
        # force-: a service that ignores TERM for the 7 s that sv waits is killed rather than left half configured.
        _sv("force-stop", name)
    _sv("up", name)
    deadline = time.monotonic() + timeout_s
    up_since: float | None = None
    while True:
        text = status(name)
        now = time.monotonic()
        up_since = (up_since or now) if is_up(text) else None
        if (up_since and now - up_since >= settle_s) or now > deadline:
            return text
        time.sleep(0.1)


def _sv(verb: str, name: str) -> tuple[int, str]:
    done = subprocess.run(["sv", verb, str(FOLDER / name)], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "restarted": {"type": "bool", "default": False},
            "settle_s": {"type": "float", "default": 1.0},
            "timeout_s": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    name, restart = module.params["name"], module.params["restarted"]
    down_file = FOLDER / name / "down"
    before = status(name)
    changed = restart or not is_up(before) or down_file.exists()
    if changed and not module.check_mode:
        if not (FOLDER / name).is_dir():
            module.fail_json(msg=f"{FOLDER}/{name} is missing; was the role's install part run on this node?")
        down_file.unlink(missing_ok=True)  # from now on the service also comes up by itself when the node restarts
        after = bring_up(
            name,
            restart=restart and is_up(before),
            settle_s=module.params["settle_s"],
            timeout_s=module.params["timeout_s"],
        )
        if not is_up(after):
            module.fail_json(msg=f"service {name} does not stay up ({after}); see /var/log/consortium/{name}/current")
    module.exit_json(changed=changed, status=before if module.check_mode else status(name))


if __name__ == "__main__":
    main()
