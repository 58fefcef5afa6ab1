"""The short form of ``tests/integration/backlog.py``."""

from pathlib import Path

from tests.integration.backlog import run


def test_a_backlog_survives_a_restart(tmp_path: Path) -> None:
    """P2, P8: all of it comes after a restart, nothing of it stays in the file, and it takes little memory."""
    figures = run(50_000, tmp_path)
    assert (figures.lost, figures.left) == (0, 0)
    assert figures.largest < 150
