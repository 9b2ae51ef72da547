"""Text of strangers, made fit to be read."""

from __future__ import annotations


def visible(text: str) -> str:
    """A stranger's text for a person: control characters and invisible ones are spelt out.

    A program could otherwise hide lines from the person who approves it.
    """
    return "".join(c if c in "\n\t" or c.isprintable() else f"<U+{ord(c):04X}>" for c in text)
