"""Writes the measured part of the page, between its two marks, and the picture beside it."""

import textwrap
from pathlib import Path
from typing import Final

from benchmarks.figures import Results
from benchmarks.peers.registry import PEERS
from benchmarks.picture import draw
from benchmarks.report import machine_line, markdown, sheets

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"

_WIDTH: Final = 120


class NoMarks(ValueError):
    """The page has no place for what was measured."""


def write(results: Results, page: Path) -> None:
    """Replace what stands between the marks, and the picture of the page's name.

    Raises:
        NoMarks: The page lacks them.
    """
    text = page.read_text("utf-8")
    picture = page.with_suffix(".svg")
    page.write_text(replaced(text, measured_part(results, picture.name)), "utf-8")
    picture.write_text(draw(results), "utf-8")


def replaced(text: str, part: str) -> str:
    """Return the page with another part between the marks.

    Raises:
        NoMarks: It lacks them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarks(f"the page must have the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def measured_part(results: Results, picture: str) -> str:
    """Return all that is to stand between the marks."""
    *tables, goals = sheets(results)
    versions = ", ".join(f"{package} {version}" for package, version in results.machine["versions"].items())
    parts = [
        textwrap.fill(f"Measured on: {machine_line(results)}.", _WIDTH),
        textwrap.fill(f"Versions: {versions}.", _WIDTH),
        *(f"{PEERS[peer].title} was not measured." for peer in results.skipped),
        f"![Medians, with the range of all rounds as a line]({picture})",
        "### Goals, and what is reached",
        markdown(goals),
    ]
    for sheet in tables:
        parts += [f"### {sheet.title}", markdown(sheet)]
    return "\n\n".join(parts)
