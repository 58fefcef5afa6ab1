"""What the files around the package promise: shipped settings load, versions agree, type ignores give their reason."""

import re
import tokenize
import tomllib
from pathlib import Path
from typing import Final

import pytest

import mezzenger
from mezzenger.settings import Settings

ROOT: Final = Path(__file__).parent.parent

SETTINGS_FILES: Final = [ROOT / "mezzenger.example.yaml", *sorted((ROOT / "config").glob("*.yaml"))]
SOURCE_FOLDERS: Final = ("mezzenger", "tests", "examples", "benchmarks", "typings")

BARE_IGNORE: Final = re.compile(r"#\s*type:\s*ignore(?!\[[a-z-]+)")


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=lambda path: path.name)
def test_shipped_settings_load(path: Path) -> None:
    """Every YAML file that we ship is one that this version accepts."""
    Settings.load(path)


def test_versions_agree() -> None:
    """``mezzenger.__version__`` is the version that is packaged."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert mezzenger.__version__ == project["version"]


def test_every_type_ignore_names_its_error() -> None:
    """No ``type: ignore`` silences more than the error it names."""
    files = [
        file for folder in SOURCE_FOLDERS for file in (ROOT / folder).rglob("*.py*") if file.suffix in {".py", ".pyi"}
    ]
    assert files
    assert [place for file in files for place in bare_ignores(file)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x = 1  # type: ignore", True),
        ("x = 1  #type:ignore # because", True),
        ("x = 1  # type: ignore[assignment]", False),
        ('x = "# type: ignore"', False),
    ],
)
def test_a_bare_type_ignore_is_found(line: str, found: bool, tmp_path: Path) -> None:
    """The search for bare ignores reads comments, and only these."""
    file = tmp_path / "module.py"
    file.write_text(line + "\n", "utf-8")
    assert bare_ignores(file) == ([f"{file}:1"] if found else [])


def bare_ignores(file: Path) -> list[str]:
    """Return where in a file a ``type: ignore`` names no error."""
    with tokenize.open(file) as text:
        tokens = list(tokenize.generate_tokens(text.readline))
    return [
        f"{file}:{token.start[0]}"
        for token in tokens
        if token.type == tokenize.COMMENT and BARE_IGNORE.search(token.string)
    ]
