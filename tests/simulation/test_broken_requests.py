"""A client or broker that breaks a promise about requests is caught by the simulation."""

from typing import Any

import pytest

from mezzenger.broker import requests as broker_requests
from mezzenger.broker.peers import Peer
from mezzenger.protocol import requests as client_requests
from mezzenger.protocol.commands import Outcome
from tests.simulation.test_broken import Break, must_be_noticed


def answer_somebody_else(patch: pytest.MonkeyPatch) -> None:
    answer = broker_requests.Requests._answer

    def to_the_first(self: Any, peer: Peer, request: int, outcome: Outcome) -> None:
        answer(self, peer, min(peer.asking, default=request), outcome)

    patch.setattr(broker_requests.Requests, "_answer", to_the_first)


def keep_what_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker_requests.Requests, "lost", lambda self, peer: None)


def keep_what_has_expired(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker_requests.Requests, "tick", lambda self, now: None)


def ask_the_first(patch: pytest.MonkeyPatch) -> None:
    choose = broker_requests.Requests._choose

    def first(self: Any, peer: Peer, name: str, *, elsewhere: bool) -> Any:
        chosen = choose(self, peer, name, elsewhere=elsewhere)
        return self._routing.responders(name)[0] if isinstance(chosen, Peer) else chosen

    patch.setattr(broker_requests.Requests, "_choose", first)


def run_what_nobody_awaits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_requests.Requests, "begins", lambda self, served, now: True)


def ask_again(patch: pytest.MonkeyPatch) -> None:
    disconnected = client_requests.Requests.disconnected

    def hold(self: Any, reason: str) -> None:
        self._held.update(self._sent)
        self._sent.clear()
        disconnected(self, reason)

    patch.setattr(client_requests.Requests, "disconnected", hold)


def wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_requests.Requests, "disconnected", lambda self, reason: None)


@pytest.mark.parametrize(
    ("break_it", "error", "seed"),
    [
        (answer_somebody_else, "Response", 2),
        (keep_what_is_lost, "is gone", 1),
        (keep_what_has_expired, "kept though its time is over", 57),
        (ask_the_first, "to answer, not|cannot answer", 4),
        (run_what_nobody_awaits, "though nobody awaits it", 8),
        (ask_again, "is run twice|was run|another one's answer", 5),
        (wait_for_ever, "cannot come any more", 2),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_promise_is_noticed(break_it: Break, error: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is caught, in a history that can be replayed."""
    must_be_noticed(break_it, error, seed, monkeypatch)
