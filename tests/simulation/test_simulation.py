"""Histories in which everything breaks, over and over, and nothing that was confirmed is lost.

By hand, for more of them: ``python -m tests.simulation.world 1 50000``.
"""

from collections import Counter
from typing import Final

import pytest

from mezzenger.broker.intake import Intake
from mezzenger.broker.overflow import Publication
from mezzenger.protocol.commands import Confirm
from tests.simulation.world import simulate

SEEDS: Final = 160
CHUNKS: Final = 4

FAULTS: Final = {
    "callback raises",
    "crash",
    "crash after a commit",
    "crash at an effect",
    "crash before a commit",
    "cut",
    "failed: NotSubscribed",
    "failed: ServerUnreachable",
    "kill a client",
    "load",
    "redelivery handled",
    "slow callback",
    "slow disk",
    "stall",
    "stuck callback",
}
"""What must have happened in some history, or the simulation proves less than it says."""

counted: Counter[str] = Counter()


def simulate_many() -> None:
    for seed in range(1, 10):
        simulate(seed)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_confirmed_message_is_lost(chunk: int) -> None:
    """In every history all confirmed messages are handled, none is stored twice, and memory stays bounded."""
    for seed in range(1 + chunk, 1 + SEEDS, CHUNKS):
        counted.update(simulate(seed).counted)


def test_every_fault_has_happened() -> None:
    """The histories above had each kind of fault, and confirmed messages to lose."""
    assert counted, "to be run after the test above"
    assert FAULTS - counted.keys() == set()
    assert counted["confirmed"] > 100 * SEEDS


def test_a_seed_replays_its_history() -> None:
    """The same seed gives the same history, line by line; another one does not."""
    story = simulate(7).story
    assert simulate(7).story == story
    assert simulate(8).story != story


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that confirms what it has not stored yet is caught, and the error tells how to replay that."""
    store = Intake._store

    def confirm_at_once(intake: Intake, publication: Publication) -> None:
        store(intake, publication)
        intake._answer_client(publication.header.client, Confirm([publication.header.sequence]))

    monkeypatch.setattr(Intake, "_store", confirm_at_once)
    with pytest.raises(AssertionError, match="confirmed and lost") as caught:
        simulate_many()
    assert any(note.startswith("replay with: python -m tests.simulation.world") for note in caught.value.__notes__)
    assert "crash" in capsys.readouterr().out
