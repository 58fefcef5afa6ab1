"""The figures to compare with, by version of Python."""

import json
import sys
from pathlib import Path
from typing import Final

PATH: Final = Path(__file__).with_suffix(".json")
VERSION: Final = "{}.{}".format(*sys.version_info)


def read() -> dict[str, dict[str, float]]:
    """Return what was kept."""
    kept: dict[str, dict[str, float]] = json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}
    return kept
