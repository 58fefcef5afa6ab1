"""P2: a server whose disk fails to sync confirms nothing from then on, and says so."""

from pathlib import Path

import pytest

from tests.integration.failing_sync import NO_START, STORES_NO_MORE, FailingSync, cannot_run


@pytest.mark.parametrize(("call", "kind"), [(1, NO_START), (10, STORES_NO_MORE), (15, STORES_NO_MORE)])
def test_nothing_is_confirmed_after_a_failed_sync(tmp_path: Path, call: int, kind: str) -> None:
    """At its start it refuses to start; later it refuses publishes, and what it has confirmed is delivered."""
    reason = cannot_run(tmp_path)
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "round").mkdir()
    result = FailingSync(tmp_path / "round", call).run()
    assert result.problems == []
    assert (result.kind, result.after, result.lost) == (kind, 0, 0)
