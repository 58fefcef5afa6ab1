"""Histories in which everything breaks, over and over, and nothing that was confirmed is lost.

By hand, for more of them, and to replay one: ``python -m tests.simulation.world 1 50000``.
"""

from collections import Counter
from typing import Final

import pytest

from tests.simulation import report
from tests.simulation.world import simulate

pytestmark = pytest.mark.timeout(600)

SEEDS: Final = 200
MORE: Final = 400
"""Up to this seed one goes on if not everything has happened by then."""
CHUNKS: Final = 4

counted: Counter[str] = Counter()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_confirmed_message_is_lost(chunk: int) -> None:
    """In every history each confirmed message is where it should be, for a reason, and memory stays bounded."""
    for seed in range(1 + chunk, 1 + SEEDS, CHUNKS):
        counted.update(simulate(seed).counted)


def test_everything_has_happened() -> None:
    """The histories above had each kind of fault, and each thing that can become of a message and of a client."""
    assert counted, "to be run after the test above"
    seeds = iter(range(1 + SEEDS, 1 + MORE))
    while report.missing(counted) and (seed := next(seeds, None)):
        counted.update(simulate(seed).counted)
    assert report.missing(counted) == [], report.table(counted)
    assert counted["confirmed"] > 50 * SEEDS


def test_a_seed_replays_its_history() -> None:
    """The same seed gives the same history, line by line; another one does not."""
    story = simulate(7).story
    assert simulate(7).story == story
    assert simulate(8).story != story
