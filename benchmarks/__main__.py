"""``python -m benchmarks``: see ``--help``."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import page, report
from benchmarks.figures import Results, as_json, from_json
from benchmarks.peers.registry import PEERS
from benchmarks.runner import Runner, Say
from benchmarks.workloads import WORKLOADS

_SMALLEST: Final = 0.01


def main() -> int:
    """Measure or read, then show and write.

    Returns:
        0, or 1 if Mezzenger lost a message or did not work.
    """
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no process is left behind
    if options.read:
        results = from_json(json.loads(options.read.read_text("utf-8")))
    else:
        with _progress() as say:
            runner = Runner(options.rounds, options.seconds, say)
            results = runner.run([WORKLOADS[name] for name in options.only], options.peers)
    report.show(results)
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=1) + "\n", "utf-8")
    if options.page:
        page.write(results, options.page)
    return _complain(results)


def _complain(results: Results) -> int:
    problems = results.problems()
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Mezzenger and its peers at the same work, in turns. Ends with 1 if Mezzenger loses one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"workloads: {', '.join(WORKLOADS)}\n\npeers: {', '.join(PEERS)}",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer does each workload")
    parser.add_argument("--seconds", type=float, default=0.7, help="about how long a round takes")
    parser.add_argument("--only", type=_names(WORKLOADS), default=list(WORKLOADS), metavar="WORKLOAD,...")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), metavar="PEER,...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds")
    parser.add_argument("--page", type=Path, metavar="FILE", help="replace the measured part of this page")
    parser.add_argument("--read", type=Path, metavar="FILE", help="show what --json wrote instead of measuring")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < _SMALLEST:
        parser.error("too small")
    return options


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads a list of such names."""
    names = list(known)

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in names:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are {', '.join(names)}")
        return chosen

    return read


@contextmanager
def _progress() -> Iterator[Say]:
    """Show on stderr what happens: in one line on a terminal, otherwise a line for each workload."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    with console.status("Starting") as status:
        yield status.update


if __name__ == "__main__":
    sys.exit(main())
