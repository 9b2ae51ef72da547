"""Digests of the own gateway's access log, piece by piece, so that the audit log vouches for it.

The gateway writes `access.log` and puts it aside as `access.log.1`, `.2`, …: the inode stays the same. A digested piece
is a file's number (ours, counted up), byte offsets, lines and SHA-256; the newest one, kept as an audit record, says
where to go on. Pure but for reading the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coordinator.audit import Record

KIND = "access-log"
QUIET_S = 5.0  # a file put aside is at its end when nothing was written to it for so long
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of the `file`-th access log. `problem`: what is lost or changed before it, else empty."""

    file: int
    inode: int
    start: int
    end: int
    lines: int
    sha256: str
    problem: str = ""


def new_pieces(path: Path, last: Piece | None, *, now: float | None = None) -> list[Piece]:
    """What has been written since the piece `last`, oldest first. Raises OSError when the log cannot be read."""
    now = time.time() if now is None else now
    present = _files(path)
    problem, start, number = "", 0, 1
    if last is not None:
        at = next((k for k, (inode, _) in enumerate(present) if inode == last.inode), None)
        problem = _problem(last, present[at][1] if at is not None else None)
        if at is not None and not problem:
            present, start, number = present[at:], last.end, last.file
        else:  # inodes are used again, so nobody knows which of these files were digested: all, once more
            number = last.file + 1
    made: list[Piece] = []
    for k, (inode, file) in enumerate(present):
        aside = k < len(present) - 1
        end = file.stat().st_size if aside else _last_line_end(file, start)
        if end > start or problem:
            lines, digest = _digest(file, start, end)
            made.append(Piece(number, inode, start, end, lines, digest, problem))
            problem = ""
        if aside and now - file.stat().st_mtime < QUIET_S:
            break  # the gateway may still write its last lines: come back
        number, start = number + 1, 0
    if problem:  # nothing is there that could carry it
        assert last is not None
        made.append(Piece(last.file, last.inode, last.end, last.end, 0, hashlib.sha256().hexdigest(), problem))
    return made


def _problem(last: Piece, file: Path | None) -> str:
    name = f"access log file {last.file}"
    if file is None:
        return f"{name} is gone; it was digested up to byte {last.end}: what came after is lost"
    if (size := file.stat().st_size) < last.end:
        return f"{name} was cut: it has {size} bytes, {last.end} were digested"
    if _digest(file, last.start, last.end)[1] != last.sha256:
        return f"{name} was changed or replaced: bytes {last.start} to {last.end} are not what was digested"
    return ""


def _files(path: Path) -> list[tuple[int, Path]]:
    """(inode, file), oldest first."""
    aside = [(int(p.name[len(path.name) + 1 :]), p) for p in path.parent.glob(f"{path.name}.*") if _number(path, p)]
    found = [p for _, p in sorted(aside, reverse=True)] + ([path] if path.exists() else [])
    return [(p.stat().st_ino, p) for p in found]


def _number(path: Path, other: Path) -> bool:
    return re.fullmatch(r"\d{1,4}", other.name[len(path.name) + 1 :]) is not None


def _chunks(file: Path, start: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _digest(file: Path, start: int, end: int) -> tuple[int, str]:
    digest, lines = hashlib.sha256(), 0
    for chunk in _chunks(file, start, end):
        digest.update(chunk)
        lines += chunk.count(b"\n")
    return lines, digest.hexdigest()


def _last_line_end(file: Path, start: int) -> int:
    """Offset behind the last whole line; `start` if none was written since."""
    size = file.stat().st_size
    begin = max(start, size - _CHUNK)
    tail = b"".join(_chunks(file, begin, size))
    newline = tail.rfind(b"\n")
    return begin + newline + 1 if newline >= 0 else start


def piece_of(content: dict[str, Any]) -> Piece:
    """The piece an audit record speaks of."""
    fields = ("file", "inode", "start", "end", "lines", "sha256", "problem")
    return Piece(**{f: content[f] for f in fields})


def content_of(piece: Piece) -> dict[str, Any]:
    """The piece as fields of an audit record."""
    return asdict(piece)


def check_access_logs(records: Iterable[Record], files: Sequence[Path]) -> dict[str, Any]:
    """Compare access-log files with the digests in verified audit records; names the first piece that does not fit."""
    pieces: dict[int, list[tuple[int, Piece]]] = {}
    problems: list[str] = []
    for record in records:
        if f'"kind":"{KIND}"' in record.content:
            piece = piece_of(json.loads(record.content))
            pieces.setdefault(piece.file, []).append((record.seq, piece))
            if piece.problem:
                problems.append(f"record {record.seq}: {piece.problem}")
    reports = [_check_file(file, pieces) for file in files]
    fault = next((r["fault"] for r in reports if r["fault"]), "")
    return {"files": reports, "problems": problems, "fault": fault}


def _check_file(file: Path, pieces: dict[int, list[tuple[int, Piece]]]) -> dict[str, Any]:
    size = file.stat().st_size

    def fits(piece: Piece) -> bool:
        return piece.end <= size and _digest(file, piece.start, piece.end)[1] == piece.sha256

    real = {n: [(s, p) for s, p in found if p.end > p.start] for n, found in pieces.items()}
    by_first = (n for n, found in real.items() if found and fits(found[0][1]))
    by_any = (n for n, found in real.items() if any(fits(p) for _, p in found))
    number = next(by_first, None) or next(by_any, None)
    made: dict[str, Any] = {"file": str(file), "number": number, "pieces": 0, "bytes": 0, "fault": ""}
    if number is None:
        return made | {"fault": f"{file}: no piece of it fits any digest in the audit log"}
    for seq, piece in real[number]:
        made |= {"pieces": made["pieces"] + 1, "bytes": max(made["bytes"], piece.end)}
        if not made["fault"] and not fits(piece):
            text = f"bytes {piece.start} to {piece.end} are not what audit record {seq} says of access log {number}"
            made["fault"] = f"{file}: {text}"
    return made | {"not_digested": max(0, size - made["bytes"])}
