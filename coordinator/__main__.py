"""Command line: `python -m coordinator serve|reload|audit|backup|restore|openapi`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from coordinator.app import Coordinator
from coordinator.audit_command import add_audit, run_audit
from coordinator.backup import backup, restore
from coordinator.config import ConfigError, load_config
from coordinator.context import load_signer, open_context
from coordinator.group_commit import StoreError
from coordinator.logs import configure, last_line
from coordinator.offline import tell
from coordinator.openapi import document
from coordinator.reload_command import ask_to_reload
from coordinator.signing import SigningError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 = well, 1 = the thing checked is not well, 2 = it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m coordinator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the coordinator")
    add_audit(commands)
    again = commands.add_parser("reload", help="have the running coordinator take up its configuration file anew")
    copy = commands.add_parser("backup", help="copy the state while the coordinator runs")
    copy.add_argument("target", type=Path)
    back = commands.add_parser("restore", help="put a backup into an empty state folder")
    back.add_argument("source", type=Path)
    for command in (serve, again, copy, back):
        command.add_argument("--config", type=Path, default=Path("/etc/consortium/coordinator.json"))
    printed = commands.add_parser("openapi", help="print an interface's OpenAPI document; needs no configuration")
    printed.add_argument("interface", choices=["operator", "peer"])
    options = parser.parse_args(arguments)
    try:
        if options.command == "openapi":
            print(document(options.interface), end="")
            return 0
        if options.command == "serve":
            return uvloop.run(_serve(options.config))
        if options.command == "reload":
            return ask_to_reload(options.config)
        if options.command == "audit":
            return run_audit(options)
        config = load_config(options.config)
        signer, verifier = load_signer(config)
        if options.command == "backup":
            label = backup(config, verifier, options.target)
            tell(config.state_dir, "backup", f"the state was copied to {options.target}")
        else:
            label = restore(config, signer, verifier, options.source)
        print(label.model_dump_json(exclude={"bundles"}))
    except (ConfigError, SigningError, StoreError, OSError, ValueError) as e:
        print(last_line(str(e)) if options.command == "serve" else f"coordinator: {e}", file=sys.stderr)
        return 2
    return 0


async def _serve(config: Path) -> int:
    coordinator = Coordinator(open_context(config))
    configure()  # not before: a start that is refused leaves this process's logging as it was
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await coordinator.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, coordinator.reload_soon)
    await ended.wait()
    await coordinator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
