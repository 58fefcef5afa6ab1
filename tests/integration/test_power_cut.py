"""P2: what was confirmed has reached the disk."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.power_cut import cut, mounted, run


def can_mount(folder: Path) -> bool:
    """Whether this machine lets us make and mount a file system."""
    try:
        run("truncate", "-s", "8M", folder / "try.img")
        run("mkfs.ext4", "-q", "-F", folder / "try.img")
        with mounted(folder / "try.img", folder / "try"):
            return True
    except (OSError, subprocess.SubprocessError):
        return False


def test_a_power_cut_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    """Five times under load: every message confirmed before the cut is in what the cut leaves of the disk."""
    if not can_mount(tmp_path):
        pytest.skip("mounting a disk image needs root and loop devices")
    confirmed, lost = cut(tmp_path, 5)
    assert confirmed > 100
    assert lost == 0
