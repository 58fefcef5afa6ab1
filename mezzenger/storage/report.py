"""What a look at a store's files has found."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is damaged."""

    what: str
    problem: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.what} {self.problem}"


def page_findings(pages: Iterable[int], problem: str, meaning: str) -> list[Finding]:
    """Return one finding for each run of pages."""
    return [
        Finding(f"page {first}" if first == last else f"pages {first} to {last}", problem, meaning)
        for first, last in runs(pages)
    ]


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last number of each run of numbers that follow one another."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] + 1 == number:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def summary(findings: Sequence[Finding], most: int = 3) -> str:
    """Return the first findings in a few words."""
    text = "; ".join(map(str, findings[:most]))
    left = len(findings) - most
    return f"{text}; and {left} more" if left > 0 else text
