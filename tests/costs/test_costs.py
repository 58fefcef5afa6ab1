"""A message costs as much as it did; an error of a tenth is let pass, for the system decides when threads wake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.costs.figures import PATH, VERSION, read

ROOT = Path(__file__).parent.parent.parent
MOST = 1.1
HINT = f"if that is meant, keep the new figures with python -m tests.costs --update, and commit {PATH.name}"


@pytest.mark.skipif(VERSION not in read(), reason="the figures of this version of Python were not kept")
@pytest.mark.timeout(300)
def test_no_message_costs_more_than_it_did() -> None:
    """The steps for a message, on each thread, have not grown by more than a tenth."""
    # A process of its own: coverage and pytest count, too.
    counted = subprocess.run(
        [sys.executable, "-m", "tests.costs"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=280
    )
    figures: dict[str, float] = json.loads(counted.stdout)
    kept = read()[VERSION]
    assert figures.keys() == kept.keys()
    grown = {work: f"{kept[work]} before, {steps} now" for work, steps in figures.items() if steps > MOST * kept[work]}
    assert not grown, HINT
