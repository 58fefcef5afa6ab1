"""What a mutant is."""

from pathlib import Path
from typing import NamedTuple


class DoesNotApplyError(Exception):
    """The text that a mutant replaces is not in its file, or more than once."""


class Mutant(NamedTuple):
    """One fault, and who should notice it."""

    name: str
    promise: str
    """The one of docs/guarantees.md that is broken; ``order`` and ``requests`` for what it says there about these.

    ``kit`` for what docs/testing.md says.
    """
    breaks: str
    """In which way."""
    file: str
    """In ``mezzenger/``."""
    before: str
    """Text that occurs there exactly once."""
    after: str
    tests: tuple[str, ...]
    """Files or node ids in ``tests/``, so few that they take seconds."""

    def mutated(self, text: str) -> str:
        """Return the text of the file with the fault in it.

        Raises:
            DoesNotApplyError: The code has changed; the mutant must be written anew.
        """
        count = text.count(self.before)
        if count != 1:
            raise DoesNotApplyError(f"{self.name}: {self.before!r} occurs {count} times in mezzenger/{self.file}")
        return text.replace(self.before, self.after)

    def node_ids(self) -> list[str]:
        """Return what pytest is to run."""
        return [f"tests/{test}" for test in self.tests]

    def path(self, root: Path) -> Path:
        """Return where the file is in a tree."""
        return root / "mezzenger" / self.file
