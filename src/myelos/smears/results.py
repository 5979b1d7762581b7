"""What a call gives back: the counted smears, their folders, and what was set aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from myelos import counting
from myelos.smears.inputs import SetAside


@dataclass(frozen=True)
class SmearResult:
    """One counted smear and the folder with its report."""

    name: str
    folder: Path
    count: counting.Count
    warnings: tuple[str, ...]
    partial: bool = False

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


@dataclass(frozen=True)
class CountResult:
    """What a call of `count` did; `exit_code` is 3 where inputs were set aside or a result is partial."""

    out: Path
    smears: tuple[SmearResult, ...]
    set_aside: tuple[SetAside, ...] = ()

    @property
    def exit_code(self) -> int:
        return 3 if self.set_aside or any(smear.partial for smear in self.smears) else 0

    @property
    def report(self) -> Path:
        """The page to open first."""
        return self.smears[0].report if self.smears[0].folder == self.out else self.out / "index.html"
