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


def tar_with(info: tarfile.TarInfo, content: bytes = b"", form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", form: int = tarfile.PAX_FORMAT) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return tar_with(info, form=form)


def header(kind: bytes, size: bytes = b"00000001000\0") -> bytes:
    """One block of 512 bytes, with a size field of 12."""
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)[:512])
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(records: bytes) -> bytes:
    """A header of type x, as pax writes them, with its records."""
    return header(b"x", b"%011o\0" % len(records)) + records + b"\0" * (-len(records) % 512)


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
    ("unicode", entry("a\u202eb", form=tarfile.GNU_FORMAT), "a path has"),
    ("long", entry("a" * 201), "is an extended header"),
    ("chain of extended headers", extended(b"6 a=b\n") * 900, "is an extended header"),
    ("extended header that takes minutes", extended(b"11 a=" + b"1" * 300_000), "is an extended header"),
    ("long names without end", b"".join([header(b"L"), b"x" * 512] * 900), "is an extended header"),
    ("negative size", header(b"0", b"\xff" * 10 + b"\xfc\0"), "not an uncompressed tar|announced"),
    ("symbolic link", entry("x", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
    ("hard link", entry("x", tarfile.LNKTYPE, "main.py"), "a hard link"),
    ("device", entry("x", tarfile.CHRTYPE), "a device"),
    ("pipe", entry("x", tarfile.FIFOTYPE), "a pipe"),
    ("sparse", entry("x", tarfile.GNUTYPE_SPARSE), "is an extended header"),
    ("too big", b"\0" * (LIMIT + 1), "at most"),
    ("announces gigabytes", announced(8 * 10**9), "not an uncompressed tar|announced"),
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
    ("no date", YAML + "description: 2024-13-77", "month"),
    ("digits", YAML + "max_attempts: " + "9" * 5000, "digits"),
    ("digits of another base", YAML + "description: 0x" + "f" * 20_000, "too long"),
    ("minutes of minutes", YAML + "description: 1" + ":59" * 5000 + ".5", "too large|digits"),
    ("no number", YAML + "parameters: {a: .nan}", "JSON"),
    ("half a character", YAML + 'parameters: {a: "\\ud800"}', "surrogates"),
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
