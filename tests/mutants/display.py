"""Shows what comes of mutants: a table in colour on a terminal, plain lines elsewhere, or JSON."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from tests.mutants.workshop import Outcome, Result

_STYLES: Final = {
    Outcome.CAUGHT: "green",
    Outcome.SURVIVED: "bold red",
    Outcome.BROKEN: "bold magenta",
    Outcome.NOT_TRIED: "yellow",
}


class Display:
    """Shows each result as it comes.

    Args:
        width: Of the longest name of a mutant.
        as_json: Show nothing but JSON, at the end.
    """

    def __init__(self, width: int, *, as_json: bool) -> None:
        self._width = width
        self._as_json = as_json
        self._console = Console(highlight=False) if sys.stdout.isatty() else None

    def say(self, text: str) -> None:
        """Show what is going on."""
        if not self._as_json:
            print(text, flush=True)

    def show(self, result: Result) -> None:
        """Show one result."""
        if self._as_json:
            return
        mutant = result.mutant
        name, promise, told = mutant.name.ljust(self._width), mutant.promise.ljust(5), told_of(result)
        if self._console is None:
            print(f"{name}  {promise}  {told}", flush=True)
            return
        line = Text.assemble(name, "  ", (promise, "cyan"), "  ", (told, _STYLES[result.outcome]))
        self._console.print(line)
        if result.outcome in {Outcome.SURVIVED, Outcome.BROKEN}:
            self._console.print(Text(f"    {mutant.breaks} ({mutant.file})", "dim"))

    def end(self, results: Sequence[Result], seconds: float) -> None:
        """Show a summary."""
        if self._as_json:
            print(json.dumps([_as_dict(result) for result in results], indent=2))
            return
        counts = Counter(result.outcome for result in results)
        parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
        print(f"{len(results)} mutants in {seconds:.0f} s: {parts}")


def told_of(result: Result) -> str:
    """Return in one line what came of a mutant."""
    match result.outcome:
        case Outcome.CAUGHT:
            return f"caught by {result.by} in {result.seconds:.1f} s"
        case Outcome.SURVIVED:
            return f"SURVIVED {' '.join(result.mutant.tests)}: {result.mutant.breaks}"
        case outcome:
            return f"{outcome.upper()}: {result.by}"


def _as_dict(result: Result) -> dict[str, object]:
    mutant = result.mutant
    return {
        "name": mutant.name,
        "promise": mutant.promise,
        "breaks": mutant.breaks,
        "file": f"mezzenger/{mutant.file}",
        "outcome": result.outcome,
        "by": result.by,
        "seconds": round(result.seconds, 2),
    }
