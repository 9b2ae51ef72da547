"""The end of a driver's output, read from Ray's answer piece by piece: a program that prints gigabytes costs no memory.

Ray answers {"logs": "..."}, one JSON string for everything the driver wrote.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import NamedTuple

_HEAD = re.compile(r'\s*\{\s*"logs"\s*:\s*"')
_HEX = "[0-9a-fA-F]"
_FIRST_HALF = f"[dD][89abAB]{_HEX}{{2}}"  # of a character that takes two escapes: they are decoded together
_ESCAPED = re.compile(
    rf"""(?:[^"\\]|\\["\\/bfnrt]|\\u{_FIRST_HALF}(?:\\u{_HEX}{{4}}|(?=[^\\]|\\[^u]))|\\u(?!{_FIRST_HALF}){_HEX}{{4}})*"""
)
_LONGEST_ESCAPE = 12
_HEAD_MOST = 100


class Log(NamedTuple):
    """The last characters of an output that has `total` of them."""

    text: str
    total: int

    def shown(self) -> str:
        """The text; a first line says how much was left out."""
        left_out = self.total - len(self.text)
        return f"[{left_out} characters before this were left out]\n{self.text}" if left_out else self.text

    def since(self, seen: int) -> str:
        """What came after the first `seen` characters, as far as it is kept."""
        return Log(self.text[max(0, len(self.text) - (self.total - seen)) :], self.total - seen).shown()


class LogReader:
    """Takes the bytes of one answer; keeps the last `limit` characters of the output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._raw = ""  # read, not decoded yet
        self._begun, self._ended = False, False
        self._text, self._total = "", 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises ValueError when they are not what Ray answers."""
        self._raw += self._decode.decode(data)
        if not self._begun:
            head = _HEAD.match(self._raw)
            if head is None:
                if len(self._raw) > _HEAD_MOST:
                    raise ValueError(f"not a log: {self._raw[:_HEAD_MOST]!r}")
                return
            self._begun, self._raw = True, self._raw[head.end() :]
        if self._ended:
            return
        whole = _ESCAPED.match(self._raw)
        assert whole is not None  # the pattern matches nothing, too
        piece = json.loads(f'"{whole.group()}"', strict=False)
        self._raw = self._raw[whole.end() :]
        self._ended = self._raw.startswith('"')
        if not self._ended and len(self._raw) > _LONGEST_ESCAPE:
            raise ValueError(f"not a log: {self._raw[:20]!r}")
        self._total += len(piece)
        self._text = (self._text + piece)[-self._limit :]

    def log(self) -> Log:
        """What was read. Raises ValueError when the answer is not whole."""
        if not self._ended:
            raise ValueError("the log ends in the middle")
        # a half without the other is no text
        return Log(self._text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), self._total)
