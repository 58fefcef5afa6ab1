"""What the files around the package promise: shipped settings load, and versions agree."""

import tomllib
from pathlib import Path
from typing import Final

import pytest

import mezzenger
from mezzenger.settings import Settings

ROOT: Final = Path(__file__).parent.parent

SETTINGS_FILES: Final = [ROOT / "mezzenger.example.yaml", *sorted((ROOT / "config").glob("*.yaml"))]


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=lambda path: path.name)
def test_shipped_settings_load(path: Path) -> None:
    """Every YAML file that we ship is one that this version accepts."""
    Settings.load(path)


def test_it_says_where_it_runs() -> None:
    """The package is offered for the systems that README names, and for no others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    systems = {text.rpartition(" :: ")[2] for text in project["classifiers"] if text.startswith("Operating System ::")}
    assert systems == {"Linux", "MacOS"}
    assert "server and clients run on Linux and macOS." in (ROOT / "README.md").read_text("utf-8")


def test_versions_agree() -> None:
    """``mezzenger.__version__`` is the version that is packaged."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert mezzenger.__version__ == project["version"]
