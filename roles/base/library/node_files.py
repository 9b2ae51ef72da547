#!/usr/bin/python
"""Ansible module: make the files this project manages on a node be exactly the listed ones.

One task instead of a loop of copy tasks: a loop costs one round trip and one Python start for every file and host.
Standard library only, Python 3.9 or newer: it runs with the node's own interpreter.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_files
short_description: Lays a node's managed files, and removes those it laid earlier which are no longer listed
options:
  folders: {description: Folders with mode and owner, type: list, elements: dict, default: []}
  files: {description: Files that anyone may read in a diff., type: list, elements: dict, default: []}
  secret_files: {description: Files whose contents stay out of every output., type: list, elements: dict, default: []}
  manifest: {description: Where the module remembers what it laid., type: path, required: true}
  pending:
    description: Folder with one file per service that is still to be restarted or reloaded; whoever does it removes it.
    type: path
"""

FILE_OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "service": {"type": "str"},
    "on_change": {"type": "str", "choices": ["restart", "reload", "nothing"], "default": "nothing"},
    "secret": {"type": "bool", "default": False},  # the caller sorts by it; here only the list counts
}
FOLDER_OPTIONS = {key: FILE_OPTIONS[key] for key in ("path", "mode", "owner", "group")}
SECRET_OPTIONS = {**FILE_OPTIONS, "content": {"type": "str", "required": True, "no_log": True}}


class Wanted(NamedTuple):
    """One file as it must be; `asks` is what `service` needs when the file changes, None when nothing has to be."""

    path: str
    content: bytes
    mode: int
    uid: int
    gid: int
    service: str | None
    asks: str | None
    secret: bool


class Change(NamedTuple):
    path: str
    service: str | None
    asks: str | None
    diff: dict[str, str]


def resolve(entry: dict[str, Any], *, secret: bool) -> Wanted:
    """Turn module arguments into a Wanted. Raises ValueError naming the file for an unknown user, group or mode."""
    path = entry["path"]
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ValueError(f"{path}: must be an absolute path without '.' and '..'")
    try:
        return Wanted(
            path=path,
            content=entry.get("content", "").encode(),
            mode=int(entry["mode"], 8),
            uid=pwd.getpwnam(entry["owner"]).pw_uid,
            gid=grp.getgrnam(entry["group"]).gr_gid,
            service=entry.get("service"),
            asks=None if entry.get("on_change", "nothing") == "nothing" else entry["on_change"],
            secret=secret,
        )
    except KeyError as missing:
        raise ValueError(f"{path}: {missing.args[0]}; was the role's install part run on this node?") from None
    except ValueError:
        raise ValueError(f"{path}: mode {entry['mode']!r} is not an octal number such as 0640") from None


def observe(path: str) -> tuple[bytes | None, str]:
    """What stands at `path`: its bytes (None when absent or no regular file) and its mode and owner in words."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None, "absent"
    if not stat.S_ISREG(found.st_mode):
        return None, "not a regular file"
    return Path(path).read_bytes(), _attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def compare(wanted: Wanted) -> Change | None:
    """The change that would make the node agree with `wanted`, or None."""
    content, attributes = observe(wanted.path)
    target = _attributes(wanted.mode, wanted.uid, wanted.gid)
    if content == wanted.content and attributes == target:
        return None
    before, after = (_shown(content, wanted.secret), _shown(wanted.content, wanted.secret))
    return Change(
        wanted.path,
        wanted.service,
        wanted.asks,
        {
            "before_header": f"{wanted.path} ({attributes})",
            "after_header": f"{wanted.path} ({target})",
            "before": before,
            "after": after,
        },
    )


def write(wanted: Wanted) -> None:
    """Replace the file in one step: a reader sees the old bytes or the new ones, never less, and never a wider mode.

    The rename is also the event on which Envoy reads its certificates and listeners again.
    """
    folder = Path(wanted.path).parent
    make_folders(folder)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".node_files-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(wanted.content)
            os.fchown(descriptor, wanted.uid, wanted.gid)
            os.fchmod(descriptor, wanted.mode)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(wanted.path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_folders(folder: Path) -> None:
    """Make missing folders 0755 whatever the umask says: the services that read below them are not root."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o755)


