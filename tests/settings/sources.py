"""Writes settings where they are looked for, and reads what is said about them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from mezzenger.errors import ConfigurationError
from mezzenger.settings import Settings

HOST_RULE: Final = "must be a host name or address without scheme and port, such as 10.0.0.5, ::1 or example.org"
DURATION_RULE: Final = "must be a number of seconds, or one with a unit such as 500ms, 30s, 5m, 2h or 1d"
SIZE_RULE: Final = "must be a number of bytes, or one with a unit such as 10kB, 64KiB, 64MiB or 1GiB"


def write(text: str, name: str = "mezzenger.yaml") -> Path:
    """Write a file into the test's folder."""
    path = Path(name)
    path.write_text(text, "utf-8")
    return path


def problems_of_yaml(text: str) -> list[str]:
    """Return what is wrong with the text of a settings file."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(write(text), environ={})
    return caught.value.problems


def problems_of_variables(**variables: str) -> list[str]:
    """Return what is wrong with environment variables; ``MEZZENGER_`` is put before their names."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(environ={f"MEZZENGER_{name}": value for name, value in variables.items()})
    return caught.value.problems


def construct(model: Callable[..., object], **values: object) -> None:
    """Construct settings from what a type checker would refuse."""
    model(**values)
