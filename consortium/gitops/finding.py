"""What a policy check found: a problem that has the check's name, by which gitops.yaml can except it."""

from __future__ import annotations

from typing import Any

from consortium.errors import Problem


class Finding(Problem):
    """Nothing is wrong as a document, but a bank's audit would not let it pass."""

    def __init__(self, check: str, what: str, **parts: str) -> None:
        super().__init__(what, **parts)
        self.check = check

    def __str__(self) -> str:
        first, _, rest = super().__str__().partition("\n")
        return f"{first} [{self.check}]" + (f"\n{rest}" if rest else "")

    def as_dict(self) -> dict[str, Any]:
        return {"check": self.check, **super().as_dict()}
