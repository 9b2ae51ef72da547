"""Job folders come from strangers: every way out of the folder, into memory or into the parser is closed."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from coordinator_rig import job_folder, tar_of

from coordinator.bundle import MAX_FILES, BundleError, digest, pack, read_folder, read_job_file, unpack

LIMIT = 1_000_000
YAML = "name: probe\nparties: [alice, bob]\n"


def tar_with(info: tarfile.TarInfo, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return tar_with(info)


def announced(size: int) -> bytes:
    """A header that promises more than there is."""
    info = tarfile.TarInfo("big")
    info.size = size
    return info.tobuf() + b"x" * 1024


ATTACKS = [
    ("parent", entry("../evil"), "'..'"),
    ("hidden parent", entry("a/../../evil"), "'..'"),
    ("absolute", entry("/etc/passwd"), "a path has"),
    ("hidden", entry(".ssh/authorized_keys"), "a path has"),
    ("option", entry("-rf"), "a path has"),
    ("newline", entry("a\nb"), "a path has"),
    ("unicode", entry("a\u202eb"), "a path has"),
    ("long", entry("a" * 201), "a path has"),
    ("symbolic link", entry("x", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
    ("hard link", entry("x", tarfile.LNKTYPE, "main.py"), "a hard link"),
    ("device", entry("x", tarfile.CHRTYPE), "a device"),
    ("pipe", entry("x", tarfile.FIFOTYPE), "a pipe"),
    ("sparse", entry("x", tarfile.GNUTYPE_SPARSE), "job folder|unknown kind"),
    ("too big", b"\0" * (LIMIT + 1), "at most"),
    ("announces gigabytes", announced(10**10), "not an uncompressed tar|announced"),
    ("compressed bomb", gzip.compress(tar_of({"main.py": b"\0" * 10_000_000})), "not an uncompressed tar"),
    ("no tar", b"hello" * 300, "not an uncompressed tar"),
    ("empty", tar_of({}), "empty"),
    ("many", tar_of({f"f{n}": "" for n in range(MAX_FILES + 1)}), "more than"),
    ("twice", tar_of({"a": "1"})[:1024] + tar_of({"a": "2"}), "twice"),
]


@pytest.mark.parametrize(("data", "words"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS])
def test_attack_is_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        unpack(data, LIMIT)


DOCUMENTS = [
    ("tag", YAML + "description: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ("bomb", "a: &a [x,x]\nb: [*a,*a]\n" + YAML, "aliases"),
    ("deep", YAML + "parameters: {a: " + "[" * 3000 + "]" * 3000 + "}", "job.yaml"),
    ("misspelt field", YAML + "max_attempt: 2", "max_attempt"),
    ("wrong name", "name: ../x\nparties: [alice, bob]", "name"),
    ("program elsewhere", YAML + "program: ../main.py", "program"),
    ("program missing", YAML + "program: other.py", "other.py"),
    ("one party", "name: probe\nparties: [alice]", "parties"),
    ("not a mapping", "- 1", "document"),
    ("broken", "name: [", "job.yaml"),
    ("latin", b"name: \xff", "job.yaml"),
    ("huge", YAML + "#" * 300_000, "at most"),
]


@pytest.mark.parametrize(("text", "words"), [d[1:] for d in DOCUMENTS], ids=[d[0] for d in DOCUMENTS])
def test_bad_job_file_is_refused_by_field(text: str | bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        read_job_file(unpack(tar_of({"job.yaml": text, "main.py": ""}), LIMIT))


def test_missing_job_file() -> None:
    with pytest.raises(BundleError, match=r"job.yaml is missing; the job folder has \['main.py'\]"):
        read_job_file({"main.py": b""})


def test_digest_does_not_depend_on_order_and_tells_everything_apart() -> None:
    files = unpack(job_folder(["alice", "bob"]), LIMIT)
    assert unpack(pack(files), LIMIT) == files
    assert digest(dict(reversed(files.items()))) == digest(files)
    # the same bytes cut differently
    assert len({digest({"a": b"bc"}), digest({"ab": b"c"}), digest({"a": b"b", "c": b""}), digest({"a": b"bd"})}) == 4


def test_folder_on_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "sub" / "a.py").write_text("1")
    assert read_folder(tmp_path, LIMIT) == {"sub/a.py": b"1"}
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="link"):
        read_folder(tmp_path, LIMIT)
