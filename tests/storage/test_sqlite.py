"""What a file gives back to the next server."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from mezzenger.broker.effects import Attempt, Change, Forget, Know, Offered, Refusal
from mezzenger.broker.restored import KnownPublisher, Restored, Total
from mezzenger.errors import StorageError
from mezzenger.storage.sqlite import SqliteStorage
from tests.storage.driver import CLIENT, Driver, key_of, know, reopened, settle, sqlite, store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "store.db"


def commit(file: Path, *changes: Change) -> None:
    """Make changes in a store of its own, and close it."""
    with sqlite(file) as driver:
        driver.commit(*changes)


class TestTotals:
    def test_a_new_file_has_nothing(self, file: Path) -> None:
        """Neither when it is made nor when it is opened again."""
        assert reopened(file) == Restored(0, [], [], retained=[])
        assert reopened(file) == Restored(0, [], [], retained=[])

    def test_an_empty_file_is_as_good_as_none(self, file: Path) -> None:
        """Somebody may have made it, for its rights."""
        file.touch()
        commit(file, know(), store(1))
        assert reopened(file).last_number == 1

    def test_of_each_name(self, file: Path) -> None:
        """How many frames wait, and how many bytes they are, after several commits and settles."""
        first, second, other = store(1), store(2, payloads=[b"long" * 100]), store(3, "b", [b"x", b"y"])
        commit(file, know(), first, second)
        commit(file, other, settle(first))
        assert sorted(reopened(file).totals) == [
            Total("a", False, 1, 1, len(second.frame)),
            Total("b", False, 1, 2, len(other.frame)),
        ]

    def test_a_name_without_frames_is_not_among_them(self, file: Path) -> None:
        """Whether all was settled in one commit with the others or later."""
        frames = [store(number, f"name.{number % 10}") for number in range(1, 101)]
        commit(file, know(), *frames)
        commit(file, *(settle(frame) for frame in frames))
        assert reopened(file).totals == []
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("SELECT COUNT(*) FROM name").fetchone() == (0,)
            assert database.execute("SELECT COUNT(*) FROM message").fetchone() == (0,)
        commit(file, store(101, "name.1"))
        assert [total.name for total in reopened(file).totals] == ["name.1"]

    def test_the_last_number_outlives_its_frame(self, file: Path) -> None:
        """No number is ever given twice, for subscribers may acknowledge it late."""
        frame = store(7)
        commit(file, know(), frame)
        commit(file, settle(frame))
        assert reopened(file).last_number == 7


class TestFrames:
    def test_are_read_as_they_were_left(self, file: Path) -> None:
        """Bytes, attempts, what is left of a batch, and what was read before."""
        batch = store(1, payloads=[b"x", b"y"])
        large = store(4, "b", [bytes(2**20)])
        commit(file, know(), batch, store(2), large)
        commit(file, Attempt(1, 3, (1,)))
        with sqlite(file) as driver:
            driver.read(frames=1)
        with sqlite(file) as driver:
            assert [(row.number, row.attempts, row.indexes) for row in driver.read()] == [(1, 3, (1,)), (2, 0, None)]
            assert driver.read("b")[0].frame == large.frame
        with sqlite(file) as driver:
            assert [row.attempts for row in driver.read()] == [3, 1]

    def test_the_mark_outlives_the_server(self, file: Path) -> None:
        """What was delivered as it was stored is marked after a restart; what was taken back is not."""
        commit(file, know(), store(1, is_offered=True), store(2, "b", is_offered=True), Offered("b", 0))
        with sqlite(file) as driver:
            assert [row.attempts for row in driver.read("a")] == [1]
            assert [row.attempts for row in driver.read("b")] == [0]


class TestPublishers:
    @pytest.mark.parametrize("client", [1, 2**63 - 1, 2**63, 2**64 - 1])
    def test_any_client_id(self, file: Path, client: int) -> None:
        """Client ids have 64 bits, SQLite's numbers 63."""
        commit(file, know(client), store(1, client=client, sequence=5), Refusal(client, 3))
        assert reopened(file).publishers == [KnownPublisher(client, key_of(client), 5, frozenset({3}))]

    @pytest.mark.parametrize("sequence", [1, 2**63 - 1, 2**63, 2**64 - 1])
    def test_any_sequence(self, file: Path, sequence: int) -> None:
        """A client chooses its sequences: none of them may harm what others send."""
        commit(file, know(), store(1, sequence=1), store(2, sequence=sequence), store(3, sequence=1))
        commit(file, Refusal(CLIENT, sequence))
        assert reopened(file).publishers == [KnownPublisher(CLIENT, key_of(CLIENT), sequence, frozenset({sequence}))]
        commit(file, Forget(CLIENT, sequence))
        assert reopened(file).publishers[0].refused == {sequence}
        commit(file, Refusal(CLIENT, sequence, is_lifted=True))
        assert reopened(file).publishers[0].refused == frozenset()

    def test_stored_is_the_highest_sequence(self, file: Path) -> None:
        """Also if a lower one, refused before, is stored after it."""
        commit(file, know(), store(1, sequence=8), store(2, sequence=3))
        commit(file, store(3, sequence=4))
        assert reopened(file).publishers[0].stored == 8

    def test_nothing_stored_is_zero(self, file: Path) -> None:
        """A client whose first frames were all refused."""
        commit(file, know(), Refusal(CLIENT, 1), Refusal(CLIENT, 1))
        assert reopened(file).publishers == [KnownPublisher(CLIENT, key_of(CLIENT), 0, frozenset({1}))]

    def test_come_in_the_order_they_were_seen(self, file: Path) -> None:
        """Those seen longest ago first, whatever their ids."""
        commit(file, know(7), store(1, client=7))
        commit(file, know(2**64 - 1), store(2, client=2**64 - 1))
        commit(file, know(3), store(3, client=3))
        assert [known.client for known in reopened(file).publishers] == [7, 2**64 - 1, 3]
        commit(file, know(7))
        assert [known.client for known in reopened(file).publishers] == [2**64 - 1, 3, 7]

    def test_seen_when_something_was_stored(self, file: Path) -> None:
        """A client that stays has said Hello long ago; nothing of it comes without being noted."""
        commit(file, know(7), store(1, client=7))
        commit(file, know(3), store(2, client=3))
        commit(file, store(3, client=7, sequence=2))
        assert [known.client for known in reopened(file).publishers] == [3, 7]

    def test_seen_again_it_keeps_what_was_stored(self, file: Path) -> None:
        """And its key."""
        commit(file, know(), store(1, sequence=5))
        commit(file, Know(CLIENT, b"another key here"))
        assert reopened(file).publishers == [KnownPublisher(CLIENT, key_of(CLIENT), 5, frozenset())]

    def test_a_refusal_is_lifted(self, file: Path) -> None:
        """When the frame is stored after all; the others stay."""
        commit(file, know(), Refusal(CLIENT, 1), Refusal(CLIENT, 2), Refusal(5, 1))
        commit(file, Refusal(CLIENT, 1, is_lifted=True), store(1))
        assert reopened(file).publishers[0].refused == {2}

    def test_forgotten_up_to_a_sequence(self, file: Path) -> None:
        """Refusals below it go, the client stays."""
        commit(file, know(1), know(2), *(Refusal(client, number) for client in (1, 2) for number in range(1, 6)))
        commit(file, Forget(1, before=4))
        first, second = reopened(file).publishers
        assert first.refused == {4, 5}
        assert second.refused == {1, 2, 3, 4, 5}

    def test_forgotten(self, file: Path) -> None:
        """The client goes with its refusals, and may come back as if new; its frames stay."""
        commit(file, know(1), store(1, client=1), Refusal(1, 3), know(2), Refusal(2, 3))
        commit(file, Forget(1))
        restored = reopened(file)
        assert [known.client for known in restored.publishers] == [2]
        assert restored.totals[0].frames == 1
        commit(file, know(1))
        assert KnownPublisher(1, key_of(1), 0, frozenset()) in reopened(file).publishers


class TestRights:
    def test_only_the_owner_may_read(self, file: Path) -> None:
        """Neither the file nor the ones beside it are for others, whatever the umask; messages may be secret."""
        with sqlite(file) as driver:
            driver.commit(know(), store(1))
            files = sorted(file.parent.iterdir())
            assert [path.name for path in files] == ["store.db", "store.db-wal", "store.db.lock", "store.db.seal"]
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


class TestClosing:
    def test_a_closed_store_is_one_file(self, file: Path) -> None:
        """With its lock; all that was committed is in the file itself, which may be copied away."""
        commit(file, know(), store(1))
        assert not file.with_name("store.db-wal").exists()
        copy = file.with_name("copy.db")
        copy.write_bytes(file.read_bytes())
        assert reopened(copy).totals == reopened(file).totals

    def test_a_store_never_opened(self, file: Path) -> None:
        """Says so, and can be closed."""
        with Driver(SqliteStorage(file)) as driver, pytest.raises(StorageError, match="is not open"):
            driver.commit(know())
        assert not file.exists()