def converge_folder(wanted: Wanted, *, check: bool) -> Change | None:
    """Make a folder stand with its mode and owner; what lies in it is not looked at, and it is never removed."""
    # stat, not lstat: Debian makes /etc/service a link to a folder.
    path = Path(wanted.path)
    found = path.stat() if os.path.lexists(path) else None
    if found and not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{wanted.path}: must be a folder; something else stands there")
    before = _attributes(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) if found else "absent"
    target = _attributes(wanted.mode, wanted.uid, wanted.gid)
    if before == target:
        return None
    if not check:
        make_folders(path)
        os.chown(path, wanted.uid, wanted.gid)  # first: chown clears setgid
        path.chmod(wanted.mode)
    return Change(wanted.path, None, None, _header_only(wanted.path, before, target))


def read_manifest(path: str) -> dict[str, list[str | None]]:
    """Path → service and what it needs, of everything laid earlier. Raises ValueError for a damaged manifest."""
    try:
        return dict(json.loads(Path(path).read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a manifest of this module ({error}); remove it and converge again") from None


def converge(wanted: list[Wanted], manifest: str, *, check: bool, pending: str | None = None) -> list[Change]:
    """Lay every file of `wanted`, then remove what the manifest lists besides, and say what changed.

    What the changes ask for is remembered in `pending` before any file is touched: a run that is cut off between a
    file and its service leaves the service to the next one.
    """
    duplicates = sorted({w.path for w in wanted if sum(w.path == other.path for other in wanted) > 1})
    if duplicates:
        raise ValueError(f"listed more than once: {', '.join(duplicates)}")
    known = read_manifest(manifest)
    listed: dict[str, list[str | None]] = {w.path: [w.service, w.asks] for w in wanted}
    if not check:
        # Remembered before anything is written: a run that is cut off leaves no file that nobody would remove.
        _write_manifest(manifest, {**known, **listed})
    found = [(one, change) for one in wanted if (change := compare(one))]
    removed = [Change(path, *known[path], _header_only(path, "managed", "absent")) for path in set(known) - set(listed)]
    changes = [*(change for _, change in found), *sorted(removed)]
    if not check:
        if pending:
            for service, asks in asked(changes, pending).items():
                write(_note(Path(pending) / service, asks.encode()))
        for one, _ in found:
            write(one)
        # Last: what refers to these files has been laid anew by now.
        for change in removed:
            Path(change.path).unlink(missing_ok=True)
        _write_manifest(manifest, listed)
    return changes


def asked(changes: list[Change], pending: str | None = None) -> dict[str, str]:
    """Service → restart or reload, as the changes and earlier runs that were cut off ask for. A restart reloads too."""
    left = [(p.name, p.read_text("utf-8")) for p in Path(pending).glob("[!.]*")] if pending else []
    wishes = [*left, *((c.service, c.asks) for c in changes if c.service and c.asks)]
    return {service: max(asks for s, asks in wishes if s == service) for service, _ in sorted(wishes)}


def _write_manifest(path: str, entries: dict[str, list[str | None]]) -> None:
    content = json.dumps(entries, indent=1, sort_keys=True).encode()
    if observe(path)[0] != content:
        write(_note(Path(path), content))


def _note(path: Path, content: bytes) -> Wanted:
    return Wanted(str(path), content, 0o600, os.geteuid(), os.getegid(), None, None, False)


def _attributes(mode: int, uid: int, gid: int) -> str:
    return f"{mode:04o} {uid}:{gid}"


def _shown(content: bytes | None, secret: bool) -> str:
    if content is None:
        return ""
    if secret:
        return f"(secret of {len(content)} bytes)\n"
    return content.decode(errors="replace")


def _header_only(path: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": f"{path} ({before})", "after_header": f"{path} ({after})", "before": "", "after": ""}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "dict", "default": [], "options": FOLDER_OPTIONS},
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
            "secret_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": SECRET_OPTIONS,
                "no_log": False,  # the entries' contents are; a path in an error message helps
            },
            "manifest": {"type": "path", "required": True},
            "pending": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        wanted = [resolve(f, secret=False) for f in module.params["files"]]
        wanted += [resolve(f, secret=True) for f in module.params["secret_files"]]
        folders = [resolve(f, secret=False) for f in module.params["folders"]]
        changes = [c for c in (converge_folder(f, check=module.check_mode) for f in folders) if c]
        pending = module.params["pending"]
        changes += converge(wanted, module.params["manifest"], check=module.check_mode, pending=pending)
        wishes = asked(changes, pending)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes or wishes),
        paths=[c.path for c in changes],
        restart=sorted(s for s, asks in wishes.items() if asks == "restart"),
        reload=sorted(s for s, asks in wishes.items() if asks == "reload"),
        diff=[c.diff for c in changes] if module._diff else [],
        # Repeating the arguments would put every file into every event.
        invocation={"module_args": {"manifest": module.params["manifest"]}},
    )


if __name__ == "__main__":
    main()
