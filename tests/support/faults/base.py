"""A planted fault: one replacement in one file, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """``old`` becomes ``new`` in one place of ``file``; ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def plant(self, root: Path) -> None:
        """Changes the copy at ``root``."""
        path = root / self.file
        source = path.read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} must hold its text once, found {source.count(self.old)} times")
        path.write_text(source.replace(self.old, self.new))
