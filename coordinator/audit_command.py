"""`python -m coordinator audit verify|compare|export`: on a node, or anywhere with exported files and public keys."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from coordinator.audit_export import write_whole
from coordinator.audit_report import compare_files, verify_files
from coordinator.audit_source import export_of, range_of
from coordinator.config import Config, ConfigError, load_config
from coordinator.context import load_signer
from coordinator.offline import tell
from coordinator.signing import public_key

KEY_HELP = "public key, as PARTY=BASE64; may be repeated"
EXAMPLES = """examples:
  audit verify                                    the own log, on the node
  audit verify alice.jsonl --party-file parties/alice.yaml
  audit compare alice.jsonl bob.jsonl --key alice=… --key bob=…
  audit export alice.jsonl --from 2026-11-01 --to 2026-11-30
exit codes: 0 all is well, 1 a fault or a divergence was found, 2 it could not be looked at"""


def add_audit(commands: Any) -> None:
    """Add the command and its three actions."""
    audit = commands.add_parser(
        "audit",
        help="check, compare or export audit logs",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = audit.add_subparsers(dest="action", required=True)
    verify = actions.add_parser("verify", help="check files, or the own log")
    verify.add_argument("files", nargs="*", type=Path, help="exports; those of one party must join. Default: own log")
    verify.add_argument("--every-signature", action="store_true", help="check each one; some 10,000 a second")
    verify.add_argument("--access-log", nargs="+", type=Path, default=[], help="files to compare with their digests")
    compare = actions.add_parser("compare", help="what two parties' logs must agree on")
    compare.add_argument("files", nargs=2, type=Path, metavar="EXPORT")
    export = actions.add_parser("export", help="write the own log to a file")
    export.add_argument("target", type=Path)
    export.add_argument("--from", dest="start", help="number of a record, or UTC date YYYY-MM-DD")
    export.add_argument("--to", dest="end", help="number of a record, or UTC date; included")
    for action in (verify, compare, export):
        action.add_argument("--config", type=Path, default=Path("/etc/consortium/coordinator.json"))
    for action in (verify, compare):
        action.add_argument("--party-file", type=Path, action="append", default=[], help="holds a public key")
        action.add_argument("--key", action="append", default=[], help=KEY_HELP)


def run_audit(options: argparse.Namespace) -> int:
    """Do it, print JSON. Raises ConfigError, SigningError, StoreError, OSError or ValueError when it cannot be done."""
    if options.action == "export":
        return _export(options)
    if options.action == "compare":
        left, right = options.files
        keys, consortium = _keys(options)
        found = compare_files(left, right, keys, consortium, progress=progress)
        print(json.dumps(found, indent=1))
        return 1 if found["fault"] else 0
    with _own_log(options) as files:
        keys, consortium = _keys(options)
        reports = verify_files(
            files,
            keys,
            consortium=consortium,
            every_signature=options.every_signature,
            access_logs=options.access_log,
            progress=progress,
        )
    for report in reports:
        print(json.dumps(report))
    return 1 if any(r["fault"] for r in reports) else 0


def progress(records: int) -> None:
    """A sign of life for people who check a long log."""
    if records % (1 << 18) == 0:
        print(f"… record {records:,}", file=sys.stderr)


def read_keys(party_files: list[Path], given: list[str]) -> dict[str, str]:
    """Public keys from party files and PARTY=BASE64. Raises ConfigError or SigningError naming what cannot be used."""
    keys = {}
    for path in party_files:
        try:
            document = yaml.safe_load(path.read_text("utf-8"))
            keys[str(document["party"])] = str(document["signing_key"])
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: no party file with `party` and `signing_key`: {e}") from e
    for text in given:
        party, found, key = text.partition("=")
        if not found:
            raise ConfigError(f"--key {text[:80]!r}: must be PARTY=BASE64")
        keys[party] = key
    for party, key in keys.items():
        public_key(key, party)
    return keys


def _keys(options: argparse.Namespace) -> tuple[dict[str, str], str | None]:
    """Keys by party, and the consortium's name where it is known."""
    keys = read_keys(options.party_file, options.key)
    if keys:
        return keys, None
    config, _ = _load(options)
    return load_signer(config)[1].keys, config.consortium


def _load(options: argparse.Namespace) -> tuple[Config, Path]:
    config = load_config(options.config)
    return config, config.state_dir / "coordinator.db"


@contextmanager
def _own_log(options: argparse.Namespace) -> Iterator[list[Path]]:
    """The files given, or an export of the own log made for the check."""
    if options.files:
        yield options.files
        return
    config, state = _load(options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{config.party}.jsonl"
        write_whole(path, export_of(state, load_signer(config)[0], *range_of(state, None, None))[1])
        yield [path]


def _export(options: argparse.Namespace) -> int:
    config, state = _load(options)
    first, last = range_of(state, options.start, options.end)
    _, lines = export_of(state, load_signer(config)[0], first, last)
    digest = write_whole(options.target, lines)
    tell(config.state_dir, "exported", f"records {first} to {last} written to {options.target}")
    print(json.dumps({"file": str(options.target), "first": first, "last": last, "sha256": digest}))
    return 0
