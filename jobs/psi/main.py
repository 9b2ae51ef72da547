"""Private set intersection: each party gets its own rows whose key the other party has too."""

import hashlib
from pathlib import Path

import secretflow as sf

from coordinator.session import session


def link_to(dataset: str, link: str) -> None:
    """PSI writes `<input>.temp.csv` beside its input: give it a place that is not the dataset's folder."""
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    Path(link).symlink_to(dataset)


def remove_links(link: str) -> None:
    """The link and whatever PSI left beside it; the dataset stays."""
    for path in Path(link).parent.glob(f"{Path(link).name}*"):
        path.unlink()


def count_and_digest(path: str, key: str) -> tuple[int, str]:
    """Rows and SHA-256 of the sorted keys, one a line; runs at the owner of the file."""
    import pandas as pd

    keys = sorted(pd.read_csv(path, usecols=[key], dtype=str)[key])
    return len(keys), hashlib.sha256("".join(f"{value}\n" for value in keys).encode()).hexdigest()


with session() as s:
    key = s.parameters["key"]
    names = {"alice": "customers", "bob": "patients"}
    inputs = {party: s.output(party, ".input.csv") for party in s.parties}
    outputs = {party: s.output(party, "intersection.csv") for party in s.parties}
    sf.wait([s.pyu(p)(link_to)(s.dataset(p, names[p]), inputs[p]) for p in s.parties])
    reports = s.spu().psi(
        keys={party: [key] for party in s.parties},
        input_path=inputs,
        output_path=outputs,
        receiver=s.parties[0],
        table_keys_duplicated=dict.fromkeys(s.parties, False),
        broadcast_result=True,
        protocol=s.parameters["protocol"],
    )
    rows = {report["party"]: report["original_count"] for report in reports}
    sf.wait([s.pyu(p)(remove_links)(inputs[p]) for p in s.parties])
    found = sf.reveal([s.pyu(party)(count_and_digest)(outputs[party], key) for party in s.parties])
    if len({tuple(pair) for pair in found}) != 1:
        raise RuntimeError(f"the parties' intersections differ: {dict(zip(s.parties, found, strict=True))}")
    count, digest = found[0]
    s.result({"rows": rows, "intersection": count, "sha256_of_sorted_ids": digest})
