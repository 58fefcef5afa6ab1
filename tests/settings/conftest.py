"""What the tests of settings share: each runs far from the settings of this machine."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, with an empty home and without variables of ours."""
    home = tmp_path / "home"
    home.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setattr("mezzenger.settings.sources._PLACES", ("mezzenger.yaml", "~/.config/mezzenger/mezzenger.yaml"))
    monkeypatch.delenv("MEZZENGER_CONFIG", raising=False)
    return work
