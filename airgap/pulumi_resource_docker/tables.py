"""The tables of all resources, and how docs/airgap.md shows them.

``python -m airgap.pulumi_resource_docker.tables`` writes the document's generated part anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from airgap.pulumi_resource_docker.container_table import CONTAINER
from airgap.pulumi_resource_docker.image import Image
from airgap.pulumi_resource_docker.network import Network
from airgap.pulumi_resource_docker.provider import PROVIDER
from airgap.pulumi_resource_docker.remote_image import RemoteImage
from airgap.pulumi_resource_docker.table import On, Prop, Shape, Table
from airgap.pulumi_resource_docker.volume import Volume

TABLES: dict[str, Table] = {
    "Provider": PROVIDER,
    "Network": Network.table,
    "Volume": Volume.table,
    "RemoteImage": RemoteImage.table,
    "Image": Image.table,
    "Container": CONTAINER,
}
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "airgap.md"


def applied(prop: Prop) -> str:
    """Where a value goes, or what to do instead."""
    paths = ", ".join(f"`{path}`" for path, _ in prop.puts)
    choices = ""
    if prop.allowed and prop.on is not On.REFUSE:
        choices = "one of " + ", ".join(str(choice) for choice in prop.allowed)
    return "; ".join(part for part in (paths, prop.note, choices) if part)


def rows(table: Table, path: str = "", change: str = "") -> Iterator[str]:
    """A line for each property; a nested one changes as the property it is in."""
    for name, prop in table.items():
        how = prop.on.value if prop.on is On.REFUSE else change or prop.on.value
        needed = " (required)" if prop.required else ""
        yield f"| `{path}{name}` | {prop.shape.value}{needed} | {how} | {applied(prop)} |"
        inner = "[]." if prop.shape is Shape.OBJECTS else "."
        yield from rows(prop.fields, f"{path}{name}{inner}", how)


def generated() -> str:
    """The generated part of the document."""
    parts = []
    for name, table in TABLES.items():
        head = "| property | value | a change | applied as |\n|---|---|---|---|"
        parts.append("\n".join([f"### docker.{name}\n", head, *rows(table)]))
    return "\n\n".join(parts)


def document(text: str) -> str:
    """The document with its generated part made anew."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{generated()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
    sys.stdout.write(f"{DOCUMENT}\n")
