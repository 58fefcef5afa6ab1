"""What holds for all tests."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_HERE: Final = Path(__file__).parent
_COVERED: Final = {_HERE, _HERE / "broker", _HERE / "protocol"}
"""Where the tests of the pure layers are; to measure what the others cover would take them half as long again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage where it must be full."""
    for item in items:
        if item.path.parent not in _COVERED:
            item.add_marker(pytest.mark.no_cover)
