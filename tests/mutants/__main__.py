"""Seeds one fault after the other, and shows which test notices it: ``python -m tests.mutants [NAME ...]``."""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.mutants import MUTANTS
from tests.mutants.display import Display
from tests.mutants.mutant import Mutant
from tests.mutants.workshop import Outcome, workshop


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every mutant was caught, as far as its tests can be run here."""
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which mutants; all of them if none is named")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--json", action="store_true", help="print JSON at the end, and nothing else")
    parser.add_argument("--list", action="store_true", help="print what each mutant breaks, and try none")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - by_name.keys())
    if unknown:
        parser.error(f"there is no mutant {', '.join(unknown)}; --list shows all")
    mutants = [by_name[name] for name in dict.fromkeys(options.names)] or list(MUTANTS)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.promise}, {mutant.breaks}")
        return 0
    return try_all(mutants, jobs=max(options.jobs, 1), as_json=options.json)


def try_all(mutants: Sequence[Mutant], *, jobs: int, as_json: bool) -> int:
    """Try mutants and show what comes of each; return the exit status."""
    start = time.monotonic()
    display = Display(max(len(mutant.name) for mutant in mutants), as_json=as_json)
    results = []
    with workshop(jobs) as shop:
        display.say(f"Running the tests of {len(mutants)} mutants without them ...")
        wrong = shop.check(mutants)
        for result in shop.results(mutants, wrong):
            display.show(result)
            results.append(result)
    display.end(results, time.monotonic() - start)
    return int(any(result.outcome in {Outcome.SURVIVED, Outcome.BROKEN} for result in results))


if __name__ == "__main__":
    sys.exit(main())
