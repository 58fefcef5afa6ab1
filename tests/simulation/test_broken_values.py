"""A broker or store that breaks a promise about last messages is caught by the simulation."""

from typing import Any

import pytest

from mezzenger.broker.restored import Kept
from mezzenger.broker.retained import LastValues
from mezzenger.storage import changes
from tests.simulation.test_broken import Break, must_be_noticed

pytestmark = pytest.mark.timeout(600)


def give_what_is_pending(patch: pytest.MonkeyPatch) -> None:
    keep = LastValues._keep

    def forget_that(self: LastValues, name: str, kept: Kept, **options: bool) -> bool:
        return keep(self, name, kept._replace(is_pending=False), **options)

    patch.setattr(LastValues, "_keep", forget_that)


def keep_what_was_stored_last(patch: pytest.MonkeyPatch) -> None:
    keep = LastValues._keep

    def in_order_of_commits(self: LastValues, name: str, kept: Kept, **options: bool) -> bool:
        value = self._values.get(name)
        number = kept.number if value is None else max(kept.number, value.last.number)
        return keep(self, name, kept._replace(number=number), **options)

    patch.setattr(LastValues, "_keep", in_order_of_commits)


def write_never(patch: pytest.MonkeyPatch) -> None:
    def forget(self: LastValues, now: float) -> None:
        self._changed.clear()
        self._write_at = None

    patch.setattr(LastValues, "write", forget)


def store_without_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changes, "retain", lambda database, changes, names: 0)


def forget_what_is_due(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: LastValues, found: Any) -> None:
        """Keep nothing that was delayed."""

    patch.setattr(LastValues, "due", nothing)


@pytest.mark.parametrize(
    ("break_it", "error", "seed"),
    [
        (give_what_is_pending, "are the last", 2),
        (keep_what_was_stored_last, "are the last|is not the last", 162),
        (write_never, "not written", 127),
        (store_without_it, "the file has", 2),
        (forget_what_is_due, "is the last message of", 4),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_promise_is_noticed(break_it: Break, error: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is caught, in a history that can be replayed."""
    must_be_noticed(break_it, error, seed, monkeypatch)
