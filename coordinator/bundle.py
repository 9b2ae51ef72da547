"""A job folder as one block of bytes: packed in one way only, unpacked with nothing but regular files inside.

Only uncompressed tar is read, so what arrives is never smaller than what it becomes.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from coordinator.components import Pipeline, problems
from coordinator.config import DatasetName, Model, Party
from coordinator.statements import Priority, ProgramPath, canonical

MAX_FILES = 500
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_PLAIN = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, *_KINDS}
YAML_BYTES = 200_000
JOB_FILE = "job.yaml"


class BundleError(Exception):
    """A job folder is refused; the message names the file, what is wrong and what is allowed."""


class JobFile(Model):
    """job.yaml: what the submitter asks for."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$")]
    """Part of the job's id. Keep it for the same analysis: an approver is shown what changed
    since the last one of this name.
    """
    description: Annotated[str, Field(max_length=2000)] = ""
    """For the people who approve."""
    program: ProgramPath = "main.py"
    """The file to run; in Ray mode only."""
    pipeline: Pipeline | None = None
    """Task → component of SecretFlow with inputs and attributes, in place of a program; in Kuscia mode only."""
    parties: tuple[Party, ...] = Field(min_length=2, max_length=64)
    """Members that take part; the initiator is one of them. No other party hears of the job."""
    datasets: dict[Party, tuple[DatasetName, ...]] = Field({})
    """Party → names of its datasets, as in its party file."""
    parameters: dict[str, JsonValue] = Field({})
    """Anything that JSON can say; the program reads it as `s.parameters`."""
    results: dict[Party, Annotated[str, Field(max_length=500)]] = Field({})
    """Party → in words, what it gets; for the people who approve."""
    max_attempts: int = Field(1, ge=1, le=20)
    """Tries, at most `limits.max_attempts` of consortium.yaml. A failure of the program is not tried again."""
    priority: Priority = 0
    """Among the jobs that wait at one initiator: the higher goes first, then the older."""
    start_within_s: float | None = Field(None, gt=0, le=3e7)
    """A job that has not started by then is given up; null = seven days."""

    @model_validator(mode="after")
    def _program_or_pipeline(self) -> Self:
        if self.pipeline is None:
            return self
        instead = [name for name in ("program", "parameters") if name in self.model_fields_set]
        wrong = [f"{name}: a pipeline has none: its tasks say what runs, and with which attrs" for name in instead]
        if wrong := [*wrong, *problems(self.pipeline, self.parties, self.datasets)]:
            raise ValueError("; ".join(wrong))
        return self


class _PlainEntry(tarfile.TarInfo):
    """A header of a plain tar. Extended headers are refused before tarfile reads them: it spends minutes on some."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile's. Raises BundleError for an extended header."""
        found = super().frombuf(buf, encoding, errors)
        if found.type not in _PLAIN:
            raise BundleError(f"{found.name[:200]!r}: is an extended header; write the tar with --format=ustar")
        return found


class _Loader(yaml.SafeLoader):
    """Plain data only: no tags, no aliases (a few lines of aliases become gigabytes)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise BundleError(f"job.yaml line {event.start_mark.line + 1}: aliases (*{event.anchor}) are not allowed")
        return super().compose_node(parent, index)


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over every (path, bytes) in order of path; lengths before both, so nothing can be shifted."""
    total = hashlib.sha256(b"consortium job folder v1\n")
    for path, content in sorted(files.items()):
        total.update(f"{len(path.encode())}:{path}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def pack(files: Mapping[str, bytes]) -> bytes:
    """The one tar of these files: sorted, no owners, no times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def unpack(data: bytes, limit: int) -> dict[str, bytes]:
    """Files of a tar by path.

    Raises BundleError for more than `limit` bytes, anything but regular files and folders, a path that leaves the
    folder or has unusual characters, a path that comes twice, a compressed or damaged tar.
    """
    if len(data) > limit:
        raise BundleError(f"the job folder takes {len(data)} bytes, at most {limit} are allowed")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", tarinfo=_PlainEntry) as tar:
            for count, member in enumerate(tar):
                if count >= MAX_FILES:
                    raise BundleError(f"the job folder has more than {MAX_FILES} entries")
                if not member.isdir():
                    path, content = _read(tar, member)
                    if path in files:
                        raise BundleError(f"{path}: is in the job folder twice")
                    files[path] = content
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as e:
        raise BundleError(f"the job folder is not an uncompressed tar: {e}") from e
    if not files:
        raise BundleError("the job folder is empty")
    return files


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, bytes]:
    path = member.name.removeprefix("./")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise BundleError(
            f"{path[:200]}: is {_KINDS.get(member.type, 'of an unknown kind')}, only regular files may be there"
        )
    if not _PATH.fullmatch(path) or len(path) > 200:
        raise BundleError(
            f"{path[:200]!r}: a path has letters, digits, '_', '-', '.', begins with none of '-.', has no '..'"
        )
    source = tar.extractfile(member)
    content = source.read() if source else b""
    if len(content) != member.size:
        raise BundleError(f"{path}: {member.size} bytes announced, {len(content)} there")
    return path, content


def read_folder(folder: Path, limit: int) -> dict[str, bytes]:
    """Files of a job folder on disk. Hidden files and `__pycache__` are left out; a symbolic link is refused."""
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") or part == "__pycache__" for part in name.split("/")) or path.is_dir():
            continue
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path}: is no regular file, only regular files may be in a job folder")
        files[name] = path.read_bytes()
    return unpack(pack(files), limit)


def _shown(value: Any) -> str:
    try:
        return str(value)[:100]
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number that is too long"


def read_job_file(files: Mapping[str, bytes]) -> JobFile:
    """Read and check job.yaml. Raises BundleError with every problem of the document."""
    text = files.get("job.yaml")
    if text is None:
        raise BundleError(f"job.yaml is missing; the job folder has {sorted(files)[:20]}")
    if len(text) > YAML_BYTES:
        raise BundleError(f"job.yaml takes {len(text)} bytes, at most {YAML_BYTES} are allowed")
    try:
        raw = yaml.load(text.decode("utf-8"), _Loader)  # noqa: S506 (derives from SafeLoader)
        job = JobFile.model_validate(raw)
        canonical(job.parameters)
    except ValidationError as e:
        problems = [
            f"  {'.'.join(map(str, p['loc'])) or '(document)'}: {p['msg']}; value: {_shown(p['input'])}"
            for p in e.errors(include_url=False)
        ]
        raise BundleError("job.yaml:\n" + "\n".join(problems)) from e
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as e:  # a date or number that cannot be
        raise BundleError(f"job.yaml: {e}") from e
    if job.pipeline is not None:
        if beside := sorted(set(files) - {JOB_FILE}):
            raise BundleError(f"job.yaml: pipeline: only job.yaml reaches the other parties; take away {beside[:20]}")
        return job.model_copy(update={"program": JOB_FILE})
    if job.program not in files:
        raise BundleError(f"job.yaml: program: {job.program!r} is not in the job folder; it has {sorted(files)[:20]}")
    return job
