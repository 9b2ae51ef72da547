"""What can go wrong between a coordinator and its party's KusciaAPI."""

from __future__ import annotations


class KusciaError(Exception):
    """KusciaAPI did not do as asked; the message names the call."""


class KusciaUnreachable(KusciaError):
    """No answer, or none in time: whether the call was carried out is not known."""


class KusciaForbidden(KusciaError):
    """KusciaAPI knows neither certificate nor token, or the party has no part in what it asked for."""


class KusciaRefused(KusciaError):
    """Answered with an error of its own. `code`: proto/api/v1alpha1/errorcode/error_code.proto of Kuscia."""

    def __init__(self, message: str, code: int, said: str) -> None:
        super().__init__(message)
        self.code, self.said = code, said
