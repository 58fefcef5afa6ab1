"""That a commit waits for the disk. Whether the disk then has it, ``tests/integration/test_power_cut.py`` tells."""

from pathlib import Path

from tests.storage.driver import know, sqlite, store


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """SQLite was told to sync the log at each commit: 2 is FULL; with less, a power cut takes what was confirmed."""
    with sqlite(tmp_path / "store.db") as driver:
        driver.commit(know(), store(1))
        database = driver.storage._database  # type: ignore[attr-defined]
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
